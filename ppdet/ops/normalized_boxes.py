"""Boxes as centre and size in units of the image, as query detectors predict them, and their logits.

Letters: ``...`` any leading dimensions.
"""

from __future__ import annotations

import paddle
from paddle import Tensor

#: Least probability and least complement that `inverse_sigmoid` resolves; published weights depend on it.
_EPS = 1e-5


def to_corners(boxes: Tensor) -> Tensor:
    """Centre x, y, width, height to x1, y1, x2, y2, ``[..., 4]`` each."""
    centre, size = paddle.split(boxes, 2, axis=-1)
    half = 0.5 * size
    return paddle.concat([centre - half, centre + half], axis=-1)


def to_centres(boxes: Tensor) -> Tensor:
    """x1, y1, x2, y2 to centre x, y, width, height, ``[..., 4]`` each."""
    low, high = paddle.split(boxes, 2, axis=-1)
    return paddle.concat([0.5 * (low + high), high - low], axis=-1)


def inverse_sigmoid(probabilities: Tensor) -> Tensor:
    """Logits of probabilities; those outside 0..1 count as 0 or 1, and both ends are cut at 1e-5."""
    inside = paddle.clip(probabilities, 0.0, 1.0)
    return paddle.log(paddle.clip(inside, min=_EPS) / paddle.clip(1 - inside, min=_EPS))
