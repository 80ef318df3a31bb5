"""Keeps losses on the device and times on the host between two logs."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Generic, Optional, TypeVar

import numpy as np
import paddle
from paddle import Tensor

from ppdet.engine import distributed
from ppdet.engine.hooks import StepLog

T = TypeVar("T")


class Meter(Generic[T]):
    """Accumulates until `read`, which is the only place that waits for the device.

    Attributes:
        marks: Notes of the caller on each step since the last reading.
        total_data_time: Seconds of waiting for data since the start.
        total_time: Seconds of steps since the start, without logs, checkpoints and evaluations.
    """

    def __init__(self) -> None:
        self._losses: list[Mapping[str, Tensor]] = []
        self.marks: list[T] = []
        self._began = 0.0
        self.total_data_time = self.total_time = 0.0
        self.clear()

    def clear(self) -> None:
        """Forget everything since the last reading."""
        self._losses.clear()
        self.marks.clear()
        self._steps = self._images = 0
        self._data_time = self._time = 0.0
        self._norm: Optional[Tensor] = None

    def begin(self) -> None:
        """A step begins with waiting for its data."""
        self._began = time.perf_counter()

    def data_ready(self) -> None:
        """The data of the step is there."""
        waited = time.perf_counter() - self._began
        self._data_time += waited
        self.total_data_time += waited

    def end(self, images: int, losses: Mapping[str, Tensor], mark: T) -> None:
        """The step is launched; `losses` are scalars on the device, none if the step was skipped."""
        if losses:
            self._losses.append(losses)
            self.marks.append(mark)
        self._steps += 1
        self._images += images
        taken = time.perf_counter() - self._began
        self._time += taken
        self.total_time += taken

    def keep_norm(self, norm: Tensor) -> None:
        """Keep the gradient norm of a step, on the device, for the next reading."""
        self._norm = norm

    @property
    def is_empty(self) -> bool:
        """Whether nothing happened since the last reading."""
        return self._steps == 0

    def losses(self) -> tuple[list[str], np.ndarray]:
        """Names of the terms, and their values ``[steps, terms]`` as means over processes."""
        if not self._losses:
            return ["loss"], np.zeros((0, 1), np.float32)
        before = time.perf_counter()
        names = list(self._losses[0])
        flat = paddle.stack([row[name].astype("float32") for row in self._losses for name in names])
        values = distributed.mean(flat).numpy().reshape(len(self._losses), len(names))
        self._time += time.perf_counter() - before
        return names, values

    def read(
        self,
        names: list[str],
        values: np.ndarray,
        *,
        step: int,
        epoch: int,
        learning_rate: float,
        steps_left: int,
    ) -> StepLog:
        """A log of everything since the last reading, from what `losses` gave; starts over."""
        means = values.mean(axis=0) if len(values) else np.full(len(names), np.nan)
        log = StepLog(
            step=step,
            epoch=epoch,
            losses=dict(zip(names, means.tolist())),
            learning_rate=learning_rate,
            data_time=self._data_time / self._steps,
            batch_time=self._time / self._steps,
            images_per_second=self._images / self._time,
            eta=self._time / self._steps * steps_left,
            memory=memory_in_use(),
            gradient_norm=None if self._norm is None else float(self._norm),
        )
        self.clear()
        return log


def memory_in_use() -> int:
    """Peak memory in bytes: of the GPU where there is one, else of this process; 0 where unknown."""
    if paddle.get_device().startswith("gpu"):
        return int(paddle.device.cuda.max_memory_allocated())
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
