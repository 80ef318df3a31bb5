"""Hooks: code of a user that runs at six points of a training.

A hook subclasses `Hook` and overrides what it needs. It may read the trainer (``trainer.progress``,
``trainer.model``, ``trainer.optimizer``) and call ``trainer.stop(reason)``; it must not draw from the global
random generators in a way that the step relies on (they are seeded for every step).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Protocol

from paddle import nn
from paddle.optimizer import Optimizer

from ppdet.engine.schedules import LearningRateSchedule
from ppdet.engine.settings import TrainSettings
from ppdet.engine.state_dicts import Progress


class Run(Protocol):
    """The training that a hook belongs to, as `ppdet.engine.trainer.Trainer` offers it.

    Attributes:
        model: The model in training.
        optimizer: Its optimiser.
        schedule: Learning rate by step.
        settings: Length of the training, intervals of logs and checkpoints.
    """

    model: nn.Layer
    optimizer: Optimizer
    schedule: LearningRateSchedule
    settings: TrainSettings

    @property
    def progress(self) -> Progress:
        """Counters: step, epoch, best value of the metric."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch."""

    @property
    def last_step(self) -> int:
        """Steps of the whole training."""

    @property
    def times(self) -> tuple[float, float]:
        """Seconds that this process has waited for data, and spent in steps altogether."""

    def stop(self, reason: str) -> None:
        """End the training after the current step; `reason` is reported."""


@dataclass(frozen=True)
class StepLog:
    """Means since the last log, read from the device once.

    Attributes:
        step: Optimiser steps taken.
        epoch: Epoch of the last step, from 0.
        losses: Loss terms; ``loss`` is their sum.
        learning_rate: Rate of the last step.
        data_time: Seconds per step that training waited for data.
        batch_time: Seconds per step, data included.
        images_per_second: On this rank.
        eta: Seconds left.
        memory: Bytes: peak on the device, or resident on a CPU.
        gradient_norm: Norm of all gradients at the last step, before clipping; None where that was skipped.
    """

    step: int
    epoch: int
    losses: Mapping[str, float]
    learning_rate: float
    data_time: float
    batch_time: float
    images_per_second: float
    eta: float
    memory: int
    gradient_norm: Optional[float] = None


class Hook:
    """Does nothing at any point."""

    def before_train(self, trainer: Run) -> None:
        """Once, after resuming, before the first step."""

    def after_step(self, trainer: Run) -> None:
        """After every optimiser step. Reading a tensor here makes the host wait for the device."""

    def after_log(self, trainer: Run, log: StepLog) -> None:
        """Every `log_iter` steps, with numbers that are on the host already."""

    def after_evaluation(self, trainer: Run, metrics: Mapping[str, Mapping[str, float]]) -> None:
        """After every evaluation."""

    def after_save(self, trainer: Run, path: Path) -> None:
        """After a checkpoint is on disk; `path` is that of its files without ending."""

    def after_train(self, trainer: Run) -> None:
        """Once, also after a stop or an error."""
