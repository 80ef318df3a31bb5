"""Protects the page of a training: what it reads, the advice it gives and when, and how it is written."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from ppdet.cli import main
from ppdet.report.hook import TrainingReport
from ppdet.report.page import ReportError
from ppdet.report.runs import read_run
from ppdet.report.training import spread, training_page, write_training_report
from ppdet.report.training_advice import training_advice
from tests.report.folders import data_of, write_run


def test_page_shows_the_run(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "my_run", validation_loss=lambda step: 1.0)
    html = training_page(read_run(folder))
    data = data_of(html)
    charts = {chart["id"]: chart for chart in data["charts"]}
    assert set(charts) == {"loss", "score-bbox", "score-loss", "rate", "norm", "time", "speed", "memory"}
    assert charts["loss"]["x"] == list(range(5, 201, 5))
    assert [one["label"] for one in charts["loss"]["series"]] == ["loss", "loss_cls", "loss_box"]
    assert charts["score-bbox"]["x"] == [40, 80, 120, 160, 200]
    assert [one["label"] for one in charts["score-bbox"]["series"]] == ["AP", "AP50"], "APs has no objects"
    assert data["best"]["step"] == 200 and data["steps_per_epoch"] == 50
    assert [moment["step"] for moment in data["pictures"]] == [40, 80, 120, 160, 200]
    assert data["pictures"][0]["images"][0][1].startswith("data:image/jpeg;base64,")
    assert "The training is complete" in html and "a &lt;b&gt;.yml" in html
    assert "3 boxes &lt;outside&gt; their image" in html and "base_lr: 0.01" in html


def test_a_run_in_progress_and_its_torn_last_line(tmp_path: Path) -> None:
    folder = write_run(tmp_path, steps=60, last_step=500)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "step": 65, "los')
    (folder / "run.json").unlink()
    run = read_run(folder)
    assert (run.step, run.last_step) == (60, 500), "from the time left, without run.json"
    assert "60 of 500 steps are done" in training_page(run)


def test_a_run_without_evaluations_or_logs(tmp_path: Path) -> None:
    folder = write_run(tmp_path, steps=30)
    assert "There was no evaluation" in training_page(read_run(folder))
    (folder / "metrics.jsonl").write_text("")
    assert "0 of 30 steps are done" in training_page(read_run(folder))


def falling(step: int) -> float:
    return 2 * math.exp(-step / 80) + 0.3


def spiky(step: int) -> float:
    return falling(step) * (5 if step in (100, 160) else 1)


FAULTS: dict[str, tuple[str, dict[str, object]]] = {
    "flat": ("does not fall", {"loss": lambda step: 2.0}),
    "spikes": ("loss jumps", {"loss": spiky}),
    "overfitting": ("overfits", {"validation_loss": lambda step: 1 + abs(step - 80) / 200}),
    "data": ("waits for data", {"data_share": 0.5}),
    "rising": ("still improving", {"ap": lambda step: step / 400}),
    "nothing": ("Nothing is detected", {"ap": lambda step: 0.0}),
    "nan": ("not finite", {"loss": lambda step: float("nan") if step == 50 else falling(step)}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_advice_where_the_numbers_warrant_it(tmp_path: Path, name: str) -> None:
    message, how = FAULTS[name]
    run = read_run(write_run(tmp_path, **how))  # type: ignore[arg-type]
    (item,) = training_advice(run)
    assert message in item.text and any(character.isdigit() for character in item.evidence)
    assert message in training_page(run)


@pytest.mark.parametrize("validation", [None, falling])
def test_no_advice_about_a_good_run(tmp_path: Path, validation: Callable[[int], float] | None) -> None:
    assert training_advice(read_run(write_run(tmp_path, validation_loss=validation))) == []


def test_spread_keeps_both_ends() -> None:
    assert spread(5, 10) == [0, 1, 2, 3, 4]
    assert spread(1000, 4) == [0, 333, 666, 999]


def test_command_and_hook_write_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run")
    assert main(["report", str(folder)]) == 0
    assert str(folder / "report.html") in capsys.readouterr().out
    (folder / "report.html").unlink()
    hook = TrainingReport(folder)
    hook.after_evaluation(None, {})  # type: ignore[arg-type]
    assert "<h1>run</h1>" in (folder / "report.html").read_text("utf-8")
    assert write_training_report(folder, tmp_path / "elsewhere.html").name == "elsewhere.html"
    assert not list(folder.glob(".*.tmp"))


def test_a_report_that_fails_does_not_end_the_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    TrainingReport(tmp_path / "gone").after_train(None)  # type: ignore[arg-type]
    assert "no report" in caplog.text
    with pytest.raises(ReportError, match=r"expected the folder of a training"):
        read_run(tmp_path)


def test_best_follows_the_settings(tmp_path: Path) -> None:
    folder = write_run(tmp_path, validation_loss=lambda step: 1 + abs(step - 80))
    facts = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**facts, "best_metric": "loss.loss", "best_is": "min"}))
    assert read_run(folder).best() == (80, 1.0)
