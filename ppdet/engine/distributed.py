"""What several processes agree on, over `paddle.distributed`; with one process nothing happens.

Start them with ``python -m paddle.distributed.launch``, which also ends all of them when one fails.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import paddle
import paddle.distributed as dist
from paddle import nn

from ppdet.utils.errors import TrainingError
from ppdet.utils.files import write_text

#: Words of gloo's and nccl's errors when a peer is gone.
_BROKEN_CONNECTION = ("gloo", "nccl", "connection reset", "connection refused", "tcpstore", "broken pipe")
#: Seconds to wait for the note of the process that failed. It is mostly there before the connection breaks,
#: and the launcher ends this process soon.
_NOTE_SECONDS = 1.0

T = TypeVar("T")


def rank() -> int:
    """Number of this process, from 0."""
    return int(dist.get_rank())


def world_size() -> int:
    """Number of processes."""
    return int(dist.get_world_size())


def is_main() -> bool:
    """Whether this process writes files and logs."""
    return rank() == 0


def start() -> None:
    """Join the other processes, if launched with some. All but the first log only warnings."""
    if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1 and not dist.is_initialized():
        dist.init_parallel_env()
    if not is_main():
        logging.getLogger("ppdet").setLevel(logging.WARNING)


def wrap(model: nn.Layer, *, find_unused_parameters: bool = False) -> nn.Layer:
    """The model such that its backward pass averages gradients over the processes."""
    if world_size() == 1:
        return model
    return paddle.DataParallel(model, find_unused_parameters=find_unused_parameters)


def any_rank(flag: bool) -> bool:
    """Whether the flag is set in any process. Every process must ask."""
    if world_size() == 1:
        return flag
    found = paddle.to_tensor([int(flag)], dtype="int32")
    dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return bool(found.item())


def mean(values: paddle.Tensor) -> paddle.Tensor:
    """The mean over processes."""
    if world_size() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / world_size()


def gather(items: Sequence[T]) -> list[T]:
    """The items of all processes, in the order of ranks, in every process."""
    if world_size() == 1:
        return list(items)
    lists: list[Any] = []
    dist.all_gather_object(lists, list(items))
    return [item for part in lists for item in part]


def from_main(value: T) -> T:
    """The first process's value, in every process."""
    if world_size() == 1:
        return value
    box: list[Any] = [value]
    dist.broadcast_object_list(box, src=0)
    found: T = box[0]
    return found


def clear_failures(folder: Path) -> None:
    """Forget what processes of an earlier run failed of."""
    for path in folder.glob("failure_rank*.txt"):
        with contextlib.suppress(OSError):
            path.unlink()


def report_failure(error: BaseException, folder: Path) -> None:
    """Tell the first process, whose output the user sees, why this one fails.

    A process that fails takes the others with it: they see a broken connection. So each leaves a note of its
    own reason, and the first one, failing of a broken connection, raises what the notes say.

    Args:
        error: What this process fails of.
        folder: Where notes are left; must be the same for all processes, as that of checkpoints is.

    Raises:
        TrainingError: In the first process, if another one's failure is the reason.
    """
    if world_size() == 1 or not isinstance(error, Exception):
        return
    broken = any(word in str(error).lower() for word in _BROKEN_CONNECTION)
    if not is_main():
        if not broken:
            text = f"process {rank()}: {type(error).__name__}: {error}"
            write_text(folder / f"failure_rank{rank()}.txt", text)
        return
    if broken:
        deadline = time.monotonic() + _NOTE_SECONDS
        notes: list[Path] = []
        while not notes and time.monotonic() < deadline:
            notes = sorted(folder.glob("failure_rank*.txt"))
            time.sleep(0.05)
        reason = "\n".join(path.read_text("utf-8") for path in notes) or (
            "another process ended without reporting an error (killed? out of memory?); see its workerlog"
        )
        raise TrainingError(f"training ended, because another process failed:\n{reason}") from error
