"""The whole state of a run, as a checkpoint holds it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np
from paddle import nn
from paddle.optimizer import Optimizer

from ppdet.engine import distributed
from ppdet.engine.amp import Precision
from ppdet.engine.checkpoint import Checkpoint
from ppdet.engine.ema import ModelEma
from ppdet.engine.state_dicts import (
    Progress,
    model_state,
    optimizer_state,
    set_model_state,
    set_optimizer_state,
    to_numpy,
)
from ppdet.utils.errors import CheckpointError

logger = logging.getLogger(__name__)


@dataclass
class RunState:
    """Everything that changes while training.

    Random generators are not among it: they are seeded for every step from seed, step and rank, and loading
    processes from seed, epoch and image, so the counters in `progress` say all about them.

    Attributes:
        model: Its parameters and statistics.
        optimizer: Its accumulators, and the schedule's position.
        precision: Its loss scale.
        ema: Its averages, if there is one.
        batches: Batches in an epoch on this rank.
        progress: Counters.
    """

    model: nn.Layer
    optimizer: Optimizer
    precision: Precision
    ema: Optional[ModelEma]
    batches: int
    progress: Progress = field(default_factory=Progress)

    def weights(self) -> dict[str, np.ndarray]:
        """What is evaluated: the average if there is one, else the model's own."""
        if self.ema is None:
            return model_state(self.model)
        return {key: to_numpy(value) for key, value in self.ema.averaged().items()}

    def rest(self) -> dict[str, Any]:
        """All but `weights`, for the `.pdopt`."""
        rest: dict[str, Any] = {
            "progress": self.progress.to_dict(),
            "loader": {"batches": self.batches, "processes": distributed.world_size()},
            "optimizer": optimizer_state(self.optimizer, self.model),
            "precision": self.precision.state(),
        }
        if self.ema is not None:
            rest["ema"] = self.ema.state()
            rest["model"] = model_state(self.model)
        return rest

    def restore(self, saved: Checkpoint) -> None:
        """Become what was saved.

        Raises:
            CheckpointError: If it does not fit this run; says in what.
        """
        source = str(saved.path)
        progress = Progress.from_dict({**saved.state["progress"], **saved.notes})
        same_images = self._check(progress, saved.state, source)
        set_model_state(self.model, saved.state.get("model", saved.weights), source)
        set_optimizer_state(self.optimizer, self.model, saved.state["optimizer"], source)
        self.precision.set_state(saved.state["precision"])
        if self.ema is not None:
            self.ema.set_state(saved.state["ema"], source)
        if same_images:
            self._regroup(progress, saved.state["loader"], source)
        self.progress = progress

    def _regroup(self, progress: Progress, loader: Mapping[str, int], source: str) -> None:
        """Translate counters of another number of processes.

        An epoch's order of images depends on seed and epoch alone, and processes take their batches from it
        in turn. So the images that are done are the first ones of the order, whoever trained on them: the
        epoch goes on after them, at the nearest batch of all processes that leaves none out.
        """
        if loader["batches"] == self.batches:
            return
        done = progress.batch * loader["processes"]
        world = distributed.world_size()
        batch = done // world
        step = round(progress.step * self.batches / loader["batches"])
        logger.warning(
            "%s: %d processes in place of %d: step %d of then is step %d of now, in the schedule too; "
            "epoch %d goes on at batch %d of %d, where %d batches of one process come again",
            *(source, world, loader["processes"], progress.step, step, progress.epoch, batch),
            *(self.batches, done - batch * world),
        )
        if progress.best_step is not None:
            progress.best_step = round(progress.best_step * self.batches / loader["batches"])
        progress.step, progress.batch = step, batch

    def _check(self, progress: Progress, state: dict[str, Any], source: str) -> bool:
        """Check that a checkpoint fits; whether an epoch has the same images in batches of the same size."""
        missing = [part for part in ("loader", "optimizer", "precision") if part not in state]
        if missing:
            raise CheckpointError(
                f"{source}.pdopt: has no {', '.join(missing)}; training cannot continue exactly"
            )
        if (self.ema is None) != ("ema" not in state):
            has, wants = ("a", "none") if self.ema is None else ("no", "one")
            raise CheckpointError(
                f"{source}: was saved with {has} moving average, this run has {wants}; make use_ema agree"
            )
        if progress.seed != self.progress.seed:
            raise CheckpointError(
                f"{source}: was trained with seed {progress.seed}, this run has {self.progress.seed}; images "
                f"would come in another order. Set seed: {progress.seed}"
            )
        batches, processes = state["loader"]["batches"], state["loader"]["processes"]
        world = distributed.world_size()
        if batches == self.batches or abs(batches * processes - self.batches * world) < max(processes, world):
            return True
        text = (
            f"{source}: an epoch had {batches} batches on each of {processes} processes, now it has "
            f"{self.batches} on each of {world}"
        )
        if progress.batch:
            raise CheckpointError(
                f"{text}, so its place in the epoch (batch {progress.batch}) means nothing. Use the same "
                "data and batch_size, or resume a checkpoint from the end of an epoch"
            )
        logger.warning("%s; the schedule counts steps and so moves", text)
        return False
