"""How long to train, and what to do along the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Optional

from ppdet.engine.amp import AmpSettings
from ppdet.engine.ema import EmaSettings
from ppdet.utils.errors import TrainingError


@dataclass(frozen=True)
class TrainSettings:
    """Settings of a run.

    Attributes:
        epochs: Epochs to train.
        max_iters: Stop after so many optimiser steps, whatever `epochs` says.
        log_iter: Log every so many steps. Losses are read from the device only then.
        snapshot_epoch: Save, and evaluate if there is an evaluation, every so many epochs.
        snapshot_iter: Save every so many steps too.
        eval_iter: Evaluate every so many steps, instead of with the snapshots.
        seed: Of everything random.
        accumulate: Batches per optimiser step.
        best_metric: Number that decides on the best checkpoint, e.g. ``"segm.AP"``; the first one if None.
        best_is: Whether more or less of it is better.
        patience: Stop after so many evaluations without a new best; None for never.
        amp: Mixed precision; None for float32.
        ema: Moving average of the weights, which is then what is evaluated and saved; None for none.
        max_skipped: Steps with numbers that are not finite to leave out before giving up.
        find_unused_parameters: Let several processes cope with parameters that get no gradient.
    """

    epochs: int = 12
    max_iters: Optional[int] = None
    log_iter: int = 20
    snapshot_epoch: int = 1
    snapshot_iter: Optional[int] = None
    eval_iter: Optional[int] = None
    seed: int = 0
    accumulate: int = 1
    best_metric: Optional[str] = None
    best_is: Literal["max", "min"] = "max"
    patience: Optional[int] = None
    amp: Optional[AmpSettings] = None
    ema: Optional[EmaSettings] = None
    max_skipped: int = 0
    find_unused_parameters: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "log_iter", "snapshot_epoch", "accumulate"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} {getattr(self, name)}: it must be 1 or more")
        for name in ("max_iters", "snapshot_iter", "eval_iter", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise TrainingError(f"{name} {value}: it must be 1 or more, or null")
        if self.max_skipped < 0:
            raise TrainingError(f"max_skipped {self.max_skipped}: it must be 0 or more")
