"""Doubling of the resolution of feature maps, with operators that every runtime supports."""

from __future__ import annotations

import paddle
from paddle import Tensor

from ppdet.ops.indexing import dim


def double_nearest(features: Tensor, like: Tensor) -> Tensor:
    """Each cell repeated 2 x 2, cut to the size of another map; nearest-neighbour interpolation.

    Written with `stack`: Paddle Inference cannot run `interpolate` under oneDNN (3.3 stops with
    "not support ArrayAttribute<DoubleAttribute>"), whether it is given a size or a factor.

    Args:
        features: ``[N, C, h, w]``.
        like: ``[N, C', H, W]`` with H in {2h - 1, 2h} and W in {2w - 1, 2w}.

    Returns:
        ``[N, C, H, W]``. Equal to interpolation to that size also where it is odd: for 0 <= i < 2h - 1,
        floor(i * h / (2h - 1)) = floor(i / 2).
    """
    wide = paddle.stack([features, features], axis=4).flatten(3)
    doubled = paddle.stack([wide, wide], axis=3).flatten(2, 3)
    return doubled[:, :, : dim(like, 2), : dim(like, 3)]
