"""Non-maximum suppression: one call of Paddle's kernel for any number of images and classes.

Letters: B boxes, N images, R boxes per image, K classes, C candidates per image, D detections kept per image.
"""

from __future__ import annotations

from typing import NamedTuple, Optional, Union

import paddle
from paddle import Tensor
from paddle.vision import ops as kernels

from ppdet.ops.constants import Kept, arange, number
from ppdet.ops.indexing import (
    LOWEST,
    TopK,
    dim,
    gather_rows,
    place_rows,
    row_starts,
    static_dim,
    top_k,
)

#: Cells of the grid that keeps groups apart, by the number of groups.
_CELLS: Kept[Tensor] = Kept(64)
#: Marks a row that is always there.
_TRUE: Kept[Tensor] = Kept(8)


def batched_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, *, num_groups: Union[int, Tensor], iou_threshold: float
) -> Tensor:
    """Greedy NMS within groups, for instance one group per image, or per image and class.

    The boxes of each group are moved to a place of their own, far from the others, so one kernel call serves
    all. The places form a square grid around the origin and not a line: 640 groups (8 images, 80 classes) of
    1,333-pixel images then stay within 18,000 pixels of the origin, where float32 still resolves 0.002
    pixels; on a line they would reach 850,000 pixels and a resolution of 0.06.

    Args:
        boxes: ``[B, 4]`` float32 xyxy, finite; B may be 0 where it is known while tracing.
        scores: ``[B]`` float32.
        groups: ``[B]`` int64 in 0..num_groups-1. Boxes of different groups never suppress each other.
        num_groups: How many groups there can be.
        iou_threshold: A box is dropped if its IoU (no "+1") with a kept one is greater.

    Returns:
        ``[kept]`` int64 rows of `boxes`, by falling score over all groups; equal scores by rising row, so
        that of equal boxes with equal scores the first is kept.
    """
    if static_dim(boxes, 0) == 0:  # has no maximum
        return paddle.zeros([0], dtype="int64")
    apart = _apart(boxes, groups, num_groups)
    order = paddle.argsort(scores, descending=True, stable=True)
    return paddle.gather(order, kernels.nms(paddle.gather(apart, order), iou_threshold))


def _apart(boxes: Tensor, groups: Tensor, num_groups: Union[int, Tensor]) -> Tensor:
    """Boxes ``[B, 4]`` moved to the places of their groups."""
    width = boxes.max() - boxes.min() + 1.0
    return boxes + paddle.gather(group_cells(num_groups), groups) * width


def group_cells(num_groups: Union[int, Tensor]) -> Tensor:
    """Shifts ``[num_groups, 4]``, in cells, that bring each group to its own cell of a square grid.

    Cells must be wider than the boxes of all groups together.
    """
    return _CELLS.get(num_groups, lambda: _square_grid(arange(num_groups).astype("float32")))


def _square_grid(numbers: Tensor) -> Tensor:
    """x, y, x, y of as many cells around the origin: ``[G]`` float32 0..G-1 -> ``[G, 4]``."""
    side = paddle.ceil(paddle.sqrt(numbers[-1:] + 1.0))
    row = paddle.floor(numbers / side)
    middle = paddle.floor(side / 2)
    x, y = numbers - row * side - middle, row - middle
    return paddle.stack([x, y, x, y], axis=1)


