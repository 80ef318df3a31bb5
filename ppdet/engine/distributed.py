"""What several processes agree on, over `paddle.distributed`; with one process nothing happens.

Start them with ``ppdet launch``, which also ends all of them when one fails.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Sequence
from typing import Any, TypeVar

import paddle
import paddle.distributed as dist
from paddle import nn

from ppdet.engine.failures import watch_launcher
from ppdet.utils.errors import TrainingError

#: Numbers of gradients that travel together: 32 MB.
_BUCKET = 8 << 20

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
    """Join the other processes, if launched with some. All but the first log only warnings.

    Raises:
        TrainingError: If they cannot be reached.
    """
    if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1 and not dist.is_initialized():
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # a banner with Paddle's own flags
                dist.init_parallel_env()
        except (RuntimeError, SystemError, OSError) as error:
            raise TrainingError(
                f"process {os.environ.get('PADDLE_TRAINER_ID')} cannot join the others, of which the first "
                f"is at {os.environ.get('PADDLE_MASTER')}: {str(error).strip().splitlines()[-1]}. Start with "
                "`ppdet launch`, which finds the addresses of all machines and says what is wrong"
            ) from error
        watch_launcher()
    if not is_main():
        logging.getLogger("ppdet").setLevel(logging.WARNING)


def wrap(model: nn.Layer, *, find_unused_parameters: bool = False) -> nn.Layer:
    """The model such that its backward pass averages gradients over the processes."""
    if world_size() == 1:
        return model
    return paddle.DataParallel(model, find_unused_parameters=find_unused_parameters)


def averages_after_backward() -> bool:
    """Whether gradients are averaged by `average_gradients`, not within the backward pass.

    So it is with gloo, on processors: when another process is gone, an error of gloo inside of Paddle's
    backward pass aborts this process (Paddle 3.3.1 translates only its own errors there), and nothing could
    be saved.
    """
    return world_size() > 1 and str(dist.get_backend()) == "GLOO"


def average_gradients(model: nn.Layer, *, missing_is_zero: bool) -> None:
    """Replace every gradient by its mean over the processes.

    Args:
        model: Its trainable parameters have gradients, on every process the same ones.
        missing_is_zero: Take a gradient that is not there as 0.

    Raises:
        TrainingError: If a gradient is not there; names its parameter.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.trainable]
    for name, parameter in named:
        if parameter.grad is None and not missing_is_zero:
            raise TrainingError(
                f"{name} has no gradient in this step, so it cannot be averaged over the processes. Set "
                "find_unused_parameters: true"
            )
    parameters = [parameter for _, parameter in named]
    grads = [paddle.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    for start, end in _buckets([grad.size for grad in grads]):
        flat = paddle.concat([grad.reshape([-1]) for grad in grads[start:end]])
        dist.all_reduce(flat)
        parts = paddle.split(flat / world_size(), [grad.size for grad in grads[start:end]])
        for parameter, part in zip(parameters[start:end], parts):
            parameter.grad = part.reshape(parameter.shape)


def _buckets(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Ranges of gradients that travel together: few messages, and no second copy of all gradients at once."""
    found, start, total = [], 0, 0
    for index, size in enumerate(sizes):
        if total and total + size > _BUCKET:
            found.append((start, index))
            start, total = index, 0
        total += size
    return [*found, (start, len(sizes))] if sizes else []


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
