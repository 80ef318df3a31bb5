"""Training targets with a soft score per class, and what happens to anchors that several objects claim.

Letters: N images, G most objects of an image in the batch, A anchors of all levels.
"""

from __future__ import annotations

from typing import NamedTuple

import paddle
from paddle import Tensor
from paddle.nn import functional

from ppdet.ops.indexing import gather_rows
from ppdet.structures import BatchTargets

#: A point on the border of a box, to within this many pixels, is outside.
_BORDER = 1e-9


class SoftTargets(NamedTuple):
    """What each anchor should predict.

    Attributes:
        labels: ``[N, A]`` int64: 0..K-1 object, K background.
        gt_index: ``[N, A]`` int64 ground-truth row of a positive; 0 elsewhere.
        boxes: ``[N, A, 4]`` float32 xyxy, the object's box in pixels where positive.
        scores: ``[N, A]`` float32 target of the label's class, 0..1; 0 where background.
    """

    labels: Tensor
    gt_index: Tensor
    boxes: Tensor
    scores: Tensor


def points_inside(points: Tensor, boxes: Tensor) -> Tensor:
    """Whether points ``[A, 2]`` lie inside boxes ``[N, G, 4]``, borders excluded: ``[N, G, A]`` bool."""
    corners = boxes.unsqueeze(2)
    sides = paddle.concat([points - corners[..., :2], corners[..., 2:] - points], axis=-1)
    return sides.min(axis=-1) > _BORDER


def settle(claims: Tensor, ious: Tensor) -> Tensor:
    """Leave every anchor to one object at most.

    An anchor that several objects claim goes to the object of the image that it overlaps most, even if that
    one has not claimed it. This is how published weights were trained.

    Args:
        claims: ``[N, G, A]`` bool.
        ious: ``[N, G, A]`` float32.

    Returns:
        ``[N, G, A]`` bool, at most one True per anchor.
    """
    contested = claims.astype("int32").sum(axis=1, keepdim=True) > 1
    best = functional.one_hot(paddle.argmax(ious, axis=1), claims.shape[1])
    return paddle.where(contested, paddle.transpose(best, [0, 2, 1]) > 0, claims)


def soft_targets(assigned: Tensor, scores: Tensor, targets: BatchTargets, *, num_classes: int) -> SoftTargets:
    """Targets from settled claims.

    Args:
        assigned: ``[N, G, A]`` bool from `settle`.
        scores: ``[N, G, A]`` float32 target of each pair.
        targets: Ground truth.
        num_classes: K, the label of background.
    """
    chosen = assigned.astype("float32")
    gt_index = paddle.argmax(chosen, axis=1)
    labels = gather_rows(targets.labels, gt_index)
    positive = assigned.any(axis=1)
    return SoftTargets(
        labels=paddle.where(positive, labels, paddle.full_like(labels, num_classes)),
        gt_index=gt_index,
        boxes=gather_rows(targets.boxes, gt_index),
        scores=(scores * chosen).max(axis=1),
    )
