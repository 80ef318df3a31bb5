"""The six points at which a hook looks into a run.

A hook subclasses `Hook` and overrides what it needs. It may read the trainer (``trainer.progress``,
``trainer.model``, ``trainer.optimizer``) and call ``trainer.stop(reason)``; it must not draw from the global
random generators in a way that the step relies on (they are seeded anew for every step).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ppdet.engine.trainer import Trainer


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


class Hook:
    """Does nothing at any point."""

    def before_train(self, trainer: Trainer) -> None:
        """Once, after resuming, before the first step."""

    def after_step(self, trainer: Trainer) -> None:
        """After every optimiser step. Reading a tensor here makes the host wait for the device."""

    def after_log(self, trainer: Trainer, log: StepLog) -> None:
        """Every `log_iter` steps, with numbers that are on the host already."""

    def after_evaluation(self, trainer: Trainer, metrics: Mapping[str, Mapping[str, float]]) -> None:
        """After every evaluation."""

    def after_save(self, trainer: Trainer, path: Path) -> None:
        """After a checkpoint is on disk; `path` is that of its files without ending."""

    def after_train(self, trainer: Trainer) -> None:
        """Once, also after a stop or an error."""
