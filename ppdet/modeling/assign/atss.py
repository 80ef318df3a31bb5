"""Adaptive training sample selection (Zhang et al. 2020, "Bridging the Gap", arXiv:1912.02424, algorithm 1).

Letters: N images, G most objects of an image in the batch, L levels, A anchors of all levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import paddle
from paddle import Tensor

from ppdet.config.ranges import PositiveInt
from ppdet.modeling.assign.soft_targets import SoftTargets, points_inside, settle, soft_targets
from ppdet.ops.boxes import pairwise_iou
from ppdet.structures import BatchTargets


class ATSSAssigner:
    """Each object gets the anchors near its centre that overlap it more than is usual there.

    Args:
        topk: Candidates per object and level: the anchors with the nearest centres.
    """

    def __init__(self, *, topk: PositiveInt = 9) -> None:
        self.topk = topk

    @paddle.no_grad()
    def __call__(
        self,
        anchors: Tensor,
        level_sizes: Sequence[int],
        targets: BatchTargets,
        predicted_boxes: Tensor,
        *,
        num_classes: int,
    ) -> SoftTargets:
        """Targets of one batch.

        Args:
            anchors: ``[A, 4]`` float32 xyxy in pixels, levels concatenated.
            level_sizes: Anchors of each level; their sum is A.
            targets: Ground truth; crowd boxes count as objects.
            predicted_boxes: ``[N, A, 4]`` float32 xyxy in pixels; their IoU is the target score.
            num_classes: K.

        Returns:
            Targets of all anchors.
        """
        valid = (targets.labels >= 0).unsqueeze(-1)
        centres = (anchors[:, :2] + anchors[:, 2:]) / 2
        ious = pairwise_iou(targets.boxes, anchors.unsqueeze(0))
        candidates = self._nearest(centres, level_sizes, targets.boxes)
        of_candidates = paddle.take_along_axis(ious, candidates, axis=2)
        threshold = of_candidates.mean(axis=-1) + _deviation(of_candidates)
        near = paddle.put_along_axis(paddle.zeros_like(ious), candidates, 1.0, axis=2) > 0
        claims = near & (ious > threshold.unsqueeze(-1)) & points_inside(centres, targets.boxes) & valid
        assigned = settle(claims, ious * valid.astype(ious.dtype))
        quality = pairwise_iou(targets.boxes, predicted_boxes)
        return soft_targets(assigned, quality, targets, num_classes=num_classes)

    def _nearest(self, centres: Tensor, level_sizes: Sequence[int], boxes: Tensor) -> Tensor:
        """``[N, G, C]`` int64 rows of the candidates of each object, topk per level or all it has."""
        middles = ((boxes[..., :2] + boxes[..., 2:]) / 2).unsqueeze(2)
        distances = ((middles - centres) ** 2).sum(axis=-1)
        picked, start = [], 0
        for size in level_sizes:
            level = distances[..., start : start + size]
            _, index = paddle.topk(level, min(self.topk, size), axis=-1, largest=False)
            picked.append(index + start)
            start += size
        return paddle.concat(picked, axis=-1)


def _deviation(values: Tensor) -> Tensor:
    """Standard deviations ``[...]`` of samples ``[..., C]``; Paddle's own `std` waits for the device."""
    distances = values - values.mean(axis=-1, keepdim=True)
    return ((distances**2).sum(axis=-1) / max(values.shape[-1] - 1, 1)).sqrt()
