"""Protects RT-DETR's training: a stop and a resume change no bit, and two processes are one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppdet.engine.checkpoint import RunFolder
from ppdet.engine.determinism import make_deterministic, seed_everything
from ppdet.engine.ema import EmaSettings
from ppdet.engine.hooks import Hook, StepLog
from ppdet.engine.settings import TrainSettings
from ppdet.structures import Batch
from tests.engine.toys import ToyLoader, make_trainer, weights_of
from tests.modeling.small_detr import small_detr
from tests.modeling.small_rcnn import small_batch
from tests.support import ROOT

STEPS = 6


class Losses(Hook):
    def __init__(self) -> None:
        self.rows: list[Mapping[str, float]] = []

    def after_log(self, trainer: Any, log: StepLog) -> None:
        self.rows.append(dict(log.losses))


class Boxes(ToyLoader):
    """Batches of two images, of one to three objects and none, at another place each time."""

    def batch(self, epoch: int, index: int) -> Batch:
        rng = np.random.default_rng(10 * epoch + index)
        corners = rng.uniform(0, 30, (1 + index % 3, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(10, 30, corners.shape)], axis=1)
        return small_batch([boxes.tolist(), []], size=(64, 64))


def train(folder: Path, steps: int, *, resume: bool = False) -> tuple[list[Any], dict[str, np.ndarray]]:
    """Losses of each step, and the weights at the end with those of the average."""
    make_deterministic()
    seed_everything(11)
    losses = Losses()
    trainer = make_trainer(
        model=small_detr(),
        loader=Boxes(batches=4),
        settings=TrainSettings(
            epochs=99, max_iters=steps, log_iter=1, ema=EmaSettings(0.9, "exponential", filter_no_grad=True)
        ),
        optimizer={"type": "AdamW", "weight_decay": 1e-4},
        folder=RunFolder(folder),
        hooks=[losses],
    )
    if resume:
        trainer.resume("auto")
    trainer.train()
    assert trainer.ema is not None
    average = {f"average/{key}": value.numpy() for key, value in trainer.ema.averaged().items()}
    return losses.rows, {**weights_of(trainer), **average}


@pytest.mark.slow
def test_a_resumed_training_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    rows, weights = train(tmp_path / "whole", STEPS)
    first, _ = train(tmp_path / "parts", 2)  # an epoch has 4 batches
    second, resumed = train(tmp_path / "parts", STEPS, resume=True)
    assert len(rows) == STEPS
    assert all("loss_class_dn" in row for row in rows)
    assert [*first, *second] == rows
    assert resumed.keys() == weights.keys()
    for key, value in weights.items():
        np.testing.assert_array_equal(resumed[key], value, err_msg=key)


@pytest.mark.slow
def test_two_processes_have_the_losses_and_gradients_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean over processes is what one process has with both images, also if one has no objects."""
    from ppdet.modeling.transformers import rtdetr
    from tests.modeling.detr_ranks_run import CASES, step_of

    monkeypatch.setattr(rtdetr, "DenoisingDraws", rtdetr.DenoisingDraws)  # `step_of` replaces it
    script = ROOT / "tests/modeling/detr_ranks_run.py"
    launcher = ["-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--backend", "gloo"]
    run = subprocess.run(
        [sys.executable, *launcher, "--log_dir", str(tmp_path / "log"), str(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    step_of(slice(0, 2), tmp_path, "both")
    for case in CASES:
        both = np.load(tmp_path / f"{case}_both.npz")
        ranks = [np.load(tmp_path / f"{case}_rank{rank}.npz") for rank in range(2)]
        assert (float(ranks[1]["loss_bbox"]) == 0) == (case == "one_empty")
        assert ("loss_class_dn" in both.files) == (case == "denoising")
        assert len(both.files) > 100
        for name in both.files:
            mean = sum(r[name] if name in r.files else np.zeros_like(both[name]) for r in ranks) / 2
            tolerance = 1e-5 * max(float(np.abs(both[name]).max()), 1e-3)
            np.testing.assert_allclose(mean, both[name], rtol=1e-4, atol=tolerance, err_msg=f"{case} {name}")
