"""From the outputs of a region proposal network to candidate regions.

Letters: N images, L levels, A_l anchors of a level, k_l candidates of a level, R regions kept per image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Union

import paddle
from paddle import Tensor
from paddle.vision import ops as kernels

from ppdet.ops.boxes import clip_boxes, decode_deltas
from ppdet.ops.indexing import LOWEST, dim, filled, gather_rows, static_dim, top_k
from ppdet.ops.nms import group_cells

#: Most boxes in one call of NMS, whose memory grows with their square, unless one image has more.
_BOXES_AT_ONCE = 8192


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
    objectness_logits: Sequence[Tensor],
    deltas: Sequence[Tensor],
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
        objectness_logits: L tensors ``[N, A_l]`` float32.
        deltas: L tensors ``[N, A_l, 4]`` float32 with weights 1.
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
    chosen = _candidates([logits.detach() for logits in objectness_logits], anchors, pre_nms_top_n)
    columns, scores = paddle.concat(chosen.columns, axis=1), paddle.concat(chosen.scores, axis=1)
    picked = paddle.gather_nd(paddle.concat(list(anchors)), columns.unsqueeze(-1))
    moved = decode_deltas(picked, gather_rows(paddle.concat(list(deltas), axis=1).detach(), columns))
    boxes = clip_boxes(moved, image_sizes, last_pixel=last_pixel)
    lower, upper = paddle.split(boxes, 2, axis=-1)
    usable = (upper - lower >= max(min_size, 1.0)).all(axis=-1)
    kept = _survivors(boxes, chosen.scores, usable, image_sizes, nms_thresh)
    best = top_k(paddle.where(kept, scores, paddle.full_like(scores, LOWEST)), post_nms_top_n)
    valid = best.values > LOWEST
    last = paddle.full_like(best.columns, boxes.shape[1] - 1)
    collected = gather_rows(boxes, paddle.minimum(best.columns, last))
    return RankedRegions(collected * valid.unsqueeze(-1).astype(collected.dtype), best.values, valid)


def _limit(anchors: Tensor, top_n: int) -> int:
    """Candidates of a level: no more than it has anchors, where their number is fixed."""
    count = static_dim(anchors, 0)
    return top_n if count is None else min(top_n, count)


class _Candidates(NamedTuple):
    """Best anchors of each level: L tensors ``[N, k_l]`` of places among all anchors, and of logits."""

    columns: list[Tensor]
    scores: list[Tensor]


def _candidates(logits: Sequence[Tensor], anchors: Sequence[Tensor], top_n: int) -> _Candidates:
    columns, scores = [], []
    start: Union[int, Tensor] = 0
    for level_logits, level_anchors in zip(logits, anchors):
        best = top_k(level_logits, _limit(level_anchors, top_n))
        places, count = best.columns, dim(level_anchors, 0)
        if static_dim(level_anchors, 0) is None:
            # Padded columns lie beyond the last anchor; they read some anchor and are masked afterwards.
            places = paddle.minimum(places, paddle.full_like(places, 1) * (count - 1))
        columns.append(places + (start if isinstance(start, int) else paddle.full_like(places, 1) * start))
        scores.append(best.values)
        start = start + count
    return _Candidates(columns, scores)


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
    compared = paddle.where(usable.unsqueeze(-1), boxes, paddle.zeros_like(boxes))
    places = group_cells(dim(boxes, 0)).unsqueeze(1) * (image_sizes.max() + 1.0)
    apart, kept, first = compared + places, [], 0
    # Not with `split`: in bfloat16 that of oneDNN in Paddle Inference 3.3 gives NMS a type it does not take.
    for level_scores in scores:
        kept.append(_marked(apart[:, first : first + level_scores.shape[1]], iou_threshold))
        first += level_scores.shape[1]
    return (paddle.concat(kept, axis=1) > 0) & usable


def _marked(boxes: Tensor, iou_threshold: float) -> Tensor:
    """1 where a box survives NMS and 0 elsewhere: ``[N, k, 4]``, best first -> ``[N, k]`` int64.

    The kernel keeps a bit for every two boxes of a call, so images are taken together only while they are
    few: with 12,000 boxes an image, as in training without a pyramid, four images at once would take 290 MB.
    """
    count, images = boxes.shape[1], static_dim(boxes, 0)
    step = max(1, _BOXES_AT_ONCE // count)
    if images is not None and images > step:
        parts = [boxes[first : first + step] for first in range(0, images, step)]
        return paddle.concat([_marked(part, iou_threshold) for part in parts])
    kept = kernels.nms(paddle.reshape(boxes, [-1, 4]), iou_threshold)
    none = filled([dim(boxes, 0) * count], 0, kept.dtype)
    return paddle.reshape(paddle.scatter(none, kept, paddle.ones_like(kept)), [-1, count])
