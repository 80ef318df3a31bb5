"""Head of RetinaNet (Lin et al. 2017, "Focal Loss for Dense Object Detection").

Letters: N images, L levels, A anchors per cell, R anchors of all cells and levels, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import paddle
from paddle import Tensor, nn

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import Fraction, Positive, PositiveInt
from ppdet.config.spec import Derived, Shared, Spec
from ppdet.modeling.assign.anchor_targets import MaxIoUAssigner
from ppdet.modeling.assign.anchors import AnchorGenerator, RetinaAnchorGenerator
from ppdet.modeling.assign.box_coder import DeltaCoder
from ppdet.modeling.heads.retina_features import RetinaFeat
from ppdet.modeling.interfaces import DenseHead
from ppdet.modeling.losses.dense import FocalLoss, SmoothL1Loss
from ppdet.modeling.post_process import DecodedBoxes, MultiClassNMS
from ppdet.ops.boxes import clip_boxes, per_corner
from ppdet.ops.constants import arange
from ppdet.ops.indexing import dim, gather_rows, top_k
from ppdet.structures import BatchTargets, DetectionTensors, FeatureShape, original_sizes


class RetinaOutputs(NamedTuple):
    """Raw outputs.

    Attributes:
        class_logits: L maps ``[N, A * K, H, W]``, channels by anchor, then class.
        deltas: L maps ``[N, A * 4, H, W]``.
    """

    class_logits: list[Tensor]
    deltas: list[Tensor]


class RetinaHead(DenseHead):
    """Classifies and refines every anchor; the same weights at all levels.

    Args:
        in_shapes: Feature shapes of the neck, finest first, all of the same number of channels.
        num_classes: K.
        conv_feat: Towers before the outputs.
        anchor_generator: Anchors.
        bbox_assigner: Assigns objects to anchors.
        loss_class: Loss of the class logits.
        loss_bbox: Loss of the deltas.
        nms: NMS at inference.
        nms_pre: Anchors per level and image that are decoded, best first.
        weights: Factors of the deltas dx, dy, dw, dh.
        prior_prob: Probability that an untrained head gives every class: without it, the sum over so many
            background anchors destroys the first steps (section 3.3).

    Raises:
        ValueError: If the levels differ in channels, or `prior_prob` is not between 0 and 1.
    """

    final_nms: MultiClassNMS

    def __init__(
        self,
        *,
        in_shapes: Derived[list[FeatureShape]],
        num_classes: Shared[PositiveInt],
        conv_feat: Spec[RetinaFeat] = Spec.of(RetinaFeat),  # noqa: B008  (a Spec is immutable)
        anchor_generator: Spec[AnchorGenerator] = Spec.of(RetinaAnchorGenerator),  # noqa: B008
        bbox_assigner: Spec[MaxIoUAssigner] = Spec.of(MaxIoUAssigner),  # noqa: B008
        loss_class: Spec[FocalLoss] = Spec.of(FocalLoss),  # noqa: B008
        loss_bbox: Spec[SmoothL1Loss] = Spec.of(SmoothL1Loss, beta=0.0),  # noqa: B008
        nms: Spec[MultiClassNMS] = Spec.of(MultiClassNMS, nms_top_k=1000),  # noqa: B008
        nms_pre: PositiveInt = 1000,
        weights: Sequence[Positive] = (1.0, 1.0, 1.0, 1.0),
        prior_prob: Fraction = 0.01,
    ) -> None:
        super().__init__()
        channels = {shape.channels for shape in in_shapes}
        if len(channels) != 1:
            raise ValueError(f"RetinaHead shares its weights over levels of {sorted(channels)} channels")
        if not 0 < prior_prob < 1:
            raise ArgumentError("prior_prob", f"expected between 0 and 1, got {prior_prob}")
        self._num_classes = num_classes
        self.anchors = anchor_generator.build(strides=[shape.stride for shape in in_shapes])
        self._assigner = bbox_assigner.build()
        self._loss_class = loss_class.build()
        self._loss_bbox = loss_bbox.build()
        self.final_nms = nms.build()
        self._nms_pre = nms_pre
        self._coder = DeltaCoder(weights)
        self.conv_feat = conv_feat.build(feat_in=channels.pop())
        wide, anchors = self.conv_feat.out_channels, self.anchors.num_anchors
        bias = -math.log((1 - prior_prob) / prior_prob)
        self.retina_cls = _output(wide, anchors * num_classes, bias)
        self.retina_reg = _output(wide, anchors * 4, 0.0)

    def forward(self, features: list[Tensor]) -> RetinaOutputs:
        """L maps of the neck to raw outputs."""
        outputs = RetinaOutputs([], [])
        for feature in features:
            for_class, for_box = self.conv_feat(feature)
            outputs.class_logits.append(self.retina_cls(for_class))
            outputs.deltas.append(self.retina_reg(for_box))
        return outputs

    def losses(self, outputs: RetinaOutputs, targets: BatchTargets) -> dict[str, Tensor]:
        """``loss_cls`` and ``loss_reg``, sums over anchors divided by the batch's positives, at least 1.

        Args:
            outputs: Raw outputs.
            targets: Ground truth in pixels of the resized images.

        Returns:
            Float32 scalars, finite also without any object.
        """
        classes = self._num_classes
        logits = paddle.concat([_by_anchor(x, classes) for x in outputs.class_logits], axis=1)
        deltas = paddle.concat([_by_anchor(x, 4) for x in outputs.deltas], axis=1)
        anchors = paddle.concat(self.anchors(outputs.deltas))
        assigned = self._assigner(anchors, targets, num_classes=classes)
        positive = ((assigned.labels >= 0) & (assigned.labels < classes)).astype("float32")
        counted = (assigned.labels >= 0).astype("float32")
        divisor = paddle.clip(positive.sum(), min=1.0)
        # Background is class K, which no column has: its row is all zeros.
        one_hot = assigned.labels.unsqueeze(-1) == arange(classes)
        loss_class = self._loss_class(logits, one_hot.astype("float32"), counted)
        loss_box = self._loss_bbox(deltas, self._coder.encode(anchors, assigned.gt_boxes), positive)
        return {"loss_cls": loss_class / divisor, "loss_reg": loss_box / divisor}

    def decode(self, outputs: RetinaOutputs, image_sizes: Tensor, scale_factors: Tensor) -> DetectionTensors:
        """Detections in pixels of the original images.

        NMS compares the boxes before clipping, as it did for the published scores. 2.x does not clip them at
        all; here they are clipped to the image after NMS.

        Args:
            outputs: Raw outputs.
            image_sizes: ``[N, 2]`` float32 (height, width) of the resized content.
            scale_factors: ``[N, 2]`` float32 (y, x), resized / original.

        Returns:
            Detections.
        """
        kept = self.final_nms(self.decode_boxes(outputs, scale_factors))
        clipped = clip_boxes(kept.boxes, original_sizes(image_sizes, scale_factors))
        return DetectionTensors(clipped, kept.scores, kept.labels)

    def decode_boxes(self, outputs: RetinaOutputs, scale_factors: Tensor) -> DecodedBoxes:
        """The best `nms_pre` anchors of each level, by their best class.

        Args:
            outputs: Raw outputs.
            scale_factors: ``[N, 2]`` float32 (y, x), resized / original.

        Returns:
            Boxes ``[N, R', 1, 4]`` in original pixels, not clipped, level by level, and scores
            ``[N, R', K]``.
        """
        boxes, scores = [], []
        for logits, deltas, anchors in zip(
            outputs.class_logits, outputs.deltas, self.anchors(outputs.deltas)
        ):
            score = nn.functional.sigmoid(_by_anchor(logits, self._num_classes))
            box = self._coder.decode(anchors, _by_anchor(deltas, 4))
            count = dim(score, 1)
            if not (isinstance(count, int) and count <= self._nms_pre):
                best = top_k(score.max(axis=-1), self._nms_pre)
                # Where a level has fewer anchors than `nms_pre`, the last one fills up, with score 0.
                exists = (best.values >= 0).astype(score.dtype).unsqueeze(-1)
                rows = paddle.minimum(best.columns, paddle.full_like(best.columns, 1) * (count - 1))
                score, box = gather_rows(score, rows) * exists, gather_rows(box, rows)
            boxes.append(box)
            scores.append(score)
        box = paddle.concat(boxes, axis=1)
        box = box / per_corner(scale_factors, box)
        return DecodedBoxes(box.unsqueeze(2), paddle.concat(scores, axis=1))


def _output(in_channels: int, out_channels: int, bias: float) -> nn.Conv2D:
    return nn.Conv2D(
        in_channels,
        out_channels,
        3,
        padding=1,
        weight_attr=paddle.ParamAttr(initializer=nn.initializer.Normal(std=0.01)),
        bias_attr=paddle.ParamAttr(initializer=nn.initializer.Constant(bias)),
    )


def _by_anchor(maps: Tensor, values: int) -> Tensor:
    """``[N, A * values, H, W]`` to ``[N, H * W * A, values]`` float32, in the order of the anchors."""
    maps = paddle.transpose(maps.astype("float32"), [0, 2, 3, 1])
    return paddle.reshape(maps, [dim(maps, 0), -1, values])
