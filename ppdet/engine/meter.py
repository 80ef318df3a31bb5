"""Sums up losses on the device and times on the host between two logs."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

import paddle
from paddle import Tensor

from ppdet.engine.hooks import StepLog


class Meter:
    """Accumulates until `read`, which is the only place that waits for the device."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._reset()

    def _reset(self) -> None:
        self._sums.clear()
        self._steps = self._images = 0
        self._data_time = self._time = 0.0

    def begin(self) -> None:
        """A step begins with waiting for its data."""
        self._began = time.perf_counter()

    def data_ready(self) -> None:
        """The data of the step is there."""
        self._data_time += time.perf_counter() - self._began

    def end(self, losses: Mapping[str, Tensor], images: int) -> None:
        """The step is launched; `losses` are scalars on the device."""
        for name, value in losses.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._steps += 1
        self._images += images
        self._time += time.perf_counter() - self._began

    def read(self, *, step: int, epoch: int, learning_rate: float, steps_left: int) -> StepLog:
        """Means since the last reading."""
        before = time.perf_counter()
        names = list(self._sums)
        values = paddle.stack([self._sums[name].astype("float32") for name in names]).numpy() / self._steps
        losses = dict(zip(names, values.tolist()))
        total = self._time + time.perf_counter() - before
        log = StepLog(
            step=step,
            epoch=epoch,
            losses=losses,
            learning_rate=learning_rate,
            data_time=self._data_time / self._steps,
            batch_time=total / self._steps,
            images_per_second=self._images / total,
            eta=total / self._steps * steps_left,
            memory=memory_in_use(),
        )
        self._reset()
        return log

    @property
    def is_empty(self) -> bool:
        """Whether nothing happened since the last reading."""
        return self._steps == 0


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