class ClassWiseNms(NamedTuple):
    """Detections of a batch, by falling score within each image, padded to D.

    Attributes:
        boxes: ``[N, D, 4]`` float32 xyxy; zeros in padded rows.
        scores: ``[N, D]`` float32; 0 in padded rows.
        labels: ``[N, D]`` int64 in 0..K-1; -1 in padded rows.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def class_wise_nms(
    boxes: Tensor,
    scores: Tensor,
    *,
    score_threshold: float,
    iou_threshold: float,
    keep_top_k: int,
    pre_nms_top_k: Optional[int] = None,
    max_candidates: int = 4096,
) -> ClassWiseNms:
    """NMS within every class of every image, as one batched call.

    First the `max_candidates` best (box, class) pairs of each image are taken. That is exact as long as
    `keep_top_k` of them survive or fewer than `max_candidates` pass the threshold: greedy NMS decides on a
    pair by looking only at better ones. It bounds the quadratic cost of NMS for untrained heads, where
    everything passes the threshold.

    Args:
        boxes: ``[N, R, K, 4]`` float32 xyxy, a box per class, or ``[N, R, 1, 4]`` shared by all classes;
            R may be 0 where it is known while tracing.
        scores: ``[N, R, K]`` float32 without background; at most `score_threshold` in rows that are padding.
        score_threshold: Kept scores are strictly greater.
        iou_threshold: A box is dropped if its IoU with a better kept one of its class is greater.
        keep_top_k: D, detections kept per image over all classes.
        pre_nms_top_k: Best boxes per class and image that enter NMS; None for all.
        max_candidates: Pairs per image that enter NMS over all classes, >= `keep_top_k`.

    Returns:
        Detections sorted by falling score over all classes. The order of equal scores is unspecified.

    Raises:
        ValueError: If `max_candidates` is smaller than `keep_top_k`.
    """
    if max_candidates < keep_top_k:
        raise ValueError(f"max_candidates {max_candidates} is smaller than keep_top_k {keep_top_k}")
    images, classes = dim(scores, 0), scores.shape[2]
    if static_dim(scores, 1) == 0:  # a row that never passes, for there to be a first candidate
        boxes = paddle.zeros([images, 1, boxes.shape[2], 4], dtype=boxes.dtype)
        scores = paddle.full([images, 1, classes], score_threshold, dtype=scores.dtype)
    best = top_k(paddle.flatten(scores, 1), max_candidates)
    passes = best.values > number(score_threshold, scores)
    if pre_nms_top_k is not None and pre_nms_top_k < max_candidates:
        passes = passes & (_rank_in_class(best.columns % classes, passes, classes) < pre_nms_top_k)

    kept = _survivors(boxes, best, passes, classes, iou_threshold)
    top = top_k(kept, keep_top_k)
    return _detections(boxes, top.values, gather_rows(best.columns, top.columns), classes)


def _survivors(boxes: Tensor, best: TopK, passes: Tensor, classes: int, iou_threshold: float) -> Tensor:
    """Scores ``[N, C]`` of candidates that survive NMS within their class; `LOWEST` of all others."""
    images, candidates, shared = dim(passes, 0), passes.shape[1], boxes.shape[2] == 1
    # Pairs of all images are numbered on, so that a number gives the box and the class.
    pairs = best.columns + row_starts(images, dim(boxes, 1) * classes)
    # One row per pair that passed, and the first candidate again, of an image beyond the last.
    places = _rows_and_spare(passes)
    total, count = images * candidates, number(classes, places)
    rows = places % total
    pair = paddle.gather(paddle.flatten(pairs), rows)
    box = paddle.gather(paddle.reshape(boxes, [-1, 4]), pair // count if shared else pair)
    groups = places // number(candidates, places) * classes + pair % count
    # Without sorting, as the candidates of an image come best first.
    kept = kernels.nms(_apart(box, groups, (images + 1) * classes), iou_threshold)
    # Back among the candidates, where the spare one has no place.
    score = paddle.gather(paddle.flatten(best.values), paddle.gather(rows, kept))
    placed = place_rows(score, paddle.gather(places, kept), total, fill=LOWEST)
    return paddle.reshape(placed, [-1, candidates])


def _detections(boxes: Tensor, scores: Tensor, pairs: Tensor, classes: int) -> ClassWiseNms:
    """Detections of ``[N, D]`` pairs of a box and a class; none where the score is `LOWEST`."""
    valid, shared = scores > number(LOWEST, scores), boxes.shape[2] == 1
    pairs = pairs * valid.astype(pairs.dtype)  # others may lie beyond the last
    count = number(classes, pairs)
    flat = paddle.reshape(boxes, [dim(boxes, 0), -1, 4])
    picked = gather_rows(flat, pairs // count if shared else pairs)
    labels = pairs % count
    return ClassWiseNms(
        picked * valid.unsqueeze(-1).astype(picked.dtype),
        paddle.clip(scores, min=0.0),
        paddle.where(valid, labels, paddle.full_like(labels, -1)),
    )


def _rows_and_spare(passes: Tensor) -> Tensor:
    """Flat places of True, and one after the last: oneDNN of Paddle Inference 3.3 fails on empty tensors."""
    spare = _TRUE.get((), lambda: paddle.ones([1], dtype="bool"))
    return paddle.nonzero(paddle.concat([paddle.flatten(passes), spare])).squeeze(1)


def _rank_in_class(labels: Tensor, passes: Tensor, classes: int) -> Tensor:
    """How many better candidates of its class each candidate has: ``[N, C]`` labels -> ``[N, C]``."""
    member = (labels.unsqueeze(-1) == arange(classes)) & passes.unsqueeze(-1)
    member = member.astype("int64")
    return (paddle.cumsum(member, axis=1) * member).sum(axis=-1) - 1
