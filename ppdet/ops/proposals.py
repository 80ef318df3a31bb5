"""From the outputs of a region proposal network to candidate regions.

Letters: N images, L levels, A_l anchors of a level, k_l candidates of a level, R regions kept per image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Union

import paddle
from paddle import Tensor
from paddle.vision import ops as kernels

from ppdet.ops.boxes import clip_boxes, decode_deltas
from ppdet.ops.constants import Kept, arange, number
from ppdet.ops.indexing import LOWEST, dim, filled, gather_rows, static_dim, top_k
from ppdet.ops.nms import group_cells

#: Most boxes in one call of NMS, whose memory grows with their square, unless one image has more.
_BOXES_AT_ONCE = 8192
#: First anchors of levels, by candidates and anchors of each.
_STARTS: Kept[Tensor] = Kept(64)
#: Candidates by level, by images and candidates of each level.
_ORDERS: Kept[Tensor] = Kept(64)

#: A length; a tensor in a static graph where it varies.
Size = Union[int, Tensor]


class RankedRegions(NamedTuple):
    """Regions of a batch, best first, padded to R; the fields of `ppdet.structures.Proposals`.

    Attributes:
        boxes: ``[N, R, 4]`` float32 xyxy, clipped to the image; zeros in padded rows.
        objectness_logits: ``[N, R]`` float32; the lowest float in padded rows.
        valid: ``[N, R]`` bool.
    """

    boxes: Tensor
    objectness_logits: Tensor
    valid: Tensor


def generate_proposals(
    objectness_logits: Tensor,
    deltas: Tensor,
    anchors: Sequence[Tensor],
    image_sizes: Tensor,
    *,
    pre_nms_top_n: int,
    post_nms_top_n: int,
    nms_thresh: float,
    min_size: float = 0.0,
    last_pixel: float = 0.0,
) -> RankedRegions:
    """Best regions of each image (Ren et al. 2015, section 3.3; per level: Lin et al. 2017, FPN, section
    4.1).

    On each level: the `pre_nms_top_n` best anchors, decoded, clipped, without those smaller than `min_size`,
    and NMS within the image. Over all levels: the `post_nms_top_n` best that are left. Limiting a level to
    `post_nms_top_n` before collecting would give the same regions. No gradient passes.

    Args:
        objectness_logits: ``[N, A]`` float32, level after level; A is the sum of the A_l.
        deltas: ``[N, A, 4]`` float32 with weights 1.
        anchors: L tensors ``[A_l, 4]`` float32 xyxy, A_l >= 1.
        image_sizes: ``[N, 2]`` float32 (height, width) without padding; regions are clipped to it.
        pre_nms_top_n: Candidates per level that enter NMS.
        post_nms_top_n: R.
        nms_thresh: A candidate is dropped if its IoU with a better one of its level is greater.
        min_size: Smallest side in pixels that is kept; never less than 1.
        last_pixel: As in `clip_boxes`.

    Returns:
        Regions by falling logit, over all levels.
    """
    # Detached, not under `no_grad`, whose decorator loses keyword-only arguments when a graph is traced.
    chosen = _candidates(objectness_logits.detach(), anchors, pre_nms_top_n)
    columns, scores = chosen.columns, paddle.concat(chosen.scores, axis=1)
    picked = paddle.gather_nd(paddle.concat(list(anchors)), columns.unsqueeze(-1))
    moved = decode_deltas(picked, gather_rows(deltas.detach(), columns))
    boxes = clip_boxes(moved, image_sizes, last_pixel=last_pixel)
    lower, upper = paddle.split(boxes, 2, axis=-1)
    usable = (upper - lower >= number(max(min_size, 1.0), boxes)).all(axis=-1)
    kept = _survivors(boxes, chosen.scores, usable, image_sizes, nms_thresh)
    lowest = filled([dim(scores, 0), scores.shape[1]], LOWEST, scores.dtype)
    best = top_k(paddle.where(kept, scores, lowest), post_nms_top_n)
    valid = best.values > number(LOWEST, scores)
    collected = gather_rows(boxes, paddle.clip(best.columns, max=boxes.shape[1] - 1))
    return RankedRegions(collected * valid.unsqueeze(-1).astype(collected.dtype), best.values, valid)


def _limit(anchors: Tensor, top_n: int) -> int:
    """Candidates of a level: no more than it has anchors, where their number is fixed."""
    count = static_dim(anchors, 0)
    return top_n if count is None else min(top_n, count)


class _Candidates(NamedTuple):
    """Best anchors of each level, level after level.

    Attributes:
        columns: ``[N, K]`` their places among the anchors of all levels.
        scores: L tensors ``[N, k_l]`` of logits; the k_l add up to K.
    """

    columns: Tensor
    scores: list[Tensor]


def _candidates(logits: Tensor, anchors: Sequence[Tensor], top_n: int) -> _Candidates:
    columns, scores = [], []
    start: Size = 0
    for level_anchors in anchors:
        count = dim(level_anchors, 0)
        best = top_k(logits[:, start : start + count], _limit(level_anchors, top_n))
        places, start = best.columns, start + count
        if static_dim(level_anchors, 0) is None:
            # Padded columns lie beyond the last anchor; they read some anchor and are masked afterwards.
            places = paddle.minimum(places, paddle.full_like(places, 1) * (count - 1))
        columns.append(places)
        scores.append(best.values)
    counts = tuple((places.shape[1], dim(each, 0)) for places, each in zip(columns, anchors))
    starts = _STARTS.get(counts, lambda: _starts(counts))
    return _Candidates(paddle.concat(columns, axis=1) + starts, scores)


def _starts(counts: Sequence[tuple[int, Size]]) -> Tensor:
    """``[K]`` first anchor of the level of each candidate, from candidates and anchors of each level."""
    starts = []
    start: Size = 0
    for candidates, anchors in counts:
        starts.append(paddle.zeros([candidates], dtype="int64") + start)
        start = start + anchors
    return paddle.concat(starts)


def _survivors(
    boxes: Tensor, scores: Sequence[Tensor], usable: Tensor, image_sizes: Tensor, iou_threshold: float
) -> Tensor:
    """Which candidates are usable and survive NMS within their image and level.

    Args:
        boxes: ``[N, K, 4]`` float32 xyxy within their image, level after level, by falling score in each.
        scores: L tensors ``[N, k_l]``; the k_l add up to K.
        usable: ``[N, K]`` bool.
        image_sizes: ``[N, 2]`` float32 (height, width).
        iou_threshold: Of the NMS.

    Returns:
        ``[N, K]`` bool.
    """
    # Unusable candidates become empty boxes: those suppress nothing, and shapes stay fixed.
    images, count = dim(boxes, 0), boxes.shape[1]
    compared = paddle.where(usable.unsqueeze(-1), boxes, paddle.zeros_like(boxes))
    places = group_cells(images).unsqueeze(1) * (image_sizes.max() + 1.0)
    sizes = tuple(level.shape[1] for level in scores)
    order = _ORDERS.get((images, sizes), lambda: _by_level(images, sizes))
    by_level = paddle.gather(paddle.reshape(compared + places, [-1, 4]), order)
    kept: list[Tensor] = []
    # Not with `split`: in bfloat16 that of oneDNN in Paddle Inference 3.3 gives NMS a type it does not take.
    for first, last in _calls(images, sizes):
        found = kernels.nms(by_level[first:last], iou_threshold)
        kept.append(found + first if kept else found)  # the first call has the first rows
    rows = paddle.gather(order, paddle.concat(kept))
    placed = paddle.scatter(filled([images * count], -1, rows.dtype), rows, rows)
    return (paddle.reshape(placed, [-1, count]) >= number(0, rows)) & usable


def _by_level(images: Size, sizes: Sequence[int]) -> Tensor:
    """``[N * K]`` numbers of candidates in the order level, image, rank; they count image, level, rank."""
    numbers = paddle.reshape(arange(images * sum(sizes)), [-1, sum(sizes)])
    return paddle.concat([paddle.flatten(level) for level in paddle.split(numbers, list(sizes), axis=1)])


def _calls(images: Size, sizes: Sequence[int]) -> Iterator[tuple[Size, Size]]:
    """First row and that after the last of each call of NMS: those of a level and of as many images as fit.

    The kernel keeps a bit for every two boxes of a call, so images are taken together only while they are
    few: with 12,000 boxes an image, as in training without a pyramid, four images at once would take 290 MB.
    """
    start: Size = 0
    for size in sizes:
        end = start + images * size
        step = max(1, _BOXES_AT_ONCE // size) * size
        if isinstance(images, int):
            yield from ((first, min(first + step, end)) for first in range(start, end, step))
        else:
            yield start, end
        start = end
