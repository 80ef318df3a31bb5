"""Protects against numbers that are not finite: found at once, images named, step kept and run again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from ppdet.engine.checkpoint import RunFolder
from ppdet.engine.guards import NonFiniteError, suspects
from ppdet.engine.replay import replay
from ppdet.engine.settings import TrainSettings
from ppdet.structures import Batch
from ppdet.utils.errors import CheckpointError
from tests.engine.test_trainer import Recorder
from tests.engine.toys import ToyDetector, ToyLoader, make_batch, make_trainer, weights_of


def poisoned(batch: Batch, *, value: float = float("inf"), where: str = "box") -> Batch:
    """The batch with one bad number in its second image."""
    if where == "box":
        assert batch.targets is not None
        batch.targets.boxes[1, 0, 2] = value
    else:
        batch.images[1, 0, 3, 3] = value
    return batch


class PoisonedLoader(ToyLoader):
    def __init__(self, bad: set[tuple[int, int]], **how: Any) -> None:
        super().__init__()
        self._bad, self._how = bad, how

    def batch(self, epoch: int, index: int) -> Batch:
        batch = super().batch(epoch, index)
        return poisoned(batch, **self._how) if (epoch, index) in self._bad else batch


@pytest.mark.parametrize("where", ["box", "image"])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_stops_before_the_update_and_names_the_image(tmp_path: Path, where: str, value: float) -> None:
    good = make_trainer(settings=TrainSettings(epochs=2, max_iters=7))
    good.train()
    loader = PoisonedLoader({(1, 2)}, where=where, value=value)
    trainer = make_trainer(loader=loader, folder=RunFolder(tmp_path))
    with pytest.raises(
        NonFiniteError, match=rf"step 7 \(epoch 1, batch 2\).*image 100201.*{where} not finite"
    ):
        trainer.train()
    trainable = [k for k in weights_of(good) if "norm._" not in k]  # statistics saw the image
    for key in trainable:
        np.testing.assert_array_equal(weights_of(trainer)[key], weights_of(good)[key])


def test_report_and_replay(tmp_path: Path) -> None:
    trainer = make_trainer(loader=PoisonedLoader({(0, 3)}), folder=RunFolder(tmp_path))
    with pytest.raises(NonFiniteError, match=r"replay.*step_3_rank0\.pdreplay") as caught:
        trainer.train()
    report = json.loads((tmp_path / "replay" / "step_3_rank0.json").read_text())
    assert report["losses"]["loss_box"] == "inf"
    assert report["learning_rate"] == pytest.approx(0.1)
    assert (report["seed"], report["step"], report["epoch"], report["first_batch"]) == (0, 3, 0, 3)
    assert report["images"][1]["id"] == 301
    assert report["images"][1]["boxes"][0][2] == "inf"
    assert report["suspects"] == ["image 301 (301.jpg): box not finite"]
    paddle.seed(77)
    again = replay(tmp_path / "replay" / "step_3_rank0.pdreplay", ToyDetector())
    assert again.losses[0]["loss_box"] == float("inf")
    shown = float(report["losses"]["loss_score"])
    assert again.losses[0]["loss_score"] == pytest.approx(shown, rel=1e-6)  # dropout included
    assert f"loss_score {shown:g}" in str(caught.value)
    assert again.suspects == report["suspects"]
    assert again.where.step == 3


def test_replay_names_gradients(tmp_path: Path) -> None:
    trainer = make_trainer(loader=PoisonedLoader({(0, 0)}, where="image"), folder=RunFolder(tmp_path))
    with pytest.raises(NonFiniteError):
        trainer.train()
    path = tmp_path / "replay" / "step_0_rank0.pdreplay"
    model = ToyDetector()
    assert "conv.weight" in replay(path, model).gradients
    assert model.conv.weight.grad is None or not model.conv.weight.grad.numpy().any()
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CheckpointError, match="step_0_rank0"):
        replay(path, model)


def test_skips_as_many_as_allowed_and_leaves_no_trace(tmp_path: Path) -> None:
    settings = TrainSettings(epochs=2, log_iter=1, max_skipped=2)
    recorder = Recorder()
    loader = PoisonedLoader({(0, 1), (1, 0)}, where="image")
    trainer = make_trainer(settings=settings, loader=loader, hooks=[recorder], folder=RunFolder(tmp_path))
    report = trainer.train()
    assert (report.progress.skipped, report.progress.step) == (2, 10)
    assert all(np.isfinite(v).all() for v in weights_of(trainer).values())
    assert sum(np.isnan(log.losses["loss"]) for log in recorder.logs) == 2
    third = make_trainer(settings=settings, loader=PoisonedLoader({(0, 1), (0, 2), (0, 4)}))
    with pytest.raises(NonFiniteError, match="step 4"):
        third.train()


def test_gradients_are_looked_at_too() -> None:
    class Rooted(ToyDetector):
        def forward(self, batch: Batch) -> dict[str, Any]:
            terms = super().forward(batch)
            return {**terms, "loss_root": (self.head.bias * 0).sum().sqrt()}  # 0, but its slope is infinite

    with pytest.raises(NonFiniteError, match="loss_root 0"):
        make_trainer(model=Rooted()).train()


def test_box_is_named_though_losses_stay_finite() -> None:
    class Clipping(ToyDetector):
        def forward(self, batch: Batch) -> dict[str, Any]:
            assert batch.targets is not None
            boxes = batch.targets.boxes.clip(0.0, 8.0)
            return super().forward(replace(batch, targets=replace(batch.targets, boxes=boxes)))

    with pytest.raises(NonFiniteError, match=r"image 1 \(1\.jpg\): box not finite"):
        make_trainer(model=Clipping(), loader=PoisonedLoader({(0, 0)})).train()


def test_on_a_gpu_it_is_found_with_the_log(tmp_path: Path) -> None:
    """Played on the CPU: the check of every step is off, as on a GPU."""
    settings = TrainSettings(epochs=2, log_iter=4)
    trainer = make_trainer(settings=settings, loader=PoisonedLoader({(0, 1)}), folder=RunFolder(tmp_path))
    trainer._check_every_step = False
    with pytest.raises(NonFiniteError, match=r"step 1 \(epoch 0, batch 1\).*image 101"):
        trainer.train()
    assert trainer.progress.step == 4
    assert (tmp_path / "replay" / "step_1_rank0.pdreplay").exists()


def test_nothing_polluted_is_saved(tmp_path: Path) -> None:
    settings = TrainSettings(epochs=2, log_iter=100, snapshot_iter=2)
    trainer = make_trainer(settings=settings, loader=PoisonedLoader({(0, 2)}), folder=RunFolder(tmp_path))
    trainer._check_every_step = False
    with pytest.raises(NonFiniteError):
        trainer.train()
    assert RunFolder(tmp_path).load("auto").state["progress"]["step"] == 2


def test_weights_spoilt_by_gradients_alone_are_not_saved(tmp_path: Path) -> None:
    """Played on the CPU: on a GPU nobody looks at gradients, and here every loss is finite."""

    class Sharp(ToyDetector):
        steps = 0

        def forward(self, batch: Batch) -> dict[str, Any]:
            self.steps += 1
            terms = super().forward(batch)
            root = (self.head.bias * 0).sum().sqrt() if self.steps == 5 else paddle.zeros([])
            return {**terms, "loss_root": root}

    for skipped, message in ((0, r"step 5: weights are not finite: .*not saved.*max_skipped: 1"), (1, "")):
        settings = TrainSettings(epochs=1, log_iter=100, snapshot_iter=2, max_skipped=skipped)
        folder = RunFolder(tmp_path / str(skipped))
        trainer = make_trainer(settings=settings, model=Sharp(), folder=folder)
        trainer._check_every_step = skipped > 0
        if message:
            with pytest.raises(NonFiniteError, match=message):
                trainer.train()
            assert folder.load("auto").state["progress"]["step"] == 4
        else:
            assert trainer.train().progress.skipped == 1


def test_suspects_of_a_good_batch() -> None:
    assert suspects(make_batch(0)) == []
