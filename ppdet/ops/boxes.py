"""Arithmetic on boxes: areas, the IoU family, clipping, and the delta parametrisation.

Boxes are float32 x1, y1, x2, y2 in absolute pixels on a continuous axis: the width is x2 - x1, no "+1".
A box with x2 <= x1 or y2 <= y1 is empty: its area is 0 and it overlaps nothing.

Letters: A, B numbers of boxes, ``...`` any leading dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import paddle
from paddle import Tensor

from ppdet.ops.constants import constant, indices, number

#: Largest log-scale delta that `decode_deltas` follows: a box grows at most 1000/16 = 62.5 times. Keeps exp
#: finite for untrained heads; published weights were trained with this value.
LOG_SCALE_LIMIT = math.log(1000.0 / 16.0)

#: Keeps the quotient of two zero areas finite; in square pixels, far below the area of any real box.
_EPS = 1e-9


def box_area(boxes: Tensor) -> Tensor:
    """Areas of boxes, 0 for empty ones.

    Args:
        boxes: ``[..., 4]`` float xyxy.

    Returns:
        ``[...]`` square pixels, >= 0.
    """
    lower, upper = paddle.split(boxes, 2, axis=-1)
    return paddle.clip(upper - lower, min=0.0).prod(axis=-1)


def non_empty(boxes: Tensor, min_side: float = 0.0) -> Tensor:
    """Which boxes have both sides longer than `min_side`.

    Args:
        boxes: ``[..., 4]`` float xyxy.
        min_side: Pixels; the side must be strictly longer.

    Returns:
        ``[...]`` bool.
    """
    lower, upper = paddle.split(boxes, 2, axis=-1)
    return (upper - lower > number(min_side, boxes)).all(axis=-1)


def per_corner(pairs: Tensor, boxes: Tensor) -> Tensor:
    """Numbers per image and axis in the order of box corners, ready to be combined with boxes.

    Args:
        pairs: ``[N, 2]`` float (y, x), such as sizes or scale factors.
        boxes: ``[N, ..., 4]`` float xyxy; gives type and dimensions.

    Returns:
        ``[N, 1, ..., 4]`` x, y, x, y.
    """
    corners = paddle.gather(pairs, indices([1, 0, 1, 0]), axis=1).astype(boxes.dtype)
    return corners.unsqueeze(list(range(1, boxes.ndim - 1)))


def clip_boxes(boxes: Tensor, image_sizes: Tensor, *, last_pixel: float = 0.0) -> Tensor:
    """Boxes cut to their image.

    Args:
        boxes: ``[N, ..., 4]`` float xyxy.
        image_sizes: ``[N, 2]`` float (height, width) of each image.
        last_pixel: Pixels that remain of a box outside of the image; see `BoxConventions`.

    Returns:
        Same shape as `boxes`, x within 0..width, y within 0..height.
    """
    limits = per_corner(image_sizes, boxes)
    if last_pixel == 0:
        return paddle.minimum(paddle.clip(boxes, min=0.0), limits)
    inset = _last_pixels(boxes, last_pixel)
    return paddle.minimum(paddle.clip(boxes - inset, min=0.0), limits - last_pixel) + inset


def scale_boxes(boxes: Tensor, factors: Tensor, *, last_pixel: float = 0.0) -> Tensor:
    """Boxes in an image that is resized.

    Args:
        boxes: ``[N, ..., 4]`` float xyxy.
        factors: ``[N, 2]`` float (y, x), new / old size.
        last_pixel: Pixels at the right and bottom of a box that are not scaled; see `BoxConventions`.

    Returns:
        Same shape as `boxes`.
    """
    by_corner = per_corner(factors, boxes)
    if last_pixel == 0:
        return boxes * by_corner
    inset = _last_pixels(boxes, last_pixel)
    return (boxes - inset) * by_corner + inset


def inset_boxes(boxes: Tensor, last_pixel: float) -> Tensor:
    """Boxes ``[..., 4]`` without their last pixels at the right and bottom; see `BoxConventions`."""
    return boxes if last_pixel == 0 else boxes - _last_pixels(boxes, last_pixel)


def _last_pixels(boxes: Tensor, last_pixel: float) -> Tensor:
    return constant([0.0, 0.0, last_pixel, last_pixel], boxes)


def _overlap_and_union(boxes1: Tensor, boxes2: Tensor) -> tuple[Tensor, Tensor]:
    """Areas ``[...]`` that two boxes share, and that they cover: ``[..., 4]`` and ``[..., 4]``, broadcast."""
    left1, top1, right1, bottom1 = boxes1.unbind(-1)
    left2, top2, right2, bottom2 = boxes2.unbind(-1)
    width = paddle.minimum(right1, right2) - paddle.maximum(left1, left2)
    height = paddle.minimum(bottom1, bottom2) - paddle.maximum(top1, top2)
    overlap = _area(width, height)
    return overlap, _area(right1 - left1, bottom1 - top1) + _area(right2 - left2, bottom2 - top2) - overlap


def _area(width: Tensor, height: Tensor) -> Tensor:
    # Both factors are cut at zero, so an empty box, whose "width" is negative, overlaps nothing.
    return paddle.clip(width, min=0.0) * paddle.clip(height, min=0.0)


def pairwise_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Intersection over union of every box with every other.

    Args:
        boxes1: ``[..., A, 4]`` float xyxy.
        boxes2: ``[..., B, 4]`` float xyxy, same leading dimensions.

    Returns:
        ``[..., A, B]`` in 0..1; 0 where either box is empty.
    """
    # Pairs are many, and reducing the last axis is slow, so x and y come before the rows: ``[..., 2, A, B]``.
    lower1, upper1 = paddle.split(_transposed(boxes1).unsqueeze(-1), 2, axis=-3)
    lower2, upper2 = paddle.split(_transposed(boxes2).unsqueeze(-2), 2, axis=-3)
    sides = paddle.minimum(upper1, upper2) - paddle.maximum(lower1, lower2)
    overlap = paddle.clip(sides, min=0.0).prod(axis=-3)
    # The areas of boxes that are inside out may be anything, since these overlap nothing.
    union = (upper1 - lower1).prod(axis=-3) + (upper2 - lower2).prod(axis=-3) - overlap
    return overlap / paddle.clip(union, min=_EPS)


