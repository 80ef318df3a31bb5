"""What a GPU can be told about the convolutions of a training."""

from __future__ import annotations

import logging
from typing import Any

import paddle

logger = logging.getLogger(__name__)


def tune(*, channels_last: bool, cudnn_exhaustive_search: bool) -> None:
    """Let Paddle choose layouts and algorithms of convolutions on a GPU; elsewhere warn that it cannot.

    Args:
        channels_last: Run convolutions in NHWC where that is faster, which tensor cores prefer under mixed
            precision. Paddle turns the tensors on the way; the model stays as it is.
        cudnn_exhaustive_search: Try cuDNN's algorithms for every shape in the first steps and keep the
        fastest.
            It pays where images have one size, and costs where they have many.
    """
    wanted = {"channels_last": channels_last, "cudnn_exhaustive_search": cudnn_exhaustive_search}
    named = " and ".join(name for name, value in wanted.items() if value)
    if not named:
        return
    if not paddle.get_device().startswith("gpu"):
        logger.warning("%s left out: for GPUs only, this is %s", named, paddle.get_device())
        return
    chosen: Any = {"layout": {"enable": channels_last}, "kernel": {"enable": cudnn_exhaustive_search}}
    paddle.incubate.autotune.set_config(chosen)
