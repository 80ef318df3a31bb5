"""Task-aligned assignment (Feng et al. 2021, "TOOD", arXiv:2108.07755, section 3.2).

Letters: N images, G most objects of an image in the batch, A anchors of all levels, K classes.
"""

from __future__ import annotations

import paddle
from paddle import Tensor

from ppdet.config.ranges import NonNegative, PositiveInt
from ppdet.modeling.assign.soft_targets import SoftTargets, points_inside, settle, soft_targets
from ppdet.modeling.layers.anchor_points import AnchorPoints
from ppdet.ops.boxes import pairwise_iou
from ppdet.ops.indexing import gather_rows
from ppdet.structures import BatchTargets

#: Added to the largest metric of an object, which may be 0.
_EPS = 1e-9
#: With `is_close_gt`, how far from an object's centre an anchor may be, in strides.
_CLOSE = 2.0


class TaskAlignedAssigner:
    """Each object gets the anchors with the largest score ** alpha * IoU ** beta.

    Args:
        topk: Anchors per object.
        alpha: Exponent of the score of the object's class.
        beta: Exponent of the IoU of the predicted box.
        is_close_gt: Take anchors whose centre is within 2 strides of the object's centre, instead of those
            inside of its box: small objects then have anchors too.
    """

    def __init__(
        self,
        *,
        topk: PositiveInt = 13,
        alpha: NonNegative = 1.0,
        beta: NonNegative = 6.0,
        is_close_gt: bool = False,
    ) -> None:
        self.topk = topk
        self.alpha = alpha
        self.beta = beta
        self.is_close_gt = is_close_gt

    @paddle.no_grad()
    def __call__(
        self,
        points: AnchorPoints,
        scores: Tensor,
        predicted_boxes: Tensor,
        targets: BatchTargets,
    ) -> SoftTargets:
        """Targets of one batch.

        Args:
            points: The A anchors.
            scores: ``[N, A, K]`` float32 predicted probabilities.
            predicted_boxes: ``[N, A, 4]`` float32 xyxy in pixels.
            targets: Ground truth; crowd boxes count as objects.

        Returns:
            Targets of all anchors.
        """
        valid = (targets.labels >= 0).unsqueeze(-1)
        ious = pairwise_iou(targets.boxes, predicted_boxes) * valid.astype("float32")
        of_class = gather_rows(paddle.transpose(scores, [0, 2, 1]), paddle.clip(targets.labels, min=0))
        metric = of_class**self.alpha * ious**self.beta
        near = (
            self._close(points, targets.boxes)
            if self.is_close_gt
            else points_inside(points.pixels, targets.boxes)
        )
        near = near & valid
        # Where fewer than `topk` metrics are above 0, which of the zeros are taken is up to the kernel.
        count = min(self.topk, metric.shape[-1])
        _, best = paddle.topk(metric * near.astype("float32"), count, axis=-1)
        claims = (paddle.put_along_axis(paddle.zeros_like(metric), best, 1.0, axis=2) > 0) & near
        assigned = settle(claims, ious)
        mine = assigned.astype("float32")
        metric = metric * mine
        quality = (ious * mine).max(axis=-1, keepdim=True)
        normalised = metric / (metric.max(axis=-1, keepdim=True) + _EPS) * quality
        return soft_targets(assigned, normalised, targets, num_classes=scores.shape[-1])

    @staticmethod
    def _close(points: AnchorPoints, boxes: Tensor) -> Tensor:
        """Which anchors are near the centre of which box, ``[N, G, A]`` bool."""
        middles = ((boxes[..., :2] + boxes[..., 2:]) / 2).unsqueeze(2)
        # Squares, since Paddle's root of 4096 is 63.999996 on some processors, and an anchor at exactly two
        # strides would be taken there only.
        squares = ((middles - points.pixels) ** 2).sum(axis=-1)
        return squares < (_CLOSE * points.strides.squeeze(-1)) ** 2
