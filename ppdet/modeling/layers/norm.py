"""Normalisation layers by the names a YAML uses."""

from __future__ import annotations

from typing import Optional

import paddle
from paddle import nn

from ppdet.config.errors import ArgumentError

#: Names accepted for ``norm_type``.
NORM_TYPES = ("bn", "sync_bn")


def build_norm(
    channels: int,
    norm_type: str = "bn",
    *,
    frozen: bool = False,
    lr_mult: float = 1.0,
    decay: Optional[float] = 0.0,
) -> nn.Layer:
    """Batch normalisation over ``[N, C, H, W]`` maps.

    Args:
        channels: C.
        norm_type: ``bn``, or ``sync_bn`` to share batch statistics between GPUs; where there is
            only one process, or no GPU to run the synchronising kernel, ``sync_bn`` is ``bn``. The
            state-dict keys are the same.
        frozen: Always use the stored mean and variance and train nothing. Paddle's kernel with
            global statistics is what this uses: folding the scale into the convolution's weight
            was measured slower (a second copy of every weight and of its gradient in each step).
        lr_mult: Factor on the learning rate of scale and shift.
        decay: Own L2 factor of scale and shift; None for the optimizer's.

    Raises:
        ValueError: If `norm_type` is unknown.
    """
    if norm_type not in NORM_TYPES:
        raise ArgumentError("norm_type", f"expected one of {', '.join(NORM_TYPES)}, got {norm_type!r}")

    def attr() -> paddle.ParamAttr:
        return paddle.ParamAttr(
            learning_rate=0.0 if frozen else lr_mult,
            regularizer=None if decay is None else paddle.regularizer.L2Decay(decay),
            trainable=not frozen,
        )

    if norm_type == "sync_bn" and not frozen and _several_gpus():
        return nn.SyncBatchNorm(channels, weight_attr=attr(), bias_attr=attr())
    return nn.BatchNorm2D(
        channels, weight_attr=attr(), bias_attr=attr(), use_global_stats=True if frozen else None
    )


def _several_gpus() -> bool:
    return paddle.get_device().startswith("gpu") and paddle.distributed.get_world_size() > 1
