"""Protects the profile: what overlaps counts once, parts add up, the run stops, files are there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ppdet.engine.profiling import TABLE, TRACE, Profile, as_text, split
from ppdet.engine.settings import TrainSettings
from tests.engine.toys import make_trainer


def event(category: str, start: float, duration: float) -> dict[str, object]:
    return {"cat": category, "ts": start, "dur": duration}


def test_parts_add_up_and_nested_operators_count_once() -> None:
    events = [event("Operator", 0, 4000), event("Operator", 1000, 1000), event("Operator", 5000, 1000)]
    table = split([*events, event("UserDefined", 0, 9000)], 2, data_time=0.002, time=0.010)
    assert table == {
        "step_ms": 5.0,
        "data_ms": 1.0,
        "kernels_ms": 2.5,
        "host_ms": 1.5,
        "operators": 1.5,
        "kernels": None,
    }
    on_gpu = split([*events, event("Kernel", 0, 3000)], 1, data_time=0.0, time=0.010)
    assert (on_gpu["kernels_ms"], on_gpu["kernels"], on_gpu["operators"]) == (3.0, 1.0, 3.0)
    assert "kernels        -" in as_text(table).splitlines()


def test_profiles_and_stops(tmp_path: Path) -> None:
    trainer = make_trainer(
        settings=TrainSettings(epochs=50), hooks=[Profile(tmp_path / "profile", first=3, steps=4)]
    )
    report = trainer.train()
    assert report.progress.step == 7
    assert report.stopped == "profiled 4 steps"
    table = json.loads((tmp_path / "profile" / TABLE).read_text())
    assert table["operators"] > 20
    assert table["step_ms"] > table["kernels_ms"] > 0
    assert table["step_ms"] == pytest.approx(table["data_ms"] + table["kernels_ms"] + table["host_ms"])
    assert (tmp_path / "profile" / TRACE).stat().st_size > 1000


def test_short_run_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_trainer(settings=TrainSettings(epochs=1), hooks=[Profile(tmp_path, first=2)]).train()
    assert "before the profile was complete" in caplog.text
