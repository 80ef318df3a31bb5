"""From the outputs of a region proposal network to candidate regions.

Letters: N images, L levels, A_l anchors of a level, k_l candidates of a level, R regions kept per image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import paddle
from paddle import Tensor

from ppdet.ops.boxes import clip_boxes, decode_deltas
from ppdet.ops.indexing import LOWEST, dim, gather_rows, place_rows, static_dim, top_k
from ppdet.ops.nms import batched_nms


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
    boxes, logits = [], []
    for level_logits, level_deltas, level_anchors in zip(objectness_logits, deltas, anchors):
        # Detached, not under `no_grad`, whose decorator loses keyword-only arguments when a graph is traced.
        level_logits, level_deltas = level_logits.detach(), level_deltas.detach()
        best = top_k(level_logits, _limit(level_anchors, pre_nms_top_n))
        # Padded columns lie beyond the last anchor; they read some anchor and are masked below.
        columns = paddle.minimum(
            best.columns, paddle.full_like(best.columns, 1) * (dim(level_anchors, 0) - 1)
        )
        picked = paddle.reshape(
            paddle.gather(level_anchors, paddle.flatten(columns)), [-1, columns.shape[1], 4]
        )
        decoded = decode_deltas(picked, gather_rows(level_deltas, columns))
        decoded = clip_boxes(decoded, image_sizes, last_pixel=last_pixel)
        sides = decoded[..., 2:] - decoded[..., :2]
        usable = (best.values > LOWEST) & (sides >= max(min_size, 1.0)).all(axis=-1)
        kept = _survives(decoded, best.values, usable, nms_thresh)
        boxes.append(decoded)
        logits.append(paddle.where(kept, best.values, paddle.full_like(best.values, LOWEST)))
    all_boxes, all_logits = paddle.concat(boxes, axis=1), paddle.concat(logits, axis=1)
    best = top_k(all_logits, post_nms_top_n)
    valid = best.values > LOWEST
    last = paddle.full_like(best.columns, all_boxes.shape[1] - 1)
    collected = gather_rows(all_boxes, paddle.minimum(best.columns, last))
    return RankedRegions(collected * valid.unsqueeze(-1).astype(collected.dtype), best.values, valid)


def _limit(anchors: Tensor, top_n: int) -> int:
    """Candidates of a level: no more than it has anchors, where their number is fixed."""
    count = static_dim(anchors, 0)
    return top_n if count is None else min(top_n, count)


def _survives(boxes: Tensor, scores: Tensor, usable: Tensor, iou_threshold: float) -> Tensor:
    """Which of ``[N, k]`` candidates are usable and survive NMS within their image, as bool ``[N, k]``."""
    images, candidates = dim(scores, 0), scores.shape[1]
    # A sum and not `expand_as`: paddle2onnx writes the sizes seen while tracing into that.
    image = paddle.arange(images, dtype="int64").unsqueeze(1) + paddle.zeros_like(scores, dtype="int64")
    # Unusable candidates form groups of their own, so that they suppress nothing and shapes stay fixed.
    group = paddle.where(usable, image, image + images)
    kept = batched_nms(
        paddle.reshape(boxes, [-1, 4]),
        paddle.flatten(scores),
        paddle.flatten(group),
        iou_threshold=iou_threshold,
    )
    marks = place_rows(paddle.ones_like(kept), kept, images * candidates)
    return (paddle.reshape(marks, [-1, candidates]) > 0) & usable
