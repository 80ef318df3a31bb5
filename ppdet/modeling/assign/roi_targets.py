"""Training targets of the second stage of R-CNN detectors.

Letters: N images, R proposals, G ground-truth rows, S regions per image, K classes.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

import paddle
from paddle import Tensor

from ppdet.config.ranges import Fraction, FractionOrMinusOne, PositiveInt
from ppdet.config.spec import Shared
from ppdet.modeling.assign.matcher import IoUMatcher, Match, class_targets
from ppdet.modeling.assign.sampler import BalancedSampler
from ppdet.ops.boxes import non_empty
from ppdet.ops.constants import number
from ppdet.ops.indexing import gather_rows
from ppdet.structures import IGNORE_LABEL, BatchTargets


class RoiTargets(NamedTuple):
    """Sampled regions and their targets. Padded rows have label -1 and an all-zero box.

    Attributes:
        boxes: ``[N, S, 4]`` float32 xyxy, pixels of the resized image.
        labels: ``[N, S]`` int64: 0..K-1 object, K background, -1 padding or ignored.
        gt_index: ``[N, S]`` int64 matched ground-truth row; valid where the label is 0..K-1.
        gt_boxes: ``[N, S, 4]`` float32 xyxy, the matched box; valid where the label is 0..K-1.
    """

    boxes: Tensor
    labels: Tensor
    gt_index: Tensor
    gt_boxes: Tensor


class BBoxAssigner:
    """Matches regions with ground truth and samples them (Ren et al. 2015; cascade: Cai and Vasconcelos
    2018).

    Stage 0 appends the ground-truth boxes to the proposals, so that there are positives before the RPN has
    learned anything, and samples S regions: positives first, then negatives, each in proposal order (ground
    truth last) unless drawn at random. Later stages keep all regions in their order and only match again.
    """

    def __init__(
        self,
        *,
        num_classes: Shared[PositiveInt] = 80,
        batch_size_per_im: PositiveInt = 512,
        fg_fraction: Fraction = 0.25,
        fg_thresh: Fraction = 0.5,
        bg_thresh: Fraction = 0.5,
        ignore_thresh: FractionOrMinusOne = -1.0,
        use_random: bool = True,
        cascade_iou: Optional[list[Fraction]] = None,
    ) -> None:
        """Build the matchers of all stages, and the sampler.

        Args:
            num_classes: K, which is also the label of background.
            batch_size_per_im: S, regions per image.
            fg_fraction: Largest share of positives among them.
            fg_thresh: IoU from which on a region is positive, stage 0.
            bg_thresh: IoU below which it is background, stage 0; between the two it is ignored.
            ignore_thresh: IoU with a crowd box beyond which a negative is ignored, 0..1; <= 0 is off.
            use_random: Whether to sample at random, else the first ones.
            cascade_iou: IoU from which on a region is positive, and below which it is background, by stage.
                The first entry is there for completeness: stage 0 goes by `fg_thresh` and `bg_thresh`.
                Default .5 .6 .7.
        """
        self.num_classes = num_classes
        stage_ious = [0.5, 0.6, 0.7] if cascade_iou is None else cascade_iou
        thresholds = [(fg_thresh, bg_thresh), *((iou, iou) for iou in stage_ious[1:])]
        self.matchers = [
            IoUMatcher(positive_overlap=fg, negative_overlap=bg, ignore_thresh=ignore_thresh)
            for fg, bg in thresholds
        ]
        self.sampler = BalancedSampler(
            batch_size_per_im=batch_size_per_im, fg_fraction=fg_fraction, use_random=use_random
        )

    @paddle.no_grad()
    def __call__(self, boxes: Tensor, valid: Tensor, targets: BatchTargets, *, stage: int = 0) -> RoiTargets:
        """Targets of one batch at one stage.

        Args:
            boxes: ``[N, R, 4]`` float32 xyxy: proposals at stage 0, the refined regions of the stage before
                later.
            valid: ``[N, R]`` bool, False in padded rows.
            targets: Ground truth; images without objects have only background.
            stage: 0 for a plain R-CNN and the first stage of a cascade.

        Returns:
            S = `batch_size_per_im` regions at stage 0, all R later. Regions that have become empty are
            ignored then.

        Raises:
            IndexError: If there is no IoU for this stage in `cascade_iou`.
        """
        boxes, valid = boxes.detach(), valid.detach()
        gt_valid = targets.labels != number(IGNORE_LABEL, targets.labels)
        if stage == 0:
            boxes = paddle.concat([boxes, targets.boxes], axis=1)
            valid = paddle.concat([valid, gt_valid], axis=1)
        else:
            valid = valid & non_empty(boxes)
        match = self.matchers[stage](boxes, targets.boxes, gt_valid, targets.is_crowd)
        status = paddle.where(valid, match.labels, paddle.full_like(match.labels, IGNORE_LABEL))
        match = Match(match.gt_index, status)
        if stage == 0:
            sample = self.sampler(status)
            sampled = sample.labels != number(IGNORE_LABEL, sample.labels)
            boxes = gather_rows(boxes, sample.rows) * sampled.unsqueeze(-1).astype(boxes.dtype)
            match = Match(gather_rows(match.gt_index, sample.rows), sample.labels)
        labels = class_targets(match, targets.labels, background=self.num_classes)
        return RoiTargets(boxes, labels, match.gt_index, gather_rows(targets.boxes, match.gt_index))
