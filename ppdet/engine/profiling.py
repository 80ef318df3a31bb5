"""Where the time of a step goes: a trace of Paddle's profiler, and a table of data, host and device."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import paddle

from ppdet.engine.hooks import Hook, Run
from ppdet.utils.files import write_json
from ppdet.utils.tables import text_table

logger = logging.getLogger(__name__)

TRACE = "trace.json"
TABLE = "profile.json"


class Profile(Hook):
    """Profiles some steps and stops the run after them.

    Args:
        folder: Where ``trace.json`` (for chrome://tracing or Perfetto) and ``profile.json`` go.
        first: Steps to pass over, which load, allocate and compile.
        steps: Steps to profile.
    """

    def __init__(self, folder: Path, *, first: int = 5, steps: int = 10) -> None:
        self._folder = folder
        self._first = first
        self._steps = steps
        self._seen = 0
        self._profiler: Any = None
        self._data_time = 0.0
        self._time = 0.0

    def after_step(self, trainer: Run) -> None:
        """Start, count, and stop."""
        self._seen += 1
        if self._seen == self._first:
            self._profiler = paddle.profiler.Profiler(
                targets=_targets(),
                on_trace_ready=lambda profiler: None,  # else it writes into the working folder
            )
            self._profiler.start()
            self._data_time, self._time = trainer.times
        elif self._profiler is not None:
            self._profiler.step()
            if self._seen == self._first + self._steps:
                self._write(trainer)
                trainer.stop(f"profiled {self._steps} steps")

    def after_train(self, trainer: Run) -> None:
        """End a profile that the run was too short for."""
        if self._profiler is not None:
            logger.warning("the run ended after %d steps, before the profile was complete", self._seen)
            self._profiler.stop()

    def _write(self, trainer: Run) -> None:
        data_time, time = (
            after - before for after, before in zip(trainer.times, (self._data_time, self._time))
        )
        profiler, self._profiler = self._profiler, None
        profiler.stop()
        self._folder.mkdir(parents=True, exist_ok=True)
        trace = self._folder / TRACE
        profiler.export(str(trace), format="json")
        table = split(_events(trace), self._steps, data_time=data_time, time=time)
        write_json(self._folder / TABLE, table, indent=1)
        logger.info("profile of %d steps:\n%s", self._steps, as_text(table))


def _targets() -> list[Any]:
    targets = [paddle.profiler.ProfilerTarget.CPU]
    if paddle.get_device().startswith("gpu"):
        targets.append(paddle.profiler.ProfilerTarget.GPU)
    return targets


def _events(trace: Path) -> list[dict[str, Any]]:
    content = json.loads(trace.read_text("utf-8"))
    events = content["traceEvents"] if isinstance(content, dict) else content
    return [event for event in events if event.get("ph") == "X"]


def split(
    events: Sequence[Mapping[str, Any]], steps: int, *, data_time: float, time: float
) -> dict[str, Optional[float]]:
    """Milliseconds per step, and counts per step.

    Args:
        events: Complete events of a trace, with ``cat`` and ``dur`` in microseconds.
        steps: Steps they cover.
        data_time: Seconds spent waiting for data.
        time: Seconds in all.

    Returns:
        ``step_ms`` = ``data_ms`` + ``kernels_ms`` + ``host_ms``, where kernels are Paddle's operators on a
        CPU, device kernels on a GPU (which overlap with the host, so ``host_ms`` is what they do not cover);
        ``operators`` launched and ``kernels`` run.
    """
    kernels = [e for e in events if str(e.get("cat", "")).lower() in ("kernel", "gpu_kernel")]
    operators = [e for e in events if str(e.get("cat", "")).lower() == "operator"]
    busy = _covered(kernels or operators) / 1e3
    total, data = time * 1e3, data_time * 1e3
    return {
        "step_ms": total / steps,
        "data_ms": data / steps,
        "kernels_ms": busy / steps,
        "host_ms": max(0.0, total - data - busy) / steps,
        "operators": len(operators) / steps,
        "kernels": len(kernels) / steps if kernels else None,
    }


def _covered(events: Sequence[Mapping[str, Any]]) -> float:
    """Microseconds during which at least one of the events goes on: nested ones count once."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted((float(e["ts"]), float(e["ts"]) + float(e["dur"])) for e in events):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def as_text(table: Mapping[str, Optional[float]]) -> str:
    """The table for people."""
    return text_table([[name, "-" if value is None else f"{value:.2f}"] for name, value in table.items()])
