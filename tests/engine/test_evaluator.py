"""Protects scoring over a loader and the speed protocol: every image once, warm-up aside, stages apart."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from ppdet.engine.evaluator import Stage, evaluate, evaluate_single
from ppdet.structures import Detections
from tests.engine.toys import ToyLoader


class Counter:
    """A metric that remembers which images it saw."""

    def __init__(self) -> None:
        self.seen: list[int] = [-1]

    def update(self, detections: Iterable[Detections]) -> None:
        self.seen += [d.image_id for d in detections]

    def reset(self) -> None:
        self.seen = []

    def compute(self) -> dict[str, dict[str, float]]:
        return {"bbox": {"AP": float(len(self.seen))}}


def nothing(image_id: int) -> Detections:
    return Detections(image_id, np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


def test_every_image_is_scored_once_and_the_metric_starts_empty() -> None:
    metric = Counter()
    found = evaluate(lambda batch: [nothing(i) for i in batch.image_ids], ToyLoader(batches=3), metric)
    assert found == {"bbox": {"AP": 6.0}}
    assert len(set(metric.seen)) == 6


def test_stages_are_timed_apart_and_warm_up_is_not_scored_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    metric = Counter()
    metric.reset()
    calls: list[int] = []

    def read(item: int) -> int:
        calls.append(item)
        now[0] += 0.002 if len(calls) > 2 else 5.0  # the first ones are slow
        return item

    def forward(item: int) -> int:
        now[0] += 0.006 + 0.002 * item
        return item

    stages = [
        Stage("read", read),
        Stage("forward", forward, on_device=True),
        Stage("post", lambda item: [nothing(item)]),
    ]
    report = evaluate_single(range(4), stages, metric, warm_up=2).to_dict()
    assert calls == [0, 1, 0, 1, 2, 3]
    assert metric.seen == [0, 1, 2, 3]
    assert report["split_ms"] == {
        "read": pytest.approx({"mean": 2, "p50": 2, "p95": 2}),
        "forward": pytest.approx({"mean": 9, "p50": 9, "p95": 11.7}),
        "post": pytest.approx({"mean": 0, "p50": 0, "p95": 0}),
    }
    assert report["fps"] == pytest.approx(1000 / 11)
    assert report["total_ms"] == pytest.approx({"mean": 11, "p50": 11, "p95": 13.7})
    assert report["images"] == 4
    assert report["hardware"]["cores"] >= 1
    assert set(report["versions"]) >= {"paddle", "numpy", "python", "ppdet"}
    json.dumps(report)


def test_no_images_is_zero_not_a_crash() -> None:
    report: dict[str, Any] = evaluate_single([], [Stage("read", lambda item: item)]).to_dict()
    assert (report["fps"], report["images"]) == (0.0, 0)
