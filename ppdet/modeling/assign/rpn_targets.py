"""Training targets of a region proposal network.

Letters: N images, A anchors of all levels, G ground-truth rows, S sampled anchors per image.
"""

from __future__ import annotations

from typing import NamedTuple

import paddle
from paddle import Tensor

from ppdet.config.ranges import Fraction, FractionOrMinusOne, PositiveInt
from ppdet.modeling.assign.box_coder import DeltaCoder
from ppdet.modeling.assign.matcher import POSITIVE, IoUMatcher
from ppdet.modeling.assign.sampler import BalancedSampler
from ppdet.ops.constants import number
from ppdet.ops.indexing import gather_rows
from ppdet.structures import IGNORE_LABEL, BatchTargets


class RpnTargets(NamedTuple):
    """Targets of sampled anchors: positives first, then negatives, then padding.

    Attributes:
        anchor_index: ``[N, S]`` int64 anchors, counted over the concatenated levels; 0 in padded rows.
        labels: ``[N, S]`` int64: 1 object, 0 background, -1 padding.
        deltas: ``[N, S, 4]`` float32 from anchor to matched box; zeros where the label is not 1.
        gt_index: ``[N, S]`` int64 matched ground-truth row; valid where the label is 1.
    """

    anchor_index: Tensor
    labels: Tensor
    deltas: Tensor
    gt_index: Tensor


class RPNTargetAssign:
    """Matches anchors with ground truth, samples, and encodes (Ren et al. 2015, section 3.1.2 and 3.1.3).

    All anchors take part, those that leave the image or lie over the padding too.
    """

    def __init__(
        self,
        *,
        batch_size_per_im: PositiveInt = 256,
        fg_fraction: Fraction = 0.5,
        positive_overlap: Fraction = 0.7,
        negative_overlap: Fraction = 0.3,
        ignore_thresh: FractionOrMinusOne = -1.0,
        use_random: bool = True,
    ) -> None:
        """Build matcher and sampler.

        Args:
            batch_size_per_im: S, sampled anchors per image.
            fg_fraction: Largest share of positives among them.
            positive_overlap: IoU from which on an anchor is positive; the best anchors of each box are, too.
            negative_overlap: IoU below which it is negative.
            ignore_thresh: IoU with a crowd box beyond which a negative is ignored, 0..1; <= 0 is off.
            use_random: Whether to sample at random, else the first ones.
        """
        self.batch_size_per_im = batch_size_per_im
        self.matcher = IoUMatcher(
            positive_overlap=positive_overlap,
            negative_overlap=negative_overlap,
            allow_low_quality=True,
            ignore_thresh=ignore_thresh,
        )
        self.sampler = BalancedSampler(
            batch_size_per_im=batch_size_per_im, fg_fraction=fg_fraction, use_random=use_random
        )
        self.coder = DeltaCoder()

    @paddle.no_grad()
    def __call__(self, anchors: Tensor, targets: BatchTargets) -> RpnTargets:
        """Targets of one batch.

        Args:
            anchors: ``[A, 4]`` float32 xyxy, levels concatenated.
            targets: Ground truth; images without objects have only negatives.

        Returns:
            Targets at a fixed shape.
        """
        valid = targets.labels != number(IGNORE_LABEL, targets.labels)
        match = self.matcher.match_images(anchors, targets.boxes, valid, targets.is_crowd)
        sample = self.sampler(match.labels)
        gt_index = gather_rows(match.gt_index, sample.rows)
        sampled_anchors = paddle.reshape(
            paddle.gather(anchors, paddle.flatten(sample.rows)), [-1, self.batch_size_per_im, 4]
        )
        deltas = self.coder.encode(sampled_anchors, gather_rows(targets.boxes, gt_index))
        positive = (sample.labels == number(POSITIVE, sample.labels)).unsqueeze(-1)
        deltas = paddle.where(positive, deltas, paddle.zeros_like(deltas))
        return RpnTargets(sample.rows, sample.labels, deltas, gt_index)
