"""The training loop. It knows no architecture, dataset or metric by name."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Callable, Optional, Protocol

import paddle
from paddle import Tensor, nn
from paddle.optimizer import Optimizer

from ppdet.engine.checkpoint import FINAL, RunFolder
from ppdet.engine.hooks import Hook
from ppdet.engine.meter import Meter
from ppdet.engine.schedules import LearningRateSchedule
from ppdet.engine.settings import TrainingError, TrainSettings
from ppdet.engine.state import (
    Progress,
    model_state,
    optimizer_state,
    seed_step,
    set_model_state,
    set_optimizer_state,
)
from ppdet.structures import Batch
from ppdet.utils.scores import choose

logger = logging.getLogger(__name__)

#: ``{"bbox": {"AP": ...}}``
Metrics = dict[str, dict[str, float]]


class Loader(Protocol):
    """What training needs of a loader."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None: ...


@dataclass(frozen=True)
class TrainReport:
    """How a run ended.

    Attributes:
        progress: Counters at the end.
        stopped: Why it ended early; None if it is complete.
        metrics: Of the last evaluation; empty if there was none.
    """

    progress: Progress
    stopped: Optional[str]
    metrics: Metrics


class Trainer:
    """Trains a model.

    Args:
        model: Gives named losses for a batch.
        optimizer: Of its parameters, over `schedule`.
        schedule: Learning rate by step.
        loader: Batches of an epoch.
        settings: How long, how often.
        folder: Where checkpoints go; None saves nothing.
        evaluate: Scores the model as it is; None for no evaluation.
        hooks: Look on at six points.
    """

    def __init__(
        self,
        model: nn.Layer,
        optimizer: Optimizer,
        schedule: LearningRateSchedule,
        loader: Loader,
        settings: TrainSettings,
        *,
        folder: Optional[RunFolder] = None,
        evaluate: Optional[Callable[[], Metrics]] = None,
        hooks: Sequence[Hook] = (),
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.schedule = schedule
        self.loader = loader
        self.settings = settings
        self.folder = folder
        self.hooks = tuple(hooks)
        self.progress = Progress(seed=settings.seed)
        self._evaluate = evaluate
        self._meter = Meter()
        self._stopped: Optional[str] = None
        self._final = False
        self._saved_step: Optional[int] = None
        self._metrics: Metrics = {}
        self._resumed = False
        if len(loader) == 0:
            raise TrainingError("the loader has no batches")

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch."""
        return math.ceil(len(self.loader) / self.settings.accumulate)

    @property
    def last_step(self) -> int:
        """Steps of the whole run."""
        steps = self.settings.epochs * self.steps_per_epoch
        return min(steps, self.settings.max_iters or steps)

    def train(self) -> TrainReport:
        """Train until the end, or until something calls `stop`."""
        self._begin()
        try:
            while not self._done:
                self.loader.set_epoch(self.progress.epoch, self.progress.batch)
                for window in self._windows():
                    self._step(window)
                    self._after_step()
                    if self._done:
                        break
            self._finish()
        finally:
            for hook in self.hooks:
                hook.after_train(self)
        return TrainReport(self.progress, self._stopped, self._metrics)

    def stop(self, reason: str, *, final: bool = False) -> None:
        """End training after this step.

        Args:
            reason: For the log and the report.
            final: Save the result as the final one rather than as something to go on from.
        """
        self._stopped = self._stopped or reason
        self._final = self._final or final

    @property
    def _done(self) -> bool:
        return self._stopped is not None or self.progress.step >= self.last_step

    def _begin(self) -> None:
        if self.folder is not None and not self._resumed:
            self.folder.start()
        for hook in self.hooks:
            hook.before_train(self)
        self.model.train()
        if self.progress.unevaluated:
            self._run_evaluation(None)

    def _windows(self) -> Iterator[list[Batch]]:
        """The batches of each optimiser step; the last one of an epoch may have fewer."""
        batches = iter(self.loader)
        while True:
            self._meter.begin()
            window = list(islice(batches, self.settings.accumulate))
            if not window:
                return
            self._meter.data_ready()
            yield window

    def _step(self, window: list[Batch]) -> None:
        seed_step(self.progress.seed, self.progress.step, 0)
        images = sum(len(batch) for batch in window)
        sums: dict[str, Tensor] = {}
        for batch in window:
            losses = self.model(batch)
            # The share of the images, so that the gradient is that of one batch of all of them.
            share = len(batch) / images
            losses = {name: value * share for name, value in losses.items()}
            losses["loss"] = paddle.add_n(list(losses.values()))
            losses["loss"].backward()
            for name, value in losses.items():
                sums[name] = sums[name] + value.detach() if name in sums else value.detach()
        self.optimizer.step()
        self.optimizer.clear_grad()
        self.schedule.step()
        self._meter.end(sums, images)
        self.progress.step += 1
        self.progress.batch += len(window)

    def _after_step(self) -> None:
        progress, settings = self.progress, self.settings
        at_end = progress.batch >= len(self.loader)
        if at_end:
            progress.epoch, progress.batch = progress.epoch + 1, 0
        for hook in self.hooks:
            hook.after_step(self)
        if progress.step % settings.log_iter == 0 or at_end or self._done:
            self._log()
        snapshot = at_end and progress.epoch % settings.snapshot_epoch == 0
        if settings.eval_iter is None:
            due = snapshot and not self._done
        else:
            due = progress.step % settings.eval_iter == 0 and not self._done
        progress.unevaluated = due and self._evaluate is not None
        if snapshot and not self._done:
            self._save(str(progress.epoch - 1))
        elif settings.snapshot_iter is not None and progress.step % settings.snapshot_iter == 0:
            self._save(f"iter_{progress.step}")
        if progress.unevaluated:
            self._run_evaluation(str(progress.epoch - 1) if snapshot else None)

    def _log(self) -> None:
        if self._meter.is_empty:
            return
        log = self._meter.read(
            step=self.progress.step,
            epoch=self.progress.epoch,
            learning_rate=self.schedule.rate_at(self.progress.step - 1),
            steps_left=self.last_step - self.progress.step,
        )
        for hook in self.hooks:
            hook.after_log(self, log)

    def _finish(self) -> None:
        complete = self._final or self.progress.step >= self.last_step
        self.progress.unevaluated = self.progress.step >= self.last_step and self._evaluate is not None
        name = FINAL if complete else f"iter_{self.progress.step}"
        if complete or self._saved_step != self.progress.step:
            self._save(name)
        if self.progress.unevaluated:
            self._run_evaluation(name)

    def _run_evaluation(self, saved_as: Optional[str]) -> None:
        assert self._evaluate is not None
        self.model.eval()
        self._metrics = self._evaluate()
        self.model.train()
        progress, settings = self.progress, self.settings
        progress.unevaluated = False
        for hook in self.hooks:
            hook.after_evaluation(self, self._metrics)
        name, value = choose(self._metrics, settings.best_metric)
        sign = 1 if settings.best_is == "max" else -1
        if progress.best is None or sign * value > sign * progress.best:
            progress.best, progress.best_step, progress.since_best = value, progress.step, 0
            if self.folder is not None:
                self.folder.save_best(model_state(self.model), progress.to_dict(), self._metrics)
        else:
            progress.since_best += 1
        logger.info("%s %.4f, best %.4f at step %d", name, value, progress.best, progress.best_step)
        if saved_as is not None and self.folder is not None:
            self.folder.note(saved_as, progress.to_dict())
        if settings.patience is not None and progress.since_best >= settings.patience:
            self.stop(f"{name} has not improved in {progress.since_best} evaluations", final=True)

    def _save(self, name: str) -> None:
        if self.folder is None:
            return
        self.folder.save(name, model_state(self.model), self._state())
        self._saved_step = self.progress.step
        for hook in self.hooks:
            hook.after_save(self, self.folder.path / name)

    def _state(self) -> dict[str, Any]:
        return {
            "progress": self.progress.to_dict(),
            "loader": {"batches": len(self.loader)},
            "optimizer": optimizer_state(self.optimizer, self.model),
        }

    def resume(self, where: str) -> None:
        """Go on from a checkpoint; `where` is ``auto``, a folder, or a path (see `ppdet.engine.checkpoint`).

        Raises:
            CheckpointError: If a part of it is missing, torn, or does not fit this run.
        """
        folder = self.folder or RunFolder(Path())
        saved = folder.load(where)
        set_model_state(self.model, saved.weights, str(saved.path))
        set_optimizer_state(self.optimizer, self.model, saved.state["optimizer"], str(saved.path))
        self.progress = Progress.from_dict({**saved.state["progress"], **saved.notes})
        self._resumed = True
        self._saved_step = self.progress.step
        logger.info("resumed %s: step %d, epoch %d", saved.path, self.progress.step, self.progress.epoch)
