"""Doubling of the resolution of feature maps, spelt so that every runtime can run it."""

from __future__ import annotations

from paddle import Tensor

from ppdet.ops.indexing import dim


def double_nearest(features: Tensor, like: Tensor) -> Tensor:
    """Each cell repeated 2 x 2, cut to the size of another map; nearest-neighbour interpolation.

    Written with `expand`: Paddle Inference cannot run `interpolate` under oneDNN (3.3 stops with
    "not support ArrayAttribute<DoubleAttribute>"), whether it is given a size or a factor.

    Args:
        features: ``[N, C, h, w]``.
        like: ``[N, C', H, W]`` with H in {2h - 1, 2h} and W in {2w - 1, 2w}.

    Returns:
        ``[N, C, H, W]``. Equal to interpolation to that size also where it is odd: for 0 <= i < 2h - 1,
        floor(i * h / (2h - 1)) = floor(i / 2).
    """
    batch, height, width = dim(features, 0), dim(features, 2), dim(features, 3)
    channels = features.shape[1]
    repeated = features.reshape([batch, channels, height, 1, width, 1]).expand(
        [batch, channels, height, 2, width, 2]
    )
    doubled = repeated.reshape([batch, channels, 2 * height, 2 * width])
    return doubled[:, :, : dim(like, 2), : dim(like, 3)]
