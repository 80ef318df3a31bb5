"""The efficient task-aligned head of PP-YOLOE (Xu et al. 2022, arXiv:2203.16250, section 2.2).

Letters: N images, L levels, A anchors (cells of all levels), K classes, B bins of a distance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Optional

import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import Fraction, NonNegative, NonNegativeInt, Positive, PositiveInt
from ppdet.config.spec import Derived, Shared, Spec
from ppdet.modeling.assign.atss import ATSSAssigner
from ppdet.modeling.assign.soft_targets import SoftTargets
from ppdet.modeling.assign.task_aligned import TaskAlignedAssigner
from ppdet.modeling.interfaces import DenseHead
from ppdet.modeling.layers.anchor_points import AnchorPoints, anchor_points
from ppdet.modeling.layers.repvgg import ConvBN, RepVGGBlock, activation_of
from ppdet.modeling.losses.ppyoloe import (
    LossWeights,
    PointPredictions,
    boxes_around,
    expected_distances,
    ppyoloe_losses,
)
from ppdet.modeling.post_process import DecodedBoxes, MultiClassNMS
from ppdet.ops.boxes import clip_boxes, per_corner
from ppdet.ops.indexing import dim
from ppdet.structures import BatchTargets, DetectionTensors, FeatureShape, original_sizes

#: As published (section 2.2, and the evaluation of the released weights).
_NMS = Spec.of(MultiClassNMS, score_threshold=0.01, nms_top_k=1000, keep_top_k=300, nms_threshold=0.7)
#: Probability that an untrained head gives every class.
PRIOR = 0.01
#: Weight of positives in the focal loss while the static assigner is at work; later none.
_STATIC_FOCAL_ALPHA = 0.25
#: How the towers continue after the channels are weighed.
ATTENTION_CONVS = ("convbn", "repvgg", "None")


class PointOutputs(NamedTuple):
    """Raw outputs, level by level in the order of the neck.

    Attributes:
        class_logits: L maps ``[N, K, h, w]``.
        box_logits: L maps ``[N, 4 * B, h, w]``, channels by side (left, top, right, bottom), then bin.
    """

    class_logits: list[Tensor]
    box_logits: list[Tensor]


class _Tower(nn.Layer):
    """Weighs channels by their average over the level (ESE), then convolves; keys ``fc``, ``conv``."""

    def __init__(self, channels: int, *, conv: str, act: Callable[[Tensor], Tensor], norm_type: str) -> None:
        super().__init__()
        small = paddle.ParamAttr(initializer=nn.initializer.Normal(std=0.001))
        self.fc = nn.Conv2D(channels, channels, 1, weight_attr=small)
        self.conv: Optional[nn.Layer] = None
        if conv == "convbn":
            self.conv = ConvBN(channels, channels, kernel=1, act=act, norm_type=norm_type)
        elif conv == "repvgg":
            self.conv = RepVGGBlock(channels, channels, act=act, norm_type=norm_type)

    def forward(self, features: Tensor, average: Tensor) -> Tensor:
        """``[N, C, h, w]`` and its average ``[N, C, 1, 1]`` to ``[N, C, h, w]``."""
        weighed = features * functional.sigmoid(self.fc(average))
        return weighed if self.conv is None else self.conv(weighed)


class PPYOLOEHead(DenseHead):
    """Class scores and distances to the four sides at every cell, without anchors and objectness.

    Keys ``stem_cls``, ``stem_reg``, ``pred_cls``, ``pred_reg`` with a number per level, and ``proj_conv``.

    Args:
        in_shapes: Feature shapes of the neck, coarsest first.
        num_classes: K.
        act: ``swish`` or ``relu``.
        norm_type: ``bn`` or ``sync_bn``.
        fpn_strides: Strides of the levels; must be those of the neck.
        grid_cell_scale: Side of the square anchor of the static assigner, in strides.
        grid_cell_offset: Place of a cell's centre, 0..1.
        reg_max: Largest distance in strides; B = reg_max + 1.
        static_assigner_epoch: First epoch of `assigner`; before it `static_assigner` is at work.
        use_varifocal_loss: Varifocal loss of the classes, else quality focal loss.
        static_assigner: Assigner of the first epochs.
        assigner: Assigner of the others.
        nms: NMS at inference.
        loss_weight: Factors of the losses: ``class``, ``iou``, ``dfl``.
        attn_conv: What follows the weighing of channels in each tower: ``convbn`` (1x1), ``repvgg`` (3x3) or
            ``None``.

    Raises:
        ArgumentError: If `fpn_strides` are not the neck's, or `attn_conv` or a `loss_weight` is unknown.
    """

    final_nms: MultiClassNMS

    def __init__(
        self,
        *,
        in_shapes: Derived[list[FeatureShape]],
        num_classes: Shared[PositiveInt],
        act: str = "swish",
        norm_type: Shared[str] = "bn",
        fpn_strides: Optional[Sequence[PositiveInt]] = None,
        grid_cell_scale: Positive = 5.0,
        grid_cell_offset: Fraction = 0.5,
        reg_max: PositiveInt = 16,
        static_assigner_epoch: NonNegativeInt = 4,
        use_varifocal_loss: bool = True,
        static_assigner: Spec[ATSSAssigner] = Spec.of(ATSSAssigner),  # noqa: B008  (a Spec is immutable)
        assigner: Spec[TaskAlignedAssigner] = Spec.of(TaskAlignedAssigner),  # noqa: B008
        nms: Spec[MultiClassNMS] = _NMS,
        loss_weight: Optional[Mapping[str, NonNegative]] = None,
        attn_conv: Optional[str] = "convbn",
    ) -> None:
        super().__init__()
        self.strides = [shape.stride for shape in in_shapes]
        if fpn_strides is not None and list(fpn_strides) != self.strides:
            raise ArgumentError("fpn_strides", f"the neck's are {self.strides}, got {list(fpn_strides)}")
        conv = "None" if attn_conv is None else attn_conv
        if conv not in ATTENTION_CONVS:
            raise ArgumentError("attn_conv", f"expected one of {', '.join(ATTENTION_CONVS)}, got {conv!r}")
        try:
            self._weights = LossWeights.of(loss_weight or {})
        except ValueError as error:
            raise ArgumentError("loss_weight", str(error)) from error
        self._cell_scale = grid_cell_scale
        self._cell_offset = grid_cell_offset
        self._static_epochs = static_assigner_epoch
        self._varifocal = use_varifocal_loss
        self._static_assigner = static_assigner.build()
        self._assigner = assigner.build()
        self.final_nms = nms.build()
        self.epoch = 0

        activation = activation_of("PPYOLOEHead", act)
        wide = [shape.channels for shape in in_shapes]

        def towers() -> nn.LayerList:
            return nn.LayerList([_Tower(c, conv=conv, act=activation, norm_type=norm_type) for c in wide])

        bias = -math.log((1 - PRIOR) / PRIOR)
        self.stem_cls = towers()
        self.stem_reg = towers()
        self.pred_cls = nn.LayerList([_output(c, num_classes, bias) for c in wide])
        self.pred_reg = nn.LayerList([_output(c, 4 * (reg_max + 1), 1.0) for c in wide])
        self.proj_conv = _bins(reg_max)

    def begin_epoch(self, epoch: int) -> None:
        """Remember the epoch, which decides on the assigner."""
        self.epoch = epoch

    def forward(self, features: list[Tensor]) -> PointOutputs:
        """L maps of the neck to raw outputs."""
        outputs = PointOutputs([], [])
        for i, feature in enumerate(features):
            average = feature.mean(axis=[2, 3], keepdim=True)
            # The shortcut keeps what the tower of the classes weighed down; that of the boxes has none.
            outputs.class_logits.append(self.pred_cls[i](self.stem_cls[i](feature, average) + feature))
            outputs.box_logits.append(self.pred_reg[i](self.stem_reg[i](feature, average)))
        return outputs

    def points(self, outputs: PointOutputs) -> AnchorPoints:
        """The A anchors of these outputs."""
        return anchor_points(outputs.class_logits, self.strides, offset=self._cell_offset)

    def predictions(self, outputs: PointOutputs, points: AnchorPoints) -> PointPredictions:
        """Raw outputs as one row per anchor, with decoded boxes."""
        class_logits, box_logits = _by_point(outputs.class_logits), _by_point(outputs.box_logits)
        bins = self.proj_conv.weight.flatten()
        box_logits = box_logits.reshape([dim(box_logits, 0), -1, 4, bins.shape[0]])
        boxes = boxes_around(points.centres, expected_distances(box_logits, bins))
        return PointPredictions(class_logits, box_logits, boxes)

    def losses(
        self, outputs: PointOutputs, targets: BatchTargets, auxiliary: Optional[PointOutputs] = None
    ) -> dict[str, Tensor]:
        """``loss_cls``, ``loss_iou`` and ``loss_dfl``; see `ppyoloe_losses`.

        Args:
            outputs: Raw outputs.
            targets: Ground truth in pixels of the resized images.
            auxiliary: Raw outputs of an auxiliary head. It learns the same targets, its losses are added,
                and the task-aligned assigner goes by its predictions.
        """
        points = self.points(outputs)
        predictions = self.predictions(outputs, points)
        others = None if auxiliary is None else self.predictions(auxiliary, points)
        assigned = self._assign(outputs, points, predictions, others, targets)
        losses = self._losses(predictions, points, assigned)
        if others is not None:
            more = self._losses(others, points, assigned)
            losses = {name: value + more[name] for name, value in losses.items()}
        return losses

    @property
    def _is_static(self) -> bool:
        return self.epoch < self._static_epochs

    @paddle.no_grad()
    def _assign(
        self,
        outputs: PointOutputs,
        points: AnchorPoints,
        predictions: PointPredictions,
        others: Optional[PointPredictions],
        targets: BatchTargets,
    ) -> SoftTargets:
        if self._is_static:
            return self._static_assigner(
                points.squares(self._cell_scale),
                [x.shape[2] * x.shape[3] for x in outputs.class_logits],
                targets,
                predictions.boxes * points.strides,
                num_classes=predictions.class_logits.shape[-1],
            )
        guide = predictions if others is None else others
        scores = functional.sigmoid(guide.class_logits)
        return self._assigner(points, scores, guide.boxes * points.strides, targets)

    def _losses(
        self, predictions: PointPredictions, points: AnchorPoints, assigned: SoftTargets
    ) -> dict[str, Tensor]:
        return ppyoloe_losses(
            predictions,
            points,
            assigned,
            weights=self._weights,
            varifocal=self._varifocal,
            focal_alpha=_STATIC_FOCAL_ALPHA if self._is_static else -1.0,
            training=self.training,
        )

    def decode_boxes(self, outputs: PointOutputs, scale_factors: Tensor) -> DecodedBoxes:
        """All A boxes and scores before NMS.

        Args:
            outputs: Raw outputs.
            scale_factors: ``[N, 2]`` float32 (y, x), resized / original.

        Returns:
            Boxes ``[N, A, 1, 4]`` in original pixels, not clipped, and scores ``[N, A, K]``.
        """
        points = self.points(outputs)
        predictions = self.predictions(outputs, points)
        boxes = predictions.boxes * points.strides / per_corner(scale_factors, predictions.boxes)
        return DecodedBoxes(boxes.unsqueeze(2), functional.sigmoid(predictions.class_logits))

    def decode(self, outputs: PointOutputs, image_sizes: Tensor, scale_factors: Tensor) -> DetectionTensors:
        """Detections in pixels of the original images; see `DenseHead.decode`.

        NMS sees the boxes as predicted, which is how the published scores came about; 2.x leaves them so,
        here they are clipped to the image afterwards.
        """
        kept = self.final_nms(self.decode_boxes(outputs, scale_factors))
        boxes = clip_boxes(kept.boxes, original_sizes(image_sizes, scale_factors))
        return DetectionTensors(boxes, kept.scores, kept.labels)


def _by_point(maps: Sequence[Tensor]) -> Tensor:
    """Levels ``[N, C, h, w]`` to ``[N, A, C]`` float32."""
    joined = paddle.concat([level.flatten(2) for level in maps], axis=2)
    return paddle.transpose(joined.astype("float32"), [0, 2, 1])


def _output(in_channels: int, out_channels: int, bias: float) -> nn.Conv2D:
    """A 3x3 convolution that puts out `bias` until it has learnt something."""
    return nn.Conv2D(
        in_channels,
        out_channels,
        3,
        padding=1,
        weight_attr=paddle.ParamAttr(initializer=nn.initializer.Constant(0.0)),
        bias_attr=paddle.ParamAttr(initializer=nn.initializer.Constant(bias)),
    )


def _bins(reg_max: int) -> nn.Conv2D:
    """The distances of the bins, 0 to `reg_max`, which 2.x keeps in its state dict. Not trained."""
    values = paddle.arange(reg_max + 1, dtype="float32").reshape([1, -1, 1, 1])
    fixed = paddle.ParamAttr(initializer=nn.initializer.Assign(values), trainable=False)
    return nn.Conv2D(reg_max + 1, 1, 1, weight_attr=fixed, bias_attr=False)
