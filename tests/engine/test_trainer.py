"""Protects the loop: what is trained, when it logs, saves, evaluates and stops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from ppdet.engine.checkpoint import RunFolder
from ppdet.engine.console import JsonLines, ProgressBar
from ppdet.engine.hooks import Hook
from ppdet.engine.settings import TrainingError, TrainSettings
from tests.engine.toys import ToyDetector, ToyLoader, assert_same, make_trainer, weights_of


class Recorder(Hook):
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.logs: list[Any] = []

    def before_train(self, trainer: Any) -> None:
        self.calls.append("before_train")

    def after_step(self, trainer: Any) -> None:
        self.calls.append("step")

    def after_log(self, trainer: Any, log: Any) -> None:
        self.calls.append("log")
        self.logs.append(log)

    def after_evaluation(self, trainer: Any, metrics: Any) -> None:
        self.calls.append(f"eval {metrics['bbox']['AP']}")

    def after_save(self, trainer: Any, path: Path) -> None:
        self.calls.append(f"save {path.name}")

    def after_train(self, trainer: Any) -> None:
        self.calls.append("after_train")


class Scores:
    """An evaluation that gives prepared values."""

    def __init__(self, *values: float) -> None:
        self._values = list(values)

    def __call__(self) -> dict[str, dict[str, float]]:
        return {"bbox": {"AP": self._values.pop(0), "AP50": 0.5}}


def test_loss_falls_and_only_trainable_parameters_move() -> None:
    recorder = Recorder()
    trainer = make_trainer(settings=TrainSettings(epochs=20, log_iter=5), hooks=[recorder])
    before = weights_of(trainer)
    report = trainer.train()
    after = weights_of(trainer)
    assert report.progress.step == 100
    assert report.stopped is None
    assert recorder.logs[-1].losses["loss"] < 0.7 * recorder.logs[0].losses["loss"]
    assert {k for k in before if (before[k] == after[k]).all()} == {"frozen.weight", "frozen.bias"}


def test_order_of_events(tmp_path: Path) -> None:
    recorder = Recorder()
    trainer = make_trainer(
        settings=TrainSettings(epochs=2, log_iter=4),
        folder=RunFolder(tmp_path),
        evaluate=Scores(0.2, 0.1),
        hooks=[recorder],
    )
    report = trainer.train()
    assert recorder.calls == [
        "before_train",
        *(["step"] * 4 + ["log", "step", "log", "save 0", "eval 0.2"]),
        *(["step"] * 3 + ["log", "step", "step", "log", "save model_final", "eval 0.1"]),
        "after_train",
    ]
    assert (report.progress.best, report.progress.best_step, report.progress.since_best) == (0.2, 5, 1)
    assert report.metrics == {"bbox": {"AP": 0.1, "AP50": 0.5}}


def test_logged_numbers_are_means_of_the_steps_since_the_last_log() -> None:
    model = ToyDetector(noise=False)
    recorder, every = Recorder(), Recorder()
    for hook, log_iter in ((recorder, 5), (every, 1)):
        paddle.seed(1)
        trainer = make_trainer(
            model=ToyDetector(noise=False), settings=TrainSettings(epochs=1, log_iter=log_iter), hooks=[hook]
        )
        trainer.model.set_state_dict(model.state_dict())
        trainer.train()
    assert len(recorder.logs) == 1
    for name, value in recorder.logs[0].losses.items():
        assert value == pytest.approx(np.mean([log.losses[name] for log in every.logs]), rel=1e-5)
    assert recorder.logs[0].losses["loss"] == pytest.approx(
        recorder.logs[0].losses["loss_box"] + recorder.logs[0].losses["loss_score"], rel=1e-5
    )
    assert [log.learning_rate for log in every.logs] == pytest.approx(
        [0.1 / 3, 0.1 / 3 + 0.2 / 9, 0.1 / 3 + 0.4 / 9, 0.1, 0.1]
    )
    assert every.logs[-1].eta == 0
    assert every.logs[0].memory > 2**20


@pytest.mark.parametrize(("max_iters", "steps", "epoch"), [(3, 3, 0), (7, 7, 1), (99, 10, 2)])
def test_max_iters(max_iters: int, steps: int, epoch: int, tmp_path: Path) -> None:
    trainer = make_trainer(settings=TrainSettings(epochs=2, max_iters=max_iters), folder=RunFolder(tmp_path))
    progress = trainer.train().progress
    assert (progress.step, progress.epoch) == (steps, epoch)
    assert (tmp_path / "model_final.pdparams").exists()


def test_the_loader_is_told_every_epoch() -> None:
    loader = ToyLoader(batches=3)
    make_trainer(loader=loader).train()
    assert loader.seen == [(e, b) for e in range(2) for b in range(3)]


def test_the_model_learns_of_every_epoch_after_a_resume_too(tmp_path: Path) -> None:
    first = make_trainer(
        settings=TrainSettings(epochs=3, max_iters=7), loader=ToyLoader(batches=3), folder=RunFolder(tmp_path)
    )
    first.train()
    assert first.model.epochs == [0, 1, 2]
    second = make_trainer(
        settings=TrainSettings(epochs=4), loader=ToyLoader(batches=3), folder=RunFolder(tmp_path)
    )
    second.resume("auto")
    second.train()
    assert second.model.epochs == [2, 3]


def test_snapshots_and_evaluations_by_step(tmp_path: Path) -> None:
    recorder = Recorder()
    make_trainer(
        settings=TrainSettings(epochs=2, log_iter=99, snapshot_epoch=5, snapshot_iter=4, eval_iter=3),
        folder=RunFolder(tmp_path),
        evaluate=Scores(1, 2, 3, 4),
        hooks=[recorder],
    ).train()
    assert [c for c in recorder.calls if "save" in c or "eval" in c] == [
        "eval 1",
        "save iter_4",
        "eval 2",
        "save iter_8",
        "eval 3",
        "save model_final",
        "eval 4",
    ]


def test_early_stop_is_final(tmp_path: Path) -> None:
    trainer = make_trainer(
        settings=TrainSettings(epochs=9, patience=2), folder=RunFolder(tmp_path), evaluate=Scores(3, 4, 2, 4)
    )
    report = trainer.train()
    assert report.progress.epoch == 4
    assert report.stopped == "bbox.AP has not improved in 2 evaluations"
    assert (tmp_path / "model_final.pdopt").exists()


def test_best_by_another_number_and_less_is_better(tmp_path: Path) -> None:
    report = make_trainer(
        settings=TrainSettings(epochs=3, best_metric="bbox.AP", best_is="min"),
        folder=RunFolder(tmp_path),
        evaluate=Scores(3, 2, 4),
    ).train()
    assert (report.progress.best, report.progress.best_step) == (2, 10)


def test_seed_decides_and_interruptions_do_not() -> None:
    def noisy_evaluation() -> Any:
        paddle.rand([7])
        return {"bbox": {"AP": 0.0}}

    plain, again = make_trainer(), make_trainer(evaluate=noisy_evaluation)
    other = make_trainer(settings=TrainSettings(epochs=2, log_iter=2, seed=1))
    for trainer in (plain, again, other):
        trainer.train()
    assert_same(weights_of(plain), weights_of(again))
    assert any((weights_of(plain)[k] != v).any() for k, v in weights_of(other).items())


def test_json_lines_and_bar(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="ppdet"):
        make_trainer(
            hooks=[JsonLines(tmp_path), ProgressBar()], evaluate=Scores(0.1, 0.2), folder=RunFolder(tmp_path)
        ).train()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(r["kind"], r["step"]) for r in rows if r["kind"] == "train"] == [
        ("train", s) for s in (2, 4, 5, 6, 8, 10)
    ]
    assert [r["bbox"]["AP"] for r in rows if r["kind"] == "eval"] == [0.1, 0.2]
    assert set(rows[0]) >= {"losses", "learning_rate", "data_time", "batch_time", "eta", "memory"}
    assert "step 10/10 loss_box" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [({"epochs": 0}, "epochs 0"), ({"max_iters": 0}, "max_iters 0"), ({"log_iter": 0}, "log_iter 0")],
)
def test_settings_are_checked(arguments: dict[str, int], text: str) -> None:
    with pytest.raises(TrainingError, match=text):
        TrainSettings(**arguments)  # type: ignore[arg-type]  # a table of keyword arguments


def test_evaluation_that_is_made_up_is_logged_once(tmp_path: Path) -> None:
    """Killed between an evaluation and the note in the ledger: it is done, and logged, again."""

    class Kill(BaseException):
        pass

    class KillAfterEvaluation(Hook):
        def after_evaluation(self, trainer: Any, metrics: Any) -> None:
            raise Kill

    hooks = [JsonLines(tmp_path), KillAfterEvaluation()]
    with pytest.raises(Kill):
        make_trainer(hooks=hooks, evaluate=Scores(0.1), folder=RunFolder(tmp_path)).train()
    again = make_trainer(hooks=hooks[:1], evaluate=Scores(0.1, 0.2), folder=RunFolder(tmp_path))
    again.resume("auto")
    again.train()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows if r["kind"] == "eval"] == [5, 10]
    assert [r["step"] for r in rows if r["kind"] == "train"] == [2, 4, 5, 6, 8, 10]
