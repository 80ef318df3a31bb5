"""Protects VOC's mAP: both averages against slow code, difficult objects, double finds, empty cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppdet.data.ground_truth import truth_of_samples
from ppdet.metrics.voc import VocMetric
from ppdet.structures import Categories, Detections, Sample, Target
from ppdet.utils.errors import DataError
from tests.oracles.voc import average_precision

CATS = Categories(("cat", "dog"), (1, 2))


def sample(image_id: int, boxes: Any, labels: Any, difficult: Any = None) -> Sample:
    count = len(labels)
    return Sample(
        image_id=image_id,
        path=f"{image_id}.jpg",
        target=Target(
            boxes=np.array(boxes, np.float32).reshape(count, 4),
            labels=np.array(labels, np.int64),
            is_crowd=np.zeros(count, bool),
            difficult=None if difficult is None else np.array(difficult, bool),
        ),
    )


def found(image_id: int, boxes: Any, labels: Any, scores: Any) -> Detections:
    return Detections(
        image_id,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(labels, np.int64),
    )


def voc_metric(samples: list[Sample], categories: Categories, **options: Any) -> VocMetric:
    """A metric on the ground truth of some samples."""
    return VocMetric(truth=truth_of_samples(samples, categories, source="samples"), **options)


A, B = [0, 0, 10, 10], [20, 20, 40, 40]


@pytest.mark.parametrize(
    ("map_type", "ap"), [("11point", (6 + 5 * 2 / 3) / 11), ("integral", 0.5 + 0.5 * 2 / 3)]
)
def test_by_hand(map_type: Any, ap: float) -> None:
    metric = voc_metric([sample(1, [A, B], [0, 0])], CATS, map_type=map_type)
    metric.update([found(1, [A, A, B], [0, 0, 0], [0.9, 0.8, 0.7])])  # the second find of A is wrong
    assert metric.compute() == {"bbox": {"mAP": pytest.approx(ap)}}
    assert metric.classwise() == {"bbox": {"cat": pytest.approx(ap), "dog": None}}


def test_difficult_counts_neither_way() -> None:
    metric = voc_metric([sample(1, [A, B], [0, 0], [True, False])], CATS)
    metric.update([found(1, [A, A, B], [0, 0, 0], [0.9, 0.8, 0.7])])
    assert metric.compute()["bbox"]["mAP"] == pytest.approx(1.0)


def test_overlap_must_exceed_the_threshold() -> None:
    metric = voc_metric([sample(1, [[0, 0, 10, 10]], [0])], CATS)
    metric.update([found(1, [[0, 0, 10, 5]], [0], [0.9])])
    assert metric.compute()["bbox"]["mAP"] == 0.0


def test_nothing_found_and_nothing_there() -> None:
    metric = voc_metric([sample(1, [A], [0])], CATS)
    assert metric.compute()["bbox"]["mAP"] == 0.0
    metric.update([found(1, [], [], [])])
    assert metric.compute()["bbox"]["mAP"] == 0.0
    assert metric.results() == []
    assert voc_metric([sample(1, [], [])], CATS).compute()["bbox"]["mAP"] == -1.0


def test_thirds_and_tenths_are_exact() -> None:
    """3 of 10 objects found is recall 0.3, whatever 3 / 10 and 0.1 * 3 are in binary."""
    boxes = [[i * 20, 0, i * 20 + 10, 10] for i in range(10)]
    metric = voc_metric([sample(1, boxes, [0] * 10)], CATS)
    metric.update([found(1, boxes[:3], [0] * 3, [0.9, 0.8, 0.7])])
    assert metric.compute()["bbox"]["mAP"] == pytest.approx(4 / 11)


def test_bad_input_is_named() -> None:
    with pytest.raises(DataError, match=r"7\.jpg"):
        voc_metric([Sample(image_id=7, path="7.jpg")], CATS)


def boxes_of(rng: np.random.Generator, count: int) -> np.ndarray:
    corner = rng.integers(0, 6, (count, 2))
    return np.concatenate([corner, corner + rng.integers(1, 6, (count, 2))], axis=1).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["11point", "integral"]))
def test_against_slow_code(seed: int, map_type: Any) -> None:
    rng = np.random.default_rng(seed)
    samples, detections = [], []
    for image_id in range(int(rng.integers(1, 4))):
        objects, finds = (int(n) for n in rng.integers(0, 6, 2))
        samples.append(
            sample(image_id, boxes_of(rng, objects), rng.integers(0, 2, objects), rng.random(objects) < 0.3)
        )
        # distinct scores: the order of equal ones is nobody's business
        scores = image_id / 10 + rng.permutation(finds) / 1000
        detections.append(found(image_id, boxes_of(rng, finds), rng.integers(0, 2, finds), scores))
    metric = voc_metric(samples, CATS, map_type=map_type)
    metric.update(detections)
    value = metric.compute()["bbox"]["mAP"]
    expected = []
    for label, name in enumerate(CATS.names):
        truth = [
            (s.image_id, box, bool(hard))
            for s in samples
            for box, kind, hard in zip(s.target.boxes, s.target.labels, s.target.difficult)  # type: ignore
            if kind == label
        ]
        finds_ = [
            (d.image_id, float(score), box)
            for d in detections
            for box, score, kind in zip(d.boxes, d.scores, d.labels)
            if kind == label
        ]
        ap = average_precision(truth, finds_, map_type)
        assert metric.classwise()["bbox"][name] == (None if ap is None else pytest.approx(ap, abs=1e-12))
        expected += [] if ap is None else [ap]
    assert value == pytest.approx(np.mean(expected) if expected else -1.0, abs=1e-12)
