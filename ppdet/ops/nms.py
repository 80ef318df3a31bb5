"""Non-maximum suppression: one call of Paddle's kernel for any number of images and classes.

Letters: B boxes, N images, R boxes per image, K classes, C candidates per image, P candidates of all images
that passed the threshold, D detections kept per image.
"""

from __future__ import annotations

from typing import NamedTuple, Optional, Union

import paddle
from paddle import Tensor
from paddle.vision import ops as kernels

from ppdet.ops.indexing import LOWEST, dim, place_rows, top_k


def batched_nms(boxes: Tensor, scores: Tensor, groups: Tensor, *, iou_threshold: float) -> Tensor:
    """Greedy NMS within groups, for instance one group per image, or per image and class.

    The boxes of each group are moved to a place of their own, far from the others, so one kernel call serves
    all. The places form a square grid around the origin and not a line: 640 groups (8 images, 80 classes) of
    1,333-pixel images then stay within 18,000 pixels of the origin, where float32 still resolves 0.002
    pixels; on a line they would reach 850,000 pixels and a resolution of 0.06.

    Args:
        boxes: ``[B, 4]`` float32 xyxy, finite; B may be 0.
        scores: ``[B]`` float32.
        groups: ``[B]`` int64, >= 0. Boxes of different groups never suppress each other.
        iou_threshold: A box is dropped if its IoU (no "+1") with a kept one is greater.

    Returns:
        ``[kept]`` int64 rows of `boxes`, by falling score over all groups; equal scores by rising row, so
        that of equal boxes with equal scores the first is kept.
    """
    return nms(set_apart(boxes, groups), scores, iou_threshold=iou_threshold)


def nms(boxes: Tensor, scores: Tensor, *, iou_threshold: float) -> Tensor:
    """Greedy NMS; arguments and result as of `batched_nms`."""
    order = paddle.argsort(scores, descending=True, stable=True)
    return paddle.gather(order, kernels.nms(paddle.gather(boxes, order), iou_threshold))


def set_apart(boxes: Tensor, groups: Tensor) -> Tensor:
    """Boxes ``[B, 4]``, those of each group ``[B]`` moved to a place where they meet no others."""
    return boxes + _group_offsets(boxes, groups)


def _group_offsets(boxes: Tensor, groups: Tensor) -> Tensor:
    """Shifts ``[B, 4]`` that bring each group to its own cell of a square grid around the origin."""
    # The zeros make maximum and minimum defined for no boxes at all.
    zero = paddle.zeros([1], dtype=boxes.dtype)
    edges = paddle.concat([paddle.flatten(boxes), zero])
    cell = edges.max() - edges.min() + 1.0
    last = paddle.concat([groups, paddle.zeros([1], dtype=groups.dtype)]).max().astype(boxes.dtype)
    side = paddle.ceil(paddle.sqrt(last + 1.0))
    index = groups.astype(boxes.dtype)
    row = paddle.floor(index / side)
    column = index - row * side
    middle = paddle.floor(side / 2)
    offset = paddle.stack([column - middle, row - middle], axis=1) * cell
    return paddle.concat([offset, offset], axis=1)


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
        boxes: ``[N, R, K, 4]`` float32 xyxy, a box per class, or ``[N, R, 1, 4]`` shared by all classes.
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
    shared = boxes.shape[2] == 1
    best = top_k(paddle.flatten(scores, 1), max_candidates)
    passes = best.values > score_threshold
    if pre_nms_top_k is not None and pre_nms_top_k < max_candidates:
        passes = passes & (_rank_in_class(best.columns % classes, passes, classes) < pre_nms_top_k)

    # From here on, one row per (image, box, class) that passed, whatever its image.
    rows = paddle.nonzero(paddle.flatten(passes)).squeeze(1)
    image = rows // max_candidates
    pair = paddle.gather(paddle.flatten(best.columns), rows)
    score = paddle.gather(paddle.flatten(best.values), rows)
    label = pair % classes
    # Row of the flattened boxes: (image, box) where shared, (image, box, class) where not.
    box_row = image * dim(boxes, 1) + pair // classes if shared else image * (dim(boxes, 1) * classes) + pair
    box = paddle.gather(paddle.reshape(boxes, [-1, 4]), box_row)
    # The spare row comes last of all and has group 0.
    box, score = _with_spare(box, 0), _with_spare(score, LOWEST)
    image, label = _with_spare(image, -1), _with_spare(label, classes)
    kept = batched_nms(box, score, image * classes + label, iou_threshold=iou_threshold)

    image, box, score, label = (paddle.gather(x, kept) for x in (image, box, score, label))
    return _padded(box, score, label, _slots(image, images, keep_top_k), images, keep_top_k)


def _padded(
    box: Tensor, score: Tensor, label: Tensor, slots: Tensor, images: Union[int, Tensor], keep_top_k: int
) -> ClassWiseNms:
    """Detections of all images, put into their slots of the padded result."""
    total = images * keep_top_k
    return ClassWiseNms(
        paddle.reshape(place_rows(box, slots, total), [-1, keep_top_k, 4]),
        paddle.reshape(place_rows(score, slots, total), [-1, keep_top_k]),
        paddle.reshape(place_rows(label, slots, total, fill=-1), [-1, keep_top_k]),
    )


def _with_spare(x: Tensor, fill: float) -> Tensor:
    """One more row, of no image: oneDNN kernels of Paddle Inference 3.3 fail on empty tensors."""
    return paddle.concat([x, paddle.full([1, *x.shape[1:]], fill, dtype=x.dtype)])


def _rank_in_class(labels: Tensor, passes: Tensor, classes: int) -> Tensor:
    """How many better candidates of its class each candidate has: ``[N, C]`` labels -> ``[N, C]``."""
    member = (labels.unsqueeze(-1) == paddle.arange(classes, dtype=labels.dtype)) & passes.unsqueeze(-1)
    member = member.astype("int64")
    return (paddle.cumsum(member, axis=1) * member).sum(axis=-1) - 1


def _slots(image: Tensor, images: Union[int, Tensor], keep_top_k: int) -> Tensor:
    """Row of the padded ``[N * D]`` result for each detection; N * D beyond the D best, or of no image."""
    member = (image.unsqueeze(1) == paddle.arange(images, dtype=image.dtype)).astype("int64")
    rank = (paddle.cumsum(member, axis=0) * member).sum(axis=1) - 1
    dropped = paddle.full_like(image, 1) * images * keep_top_k
    return paddle.where((rank >= 0) & (rank < keep_top_k), image * keep_top_k + rank, dropped)
