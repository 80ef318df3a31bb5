"""Training targets of detectors that classify every anchor, such as RetinaNet.

Letters: N images, A anchors of all levels, K classes.
"""

from __future__ import annotations

from typing import NamedTuple

import paddle
from paddle import Tensor

from ppdet.config.ranges import Fraction
from ppdet.modeling.assign.matcher import IoUMatcher, class_targets
from ppdet.ops.indexing import gather_rows
from ppdet.structures import IGNORE_LABEL, BatchTargets


class AnchorTargets(NamedTuple):
    """Targets of each anchor.

    Attributes:
        labels: ``[N, A]`` int64: 0..K-1 object, K background, -1 ignored.
        gt_index: ``[N, A]`` int64 matched ground-truth row; valid where the label is 0..K-1.
        gt_boxes: ``[N, A, 4]`` float32 xyxy, the matched box; valid where the label is 0..K-1.
    """

    labels: Tensor
    gt_index: Tensor
    gt_boxes: Tensor


class MaxIoUAssigner:
    """Matches every anchor, without sampling (Lin et al. 2017, RetinaNet, section 4).

    A crowd box counts as an ordinary object; leave crowds out of the dataset to avoid that.
    """

    def __init__(
        self,
        *,
        positive_overlap: Fraction = 0.5,
        negative_overlap: Fraction = 0.4,
        allow_low_quality: bool = True,
    ) -> None:
        """Build the matcher.

        Args:
            positive_overlap: IoU from which on an anchor is positive.
            negative_overlap: IoU below which it is background; between the two it is ignored.
            allow_low_quality: Whether every object gets its best anchors, however small their IoU.
        """
        self.matcher = IoUMatcher(
            positive_overlap=positive_overlap,
            negative_overlap=negative_overlap,
            allow_low_quality=allow_low_quality,
        )

    @paddle.no_grad()
    def __call__(self, anchors: Tensor, targets: BatchTargets, *, num_classes: int) -> AnchorTargets:
        """Targets of one batch.

        Args:
            anchors: ``[A, 4]`` float32 xyxy, levels concatenated.
            targets: Ground truth; in images without objects all anchors are background.
            num_classes: K, the label of background.

        Returns:
            Targets of all anchors.
        """
        valid = targets.labels != IGNORE_LABEL
        no_crowd = paddle.zeros_like(targets.is_crowd)
        match = self.matcher.match_images(anchors, targets.boxes, valid, no_crowd)
        labels = class_targets(match, targets.labels, background=num_classes)
        return AnchorTargets(labels, match.gt_index, gather_rows(targets.boxes, match.gt_index))
