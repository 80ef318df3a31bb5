"""Matching of anchors or regions with ground-truth boxes.

Letters: N images, A anchors or regions, G ground-truth rows, ``...`` leading dimensions such as images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import paddle
from paddle import Tensor

from ppdet.config.errors import ArgumentError
from ppdet.ops.boxes import pairwise_iou
from ppdet.ops.constants import number
from ppdet.ops.indexing import gather_rows
from ppdet.structures import IGNORE_LABEL

#: Values of `Match.labels`.
POSITIVE, NEGATIVE = 1, 0
#: IoUs below it count as no overlap; far below that of any real boxes.
_LEAST_IOU = 1e-30


class Match(NamedTuple):
    """Result of matching.

    Attributes:
        gt_index: ``[..., A]`` int64, the ground-truth row with the greatest IoU; valid where positive.
        labels: ``[..., A]`` int64: 1 positive, 0 negative, -1 ignored.
    """

    gt_index: Tensor
    labels: Tensor


class _Overlaps(NamedTuple):
    """What labels follow from.

    Attributes:
        gt_index: As in `Match`.
        best: ``[..., A]`` IoU with that row.
        promoted: ``[..., A]`` bool, whether some ground-truth box has no better one; None if that does not
            count.
        crowd: ``[..., A]`` greatest IoU with a crowd box; None if that does not count.
    """

    gt_index: Tensor
    best: Tensor
    promoted: Optional[Tensor]
    crowd: Optional[Tensor]


class IoUMatcher:
    """Matches by intersection over union (Ren et al. 2015, Faster R-CNN, section 3.1.2).

    An anchor is positive if its best IoU is >= `positive_overlap`, negative if it is < `negative_overlap`,
    else ignored. With `allow_low_quality`, the anchors that are the best of some ground-truth box (all of
    them, if several tie) are positive too, if they overlap at all; they keep their own best ground-truth
    box, which need not be the one that promoted them. Crowd boxes never match. With `ignore_thresh` > 0, a
    negative whose IoU with a crowd box is greater than that is ignored.
    """

    def __init__(
        self,
        *,
        positive_overlap: float,
        negative_overlap: float,
        allow_low_quality: bool = False,
        ignore_thresh: float = -1.0,
    ) -> None:
        """Check and keep the thresholds.

        Args:
            positive_overlap: IoU from which on an anchor is positive, 0..1.
            negative_overlap: IoU below which it is negative, 0..`positive_overlap`.
            allow_low_quality: Whether every ground-truth box gets its best anchors.
            ignore_thresh: IoU with a crowd box beyond which a negative is ignored, 0..1; <= 0 is off.

        Raises:
            ValueError: If the thresholds are out of order.
        """
        if not 0 < positive_overlap <= 1:
            raise ArgumentError("positive_overlap", f"expected 0 < IoU <= 1, got {positive_overlap}")
        if not 0 < negative_overlap <= positive_overlap:
            raise ArgumentError(
                "negative_overlap",
                f"expected 0 < IoU <= positive_overlap ({positive_overlap}), got {negative_overlap}",
            )
        self.positive_overlap = positive_overlap
        self.negative_overlap = negative_overlap
        self.allow_low_quality = allow_low_quality
        self.ignore_thresh = ignore_thresh

    @paddle.no_grad()
    def __call__(self, boxes: Tensor, gt_boxes: Tensor, gt_valid: Tensor, gt_crowd: Tensor) -> Match:
        """Match boxes with ground truth.

        Args:
            boxes: ``[A, 4]`` or ``[..., A, 4]`` float32 xyxy.
            gt_boxes: ``[..., G, 4]`` float32 xyxy, G >= 1.
            gt_valid: ``[..., G]`` bool, False in padded rows; all may be False.
            gt_crowd: ``[..., G]`` bool.

        Returns:
            Index and label of every box. Of equal IoUs the lowest row wins; a padded row never does if padded
            rows come last.
        """
        objects, crowds = self._comparable(gt_boxes, gt_valid, gt_crowd)
        return self._labelled(self._overlaps(boxes, objects, crowds))

    def match_images(self, boxes: Tensor, gt_boxes: Tensor, gt_valid: Tensor, gt_crowd: Tensor) -> Match:
        """Match the same boxes with the ground truth of each image; one image at a time.

        ``[N, A, G]`` overlaps of a whole batch would be the largest tensor of a step: A is 270,000 for the
        anchors of full-size images.

        Args:
            boxes: ``[A, 4]`` float32 xyxy.
            gt_boxes: ``[N, G, 4]`` float32 xyxy.
            gt_valid: ``[N, G]`` bool.
            gt_crowd: ``[N, G]`` bool.

        Returns:
            Index and label ``[N, A]``.
        """
        objects, crowds = self._comparable(gt_boxes, gt_valid, gt_crowd)
        each_crowds = [None] * len(objects) if crowds is None else crowds
        matches = [self._overlaps(boxes, *image) for image in zip(objects, each_crowds)]
        return self._labelled(_Overlaps(*map(_stacked, zip(*matches))))

    def _comparable(
        self, gt_boxes: Tensor, gt_valid: Tensor, gt_crowd: Tensor
    ) -> tuple[Tensor, Optional[Tensor]]:
        """Boxes of objects, and of crowds if they matter; all zeros in other rows, which overlap nothing."""

        def only(rows: Tensor) -> Tensor:
            return gt_boxes * rows.unsqueeze(-1).astype(gt_boxes.dtype)

        crowds = only(gt_valid & gt_crowd) if self.ignore_thresh > 0 else None
        return only(gt_valid & ~gt_crowd), crowds

    def _overlaps(self, boxes: Tensor, objects: Tensor, crowds: Optional[Tensor]) -> _Overlaps:
        # For the RPN the IoUs are millions of numbers, and each further pass over them costs as much as a
        # layer of the head.
        ious = pairwise_iou(boxes, objects)
        promoted = None
        if self.allow_low_quality:
            best_of_gt = paddle.clip(ious.max(axis=-2, keepdim=True), min=_LEAST_IOU)
            promoted = (ious >= best_of_gt).any(axis=-1)
        crowd = None if crowds is None else pairwise_iou(boxes, crowds).max(axis=-1)
        return _Overlaps(paddle.argmax(ious, axis=-1), ious.max(axis=-1), promoted, crowd)

    def _labelled(self, overlaps: _Overlaps) -> Match:
        positive = overlaps.best >= number(self.positive_overlap, overlaps.best)
        negative = overlaps.best < number(self.negative_overlap, overlaps.best)
        if overlaps.promoted is not None:
            positive = positive | overlaps.promoted
            negative = negative & ~overlaps.promoted
        if overlaps.crowd is not None:
            negative = negative & (overlaps.crowd <= number(self.ignore_thresh, overlaps.best))
        ignored = ~(positive | negative)
        # 1, 0 and -1.
        labels = positive.astype("int64") - ignored.astype("int64")
        return Match(overlaps.gt_index, labels)


def _stacked(images: Sequence[Any]) -> Any:
    return None if images[0] is None else paddle.stack(images)


def class_targets(match: Match, gt_labels: Tensor, *, background: int) -> Tensor:
    """Classes that matched boxes should have.

    Args:
        match: ``[N, A]``.
        gt_labels: ``[N, G]`` int64 classes.
        background: Class of negatives.

    Returns:
        ``[N, A]`` int64: the object's class where positive, `background` where negative, else -1.
    """
    labels = gather_rows(gt_labels, match.gt_index)
    labels = paddle.where(
        match.labels == number(NEGATIVE, labels), paddle.full_like(labels, background), labels
    )
    return paddle.where(
        match.labels == number(IGNORE_LABEL, labels), paddle.full_like(labels, IGNORE_LABEL), labels
    )
