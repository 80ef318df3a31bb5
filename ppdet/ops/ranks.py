"""Numbers that all processes of a training share."""

from __future__ import annotations

import paddle
import paddle.distributed as dist
from paddle import Tensor


@paddle.no_grad()
def mean_over_ranks(value: Tensor, *, training: bool) -> Tensor:
    """The mean of a number over all processes, for the divisor of a loss.

    Gradients are averaged over processes. A loss that every process divides by this mean has the gradient
    that one process with all images would have.

    Args:
        value: Scalar, float.
        training: Whether all processes take this step together. Evaluation is not synchronised: one process
            may have more batches than another, and gets its own number back.

    Returns:
        Scalar without gradient.
    """
    value = value.detach()
    world = dist.get_world_size()
    if training and world > 1:
        value = value.clone()
        dist.all_reduce(value)
        value = value / world
    return value
