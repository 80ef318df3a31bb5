"""The training loop. It knows no architecture, dataset or metric by name."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Callable, Optional, Protocol

import numpy as np
import paddle
from paddle import nn
from paddle.optimizer import Optimizer

from ppdet.engine import distributed
from ppdet.engine.checkpoint import FINAL, RunFolder
from ppdet.engine.ema import ModelEma
from ppdet.engine.failures import clear_failures, note_failure
from ppdet.engine.guards import NonFiniteError, check_weights, suspects
from ppdet.engine.hooks import Hook
from ppdet.engine.meter import Meter
from ppdet.engine.replay import Circumstances, write_replay
from ppdet.engine.resume_paddle2x import from_2x
from ppdet.engine.run_state import RunState
from ppdet.engine.schedules import LearningRateSchedule
from ppdet.engine.settings import TrainSettings
from ppdet.engine.signals import StopOnSignal
from ppdet.engine.state_dicts import Progress, seed_step
from ppdet.engine.statistics import RunningStatistics
from ppdet.engine.step import TrainStep
from ppdet.structures import Batch
from ppdet.utils.errors import TrainingError, UserError
from ppdet.utils.scores import choose, headline

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
        model: Gives named losses for a batch; its `begin_epoch` is called before each epoch, and before the
            rest of one after a resume.
        optimizer: Of its parameters, over `schedule`.
        schedule: Learning rate by step.
        loader: Batches of an epoch, for this process.
        settings: How long, how often, with what.
        folder: Where checkpoints go; None saves nothing.
        evaluate: Scores the model as it is, the same in every process; None for no evaluation.
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
        if len(loader) == 0:
            raise TrainingError("the loader has no batches")
        self.model = model
        self.optimizer = optimizer
        self.schedule = schedule
        self.loader = loader
        self.settings = settings
        self.folder = folder
        self.hooks, self._evaluate = tuple(hooks), evaluate
        self._step = TrainStep(
            model, optimizer, amp=settings.amp, find_unused_parameters=settings.find_unused_parameters
        )
        self.ema = None if settings.ema is None else ModelEma(settings.ema, model)
        self.state = RunState(
            model, optimizer, self._step.precision, self.ema, len(loader), Progress(seed=settings.seed)
        )
        on_gpu = paddle.get_device().startswith("gpu")
        self._check_every_step = settings.max_skipped > 0 or not on_gpu
        self._agree_every = settings.log_iter if on_gpu else 1
        may_undo = settings.max_skipped > 0 or distributed.world_size() > 1
        self._statistics = RunningStatistics(model) if may_undo else None
        self._meter: Meter[Circumstances] = Meter()
        self._stop_request: Optional[tuple[str, bool]] = None
        self._stopped: Optional[str] = None
        self._metrics: Metrics = {}
        self._saved_step: Optional[int] = None
        self._resumed: Optional[Path] = None

    @property
    def progress(self) -> Progress:
        """Counters of the run."""
        return self.state.progress

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch."""
        return math.ceil(len(self.loader) / self.settings.accumulate)

    @property
    def last_step(self) -> int:
        """Steps of the whole run."""
        steps = self.settings.epochs * self.steps_per_epoch
        return min(steps, self.settings.max_iters or steps)

    @property
    def times(self) -> tuple[float, float]:
        """Seconds that steps of this process have waited for data, and taken in all, so far."""
        return self._meter.total_data_time, self._meter.total_time

    def train(self) -> TrainReport:
        """Train until the end, or until a signal or a hook asks to stop."""
        with StopOnSignal(self.stop):
            try:
                self._begin()
                while not self._done:
                    self.model.begin_epoch(self.progress.epoch)
                    self.loader.set_epoch(self.progress.epoch, self.progress.batch)
                    for window in self._windows():
                        self._take_step(window)
                        self._after_step()
                        if self._done:
                            break
                self._finish()
            except Exception as error:
                ending = None if self.folder is None else note_failure(error, self.folder.path)
                if ending is not None and ending.saves:
                    self._save_last_step()
                raise error if ending is None else ending.error() from error
            finally:
                for hook in self.hooks:
                    hook.after_train(self)
        return TrainReport(self.progress, self._stopped, self._metrics)

    def stop(self, reason: str, *, final: bool = False) -> None:
        """End training after this step, in every process; `final` saves the result as the final one."""
        if self._stop_request is None:
            self._stop_request = (reason, final)

    def resume(self, where: str) -> None:
        """Go on from a checkpoint; `where` is ``auto``, a folder, or a path (see `ppdet.engine.checkpoint`).

        Raises:
            CheckpointError: If a part of it is missing, torn, or does not fit this run.
        """
        saved = (self.folder or RunFolder(Path())).load(where)
        if saved.parameter_names is not None:
            saved = from_2x(saved, self.state, self.schedule, self.steps_per_epoch)
        self.state.restore(saved)
        if self.schedule.last_epoch != self.progress.step:  # another number of processes
            self.schedule.step(self.progress.step)
        self._saved_step = self.progress.step
        self._resumed = saved.path

    @property
    def _done(self) -> bool:
        return self._stopped is not None or self.progress.step >= self.last_step

    def _begin(self) -> None:
        if self.folder is not None and distributed.is_main():
            clear_failures(self.folder.path)
            if self._saved_step is None:
                self.folder.start()
        for hook in self.hooks:
            hook.before_train(self)
        if self._resumed is not None:
            progress = self.progress
            logger.info("resumed %s: step %d, epoch %d", self._resumed, progress.step, progress.epoch)
        self.model.train()
        if self.progress.unevaluated and self._evaluate is not None:
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

    def _take_step(self, window: list[Batch]) -> None:
        progress = self.progress
        where = Circumstances(
            seed=progress.seed,
            step=progress.step,
            rank=distributed.rank(),
            epoch=progress.epoch,
            first_batch=progress.batch,
            batches=len(window),
            learning_rate=self.schedule.rate_at(progress.step),
        )
        seed_step(where.seed, where.step, where.rank)
        if self._statistics is not None:
            self._statistics.keep()
        losses, finite = self._gradients(window)
        if not finite:
            names, values = list(losses), [float(v) for v in losses.values()]
            self._forget_step()
            self._on_non_finite(where, dict(zip(names, values)), window)
            losses = {}
        else:
            if (progress.step + 1) % self.settings.log_iter == 0:
                self._meter.keep_norm(self._step.gradient_norm())
            if self._step.update() and self.ema is not None:
                self.ema.update()
        self.schedule.step()
        self._meter.end(sum(len(batch) for batch in window), losses, where)
        progress.step += 1
        progress.batch += len(window)

    def _gradients(self, window: list[Batch]) -> tuple[dict[str, paddle.Tensor], bool]:
        """Losses of a step, and whether they and all gradients are finite, as far as that is checked."""
        try:
            losses = self._step.backward(window)
            return losses, not self._check_every_step or self._step.is_finite(losses)
        except Exception:
            self._forget_step()  # another process has gone; what is saved now must be the step before
            raise

    def _forget_step(self) -> None:
        """Leave the model as it was before the step that is going on."""
        self._step.discard()
        if self._statistics is not None:
            self._statistics.put_back()

    def _on_non_finite(
        self,
        where: Circumstances,
        losses: Mapping[str, float],
        window: Sequence[Batch],
    ) -> None:
        """Report a step; skip it if that is still allowed."""
        terms = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        wrong = [line for batch in window for line in suspects(batch)]
        ids = ", ".join(str(image_id) for batch in window for image_id in batch.image_ids)
        text = (
            f"step {where.step} (epoch {where.epoch}, batch {where.first_batch}): a loss or gradient is not "
            f"finite: {terms}; learning rate {where.learning_rate:g}; images {ids}; "
            + ("; ".join(wrong) or "their pixels and boxes are finite, so a lower learning rate may help")
        )
        if self.folder is not None:
            path = write_replay(self.folder.path / "replay", where, losses, window, self.model)
            text += f". Kept in {path}: ppdet train --replay runs it again"
        if self.progress.skipped >= self.settings.max_skipped:
            raise NonFiniteError(text)
        self.progress.skipped += 1
        logger.warning(
            "skipped (%d of at most %d): %s", self.progress.skipped, self.settings.max_skipped, text
        )

    def _after_step(self) -> None:
        progress, settings = self.progress, self.settings
        at_end = progress.batch >= len(self.loader)
        if at_end:
            progress.epoch, progress.batch = progress.epoch + 1, 0
        for hook in self.hooks:
            hook.after_step(self)
        self._agree_to_stop()
        snapshot = at_end and progress.epoch % settings.snapshot_epoch == 0
        by_step = settings.snapshot_iter is not None and progress.step % settings.snapshot_iter == 0
        if progress.step % settings.log_iter == 0 or at_end or by_step or self._done:
            self._log()
        if progress.step >= self.last_step:
            return
        due = snapshot if settings.eval_iter is None else progress.step % settings.eval_iter == 0
        progress.unevaluated = due and self._evaluate is not None
        name = str(progress.epoch - 1) if snapshot else f"iter_{progress.step}"
        if snapshot or by_step:
            self._save(name)
        if progress.unevaluated and self._stopped is None:
            self._run_evaluation(name if snapshot or by_step else None)
            self._agree_to_stop()

    def _agree_to_stop(self) -> None:
        if self.progress.step % self._agree_every and self.progress.step < self.last_step:
            return
        if distributed.any_rank(self._stop_request is not None):
            own = self._stop_request
            self._stopped = "another process stopped" if own is None else own[0]
            logger.info("stopping at step %d: %s", self.progress.step, self._stopped)

    def _log(self) -> None:
        if self._meter.is_empty:
            return
        names, values = self._meter.losses()
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            self._found_late(self._meter.marks[bad[0]], dict(zip(names, values[bad[0]].tolist())))
        log = self._meter.read(
            names,
            values,
            step=self.progress.step,
            epoch=(self.progress.step - 1) // self.steps_per_epoch,
            learning_rate=self.schedule.rate_at(self.progress.step - 1),
            steps_left=self.last_step - self.progress.step,
        )
        for hook in self.hooks:
            hook.after_log(self, log)

    def _found_late(self, where: Circumstances, losses: Mapping[str, float]) -> None:
        """Report a step of some time ago: its batches are loaded again, its weights are gone."""
        self.loader.set_epoch(where.epoch, where.first_batch)
        window = list(islice(iter(self.loader), where.batches))
        logger.error("found %d steps later: the weights have changed since", self.progress.step - where.step)
        self._on_non_finite(where, losses, window)

    def _finish(self) -> None:
        complete = self.progress.step >= self.last_step
        final = complete or (self._stop_request is not None and self._stop_request[1])
        self.progress.unevaluated = complete and self._evaluate is not None
        name = FINAL if final else f"iter_{self.progress.step}"
        if final or self._saved_step != self.progress.step:
            self._save(name)
        if self.progress.unevaluated:
            self._run_evaluation(name)

    def _run_evaluation(self, saved_as: Optional[str]) -> None:
        assert self._evaluate is not None
        self.model.eval()
        if self.ema is None:
            self._metrics = self._evaluate()
        else:
            with self.ema.applied():
                self._metrics = self._evaluate()
        self.model.train()
        progress, settings = self.progress, self.settings
        progress.unevaluated = False
        for hook in self.hooks:
            hook.after_evaluation(self, self._metrics)
        name, value = choose(self._metrics, settings.best_metric)
        folder = self.folder if distributed.is_main() else None
        if progress.improve(value, settings.best_is) and folder is not None:
            folder.save_best(self.state.weights(), progress.to_dict(), self._metrics)
        numbers = ", ".join(headline(self._metrics, name))
        best = "none" if progress.best is None else f"{progress.best:.4f}"  # until one is a number
        logger.info("%s, best %s %s at step %s", numbers, name, best, progress.best_step)
        if saved_as is not None and folder is not None:
            folder.note(saved_as, progress.to_dict())
        if settings.patience is not None and progress.since_best >= settings.patience:
            self.stop(f"{name} has not improved in {progress.since_best} evaluations", final=True)

    def _save(self, name: str) -> None:
        self._saved_step = self.progress.step
        if distributed.is_main():
            self._write(name)

    def _save_last_step(self) -> None:
        """Save where the processes were when one of them failed, as far as that was not done."""
        if self.progress.step and self._saved_step != self.progress.step:
            try:
                self._write(name := f"iter_{self.progress.step}")
                logger.warning("%s holds the last step that all processes took; -r resumes it", name)
            except UserError as error:
                logger.error("the last step was not saved: %s", error)

    def _write(self, name: str) -> None:
        if self.folder is None:
            return
        weights = self.state.weights()
        check_weights(self.model, weights, self.progress.step)
        self.folder.save(name, weights, self.state.rest())
        for hook in self.hooks:
            hook.after_save(self, self.folder.path / name)