def _transposed(boxes: Tensor) -> Tensor:
    """``[..., A, 4]`` to ``[..., 4, A]``."""
    axes = list(range(boxes.ndim))
    return boxes.transpose([*axes[:-2], axes[-1], axes[-2]])


def paired_iou(boxes1: Tensor, boxes2: Tensor, *, kind: str = "iou") -> Tensor:
    """Similarity of boxes row by row, differentiable in both.

    ``iou``: intersection over union. ``giou``: minus the share of the enclosing box that neither covers
    (Rezatofighi et al. 2019, algorithm 1). ``diou``: iou minus squared centre distance over squared diagonal
    of the enclosing box (Zheng et al. 2020, eq. 7). ``ciou``: diou minus the aspect-ratio term alpha * v
    (eqs. 8-11), with alpha held constant in the gradient as the paper's section "Complete IoU" does.

    Args:
        boxes1: ``[..., 4]`` float xyxy.
        boxes2: ``[..., 4]`` float xyxy, broadcastable with `boxes1`.
        kind: ``iou``, ``giou``, ``diou`` or ``ciou``.

    Returns:
        ``[...]``; iou in 0..1, giou and diou in -1..1, ciou in -2..1. 1 only for equal, non-empty boxes.

    Raises:
        ValueError: If `kind` is none of the four.
    """
    if kind not in ("iou", "giou", "diou", "ciou"):
        raise ValueError(f"kind of IoU is {kind!r}, expected iou, giou, diou or ciou")
    overlap, union = _overlap_and_union(boxes1, boxes2)
    iou = overlap / paddle.clip(union, min=_EPS)
    if kind == "iou":
        return iou
    sides = paddle.maximum(boxes1[..., 2:], boxes2[..., 2:]) - paddle.minimum(
        boxes1[..., :2], boxes2[..., :2]
    )
    if kind == "giou":
        enclosing = paddle.clip(sides[..., 0] * sides[..., 1], min=_EPS)
        return iou - (enclosing - union) / enclosing
    offset = (boxes1[..., :2] + boxes1[..., 2:] - boxes2[..., :2] - boxes2[..., 2:]) / 2
    diou = iou - (offset**2).sum(axis=-1) / paddle.clip((sides**2).sum(axis=-1), min=_EPS)
    if kind == "diou":
        return diou
    return diou - _aspect_ratio_penalty(boxes1, boxes2, iou)


def _aspect_ratio_penalty(boxes1: Tensor, boxes2: Tensor, iou: Tensor) -> Tensor:
    """The term alpha * v of CIoU (Zheng et al. 2020, eqs. 9 and 11)."""
    angles = []
    for boxes in (boxes1, boxes2):
        sides = paddle.clip(boxes[..., 2:] - boxes[..., :2], min=_EPS)
        angles.append(paddle.atan(sides[..., 0] / sides[..., 1]))
    v = (4 / math.pi**2) * (angles[0] - angles[1]) ** 2
    alpha = (v / paddle.clip(1 - iou + v, min=_EPS)).detach()
    return alpha * v


def encode_deltas(
    boxes: Tensor, targets: Tensor, *, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)
) -> Tensor:
    """Deltas that turn `boxes` into `targets` (Girshick et al. 2014, R-CNN, appendix C, eqs. 6-9).

    Args:
        boxes: ``[..., 4]`` float xyxy: anchors or proposals. Must not be empty boxes.
        targets: ``[..., 4]`` float xyxy, broadcastable with `boxes`. Must not be empty boxes.
        weights: Factors of dx, dy, dw, dh; 10 10 5 5 for the box head of R-CNN.

    Returns:
        ``[..., 4]`` dx, dy, dw, dh. Finite, but without meaning, for empty boxes.
    """
    lower, upper = paddle.split(boxes, 2, axis=-1)
    target_lower, target_upper = paddle.split(targets, 2, axis=-1)
    sizes = paddle.clip(upper - lower, min=_EPS)
    target_sizes = paddle.clip(target_upper - target_lower, min=_EPS)
    centres = lower + 0.5 * sizes
    target_centres = target_lower + 0.5 * target_sizes
    shift = (target_centres - centres) / sizes
    scale = paddle.log(target_sizes / sizes)
    return paddle.concat([shift, scale], axis=-1) * constant(weights, boxes)


def decode_deltas(
    boxes: Tensor,
    deltas: Tensor,
    *,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    limited: bool = True,
) -> Tensor:
    """Boxes moved by deltas: the inverse of `encode_deltas`, with dw and dh cut at `LOG_SCALE_LIMIT`.

    Args:
        boxes: ``[..., 4]`` float xyxy.
        deltas: ``[..., 4]`` dx, dy, dw, dh, broadcastable with `boxes`: ``[R, 1, 4]`` boxes and ``[R, K, 4]``
            deltas give a box per class.
        weights: As they were in `encode_deltas`.
        limited: Cut dw and dh; without it an untrained network can give infinite boxes.

    Returns:
        ``[..., 4]`` float xyxy, not clipped to any image.
    """
    if any(weight != 1 for weight in weights):
        deltas = deltas / constant(weights, deltas)
    lower, upper = paddle.split(boxes, 2, axis=-1)
    shift, growth = paddle.split(deltas, 2, axis=-1)
    sizes = upper - lower
    half_sizes = 0.5 * sizes
    new_centres = shift * sizes + (lower + half_sizes)
    growth = paddle.clip(growth, max=LOG_SCALE_LIMIT) if limited else growth
    half = paddle.exp(growth) * half_sizes
    return paddle.concat([new_centres - half, new_centres + half], axis=-1)
