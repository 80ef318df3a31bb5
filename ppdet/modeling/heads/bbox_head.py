"""Box head of R-CNN detectors: classifies regions and refines them, in one stage or several.

Girshick, "Fast R-CNN", section 2; several stages: Cai and Vasconcelos, "Cascade R-CNN", section 4.

Letters: N images, R regions per image, S sampled regions per image, T = N * R regions of all images,
K classes, B boxes predicted per region: K, or 1 where all classes share one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import Positive, PositiveInt
from ppdet.config.spec import Derived, Shared, Spec
from ppdet.modeling.assign.box_coder import DeltaCoder
from ppdet.modeling.assign.roi_targets import BBoxAssigner, RoiTargets
from ppdet.modeling.heads.roi_extractor import RoIAlign
from ppdet.modeling.heads.roi_features import RoiFeatures, TwoFCHead
from ppdet.ops.boxes import clip_boxes
from ppdet.ops.constants import arange
from ppdet.ops.indexing import place_rows
from ppdet.ops.losses import cross_entropy, smooth_l1
from ppdet.ops.roi_align import FlatRegions, flatten_regions
from ppdet.structures import (
    IGNORE_LABEL,
    BatchTargets,
    BoxConventions,
    FeatureShape,
    Proposals,
)
from ppdet.structures.conventions import NORMAL


class BoxOutputs(NamedTuple):
    """Raw outputs of one stage.

    Attributes:
        class_logits: ``[T, K + 1]`` float32, background last.
        deltas: ``[T, B, 4]`` float32.
        features: ``[T, C]`` or ``[T, C, h, w]``, the input of both.
    """

    class_logits: Tensor
    deltas: Tensor
    features: Tensor


class BoxTraining(NamedTuple):
    """Result of a training step, including the parts that a mask head reuses.

    Attributes:
        losses: By name.
        regions: Sampled regions of the first stage, positives first.
        features: Features of those regions, as in `BoxOutputs`.
    """

    losses: dict[str, Tensor]
    regions: RoiTargets
    features: Tensor


class BoxPredictions(NamedTuple):
    """Result of inference, before decoding.

    Attributes:
        regions: ``[N, R, 4]`` float32 xyxy that `deltas` refer to, pixels of the resized images.
        deltas: ``[N, R, B, 4]`` float32.
        probs: ``[N, R, K + 1]`` float32, background last.
        valid: ``[N, R]`` bool.
    """

    regions: Tensor
    deltas: Tensor
    probs: Tensor
    valid: Tensor


@dataclass(frozen=True)
class BoxStage:
    """The layers of one stage; they belong to the head, under the keys that it gives them.

    Attributes:
        body: Pooled regions to features.
        score: Features to class logits.
        delta: Features to deltas.
        coder: Encodes and decodes deltas.
    """

    body: RoiFeatures
    score: nn.Layer
    delta: nn.Layer
    coder: DeltaCoder


class BoxHead(nn.Layer):
    """Base class of box heads of one stage and of several; a subclass makes the layers.

    Args:
        num_classes: K.
        roi_extractor: Pools regions.
        bbox_assigner: Training targets of regions.
        with_pool: Average feature maps over their area before the two outputs.
        class_agnostic: One box per region (B = 1) rather than one per class.
        conventions: Box conventions.
    """

    stages: list[BoxStage]

    def __init__(
        self,
        *,
        num_classes: int,
        roi_extractor: RoIAlign,
        bbox_assigner: BBoxAssigner,
        with_pool: bool,
        class_agnostic: bool,
        conventions: BoxConventions,
    ) -> None:
        super().__init__()
        self.conventions = conventions
        self.num_classes = num_classes
        self.roi_extractor = roi_extractor
        self.assign = bbox_assigner
        self.with_pool = with_pool
        self.class_agnostic = class_agnostic

    @property
    def decode_arguments(self) -> dict[str, Any]:
        """Derived arguments of the decoder of this head's outputs; the deltas are those of the last stage."""
        return {"prior_box_var": list(self.stages[-1].coder.weights), "conventions": self.conventions}

    def build_body(self, spec: Spec[RoiFeatures]) -> RoiFeatures:
        """A body for the features that `roi_extractor` pools."""
        return spec.build(in_channel=self.roi_extractor.channels, resolution=self.roi_extractor.resolution)

    def build_outputs(self, channels: int) -> tuple[nn.Linear, nn.Linear]:
        """Layers from features to class logits and to deltas, initialised as in Fast R-CNN, section 2.3."""
        boxes = 1 if self.class_agnostic else self.num_classes
        score = nn.Linear(channels, self.num_classes + 1, weight_attr=_normal(0.01))
        return score, nn.Linear(channels, 4 * boxes, weight_attr=_normal(0.001))

    def region_features(self, features: list[Tensor], regions: FlatRegions, stage: int = 0) -> Tensor:
        """Features of regions before averaging, ``[T, C]`` or ``[T, C, h, w]``."""
        return self.stages[stage].body(self.roi_extractor(features, regions))

    def forward(self, features: list[Tensor], regions: FlatRegions, stage: int = 0) -> BoxOutputs:
        """Raw outputs of one stage for regions in pixels of the resized images."""
        return self._outputs_of(self.roi_extractor(features, regions), stage)

    def _outputs_of(self, regions: Tensor, stage: int) -> BoxOutputs:
        """Raw outputs of one stage for pooled regions ``[T, C, S, S]``."""
        maps = self.stages[stage].body(regions)
        pooled = maps.mean(axis=[2, 3]) if self.with_pool else maps
        layers = self.stages[stage]
        deltas = layers.delta(pooled).astype("float32")
        boxes = 1 if self.class_agnostic else self.num_classes
        return BoxOutputs(layers.score(pooled).astype("float32"), deltas.reshape([-1, boxes, 4]), maps)

    def train_step(
        self, features: list[Tensor], proposals: Proposals, targets: BatchTargets, image_sizes: Tensor
    ) -> BoxTraining:
        """Sample regions, classify and refine them, stage after stage, and compute the losses.

        Returns:
            Losses ``loss_bbox_cls`` and ``loss_bbox_reg``; with several stages one pair per stage, named
            ``..._stage<i>`` and divided by the number of stages.
        """
        losses: dict[str, Tensor] = {}
        steps: list[tuple[RoiTargets, BoxOutputs]] = []
        boxes, valid = proposals.boxes, proposals.valid
        for i, stage in enumerate(self.stages):
            assigned = self.assign(boxes, valid, targets, stage=i)
            outputs = self(features, flatten_regions(assigned.boxes), stage=i)
            suffix = f"_stage{i}" if len(self.stages) > 1 else ""
            for name, loss in self._stage_losses(outputs, assigned, stage.coder).items():
                losses[name + suffix] = loss / len(self.stages)
            steps.append((assigned, outputs))
            if i + 1 < len(self.stages):
                boxes, valid = (
                    self._refine(outputs, assigned.boxes, stage.coder, image_sizes),
                    assigned.labels >= 0,
                )
        return BoxTraining(losses, steps[0][0], steps[0][1].features)

    def predict(self, features: list[Tensor], proposals: Proposals, image_sizes: Tensor) -> BoxPredictions:
        """Class probabilities, averaged over the stages, and the deltas of the last stage."""
        boxes = proposals.boxes
        pooled = self.roi_extractor(features, flatten_regions(boxes))
        outputs = [self._outputs_of(pooled, 0)]
        for i in range(1, len(self.stages)):
            boxes = self._refine(outputs[-1], boxes, self.stages[i - 1].coder, image_sizes)
            pooled = self.roi_extractor(features, flatten_regions(boxes))
            outputs.append(self._outputs_of(pooled, i))
        scored = outputs
        if self.conventions.scores_on_last:
            scored = [*(self._outputs_of(pooled, i) for i in range(len(outputs) - 1)), outputs[-1]]
        probs = [functional.softmax(each.class_logits) for each in scored]
        mean = probs[0] if len(probs) == 1 else paddle.add_n(probs) / len(probs)
        regions = boxes.shape[1]
        return BoxPredictions(
            regions=boxes,
            deltas=outputs[-1].deltas.reshape([-1, regions, outputs[-1].deltas.shape[1], 4]),
            probs=mean.reshape([-1, regions, self.num_classes + 1]),
            valid=proposals.valid,
        )

    def _stage_losses(
        self, outputs: BoxOutputs, assigned: RoiTargets, coder: DeltaCoder
    ) -> dict[str, Tensor]:
        """Cross entropy and L1, each divided by the number of sampled regions (Fast R-CNN, eq. 1)."""
        labels = assigned.labels.flatten()
        count = paddle.clip((labels != IGNORE_LABEL).astype("float32").sum(), min=1.0)
        positive = (labels >= 0) & (labels < self.num_classes)
        rows = arange(labels.shape[0])
        if not self.class_agnostic:
            column = paddle.where(positive, labels, paddle.zeros_like(labels))
            rows = rows * self.num_classes + column
        deltas = paddle.gather(outputs.deltas.reshape([-1, 4]), rows)
        expected = coder.encode(assigned.boxes, assigned.gt_boxes).reshape([-1, 4])
        # Non-positive rows have no target; their own prediction takes its place, for a loss of 0.
        expected = paddle.where(positive.unsqueeze(1), expected, deltas.detach())
        return {
            "loss_bbox_cls": cross_entropy(outputs.class_logits, labels).sum() / count,
            "loss_bbox_reg": smooth_l1(deltas, expected, beta=0.0).sum() / count,
        }

    def _refine(self, outputs: BoxOutputs, boxes: Tensor, coder: DeltaCoder, image_sizes: Tensor) -> Tensor:
        """Regions ``[N, R, 4]`` of the next stage: this stage's boxes, clipped, without gradient."""
        refined = coder.decode(boxes, outputs.deltas.reshape([-1, boxes.shape[1], 4])).detach()
        return clip_boxes(refined, image_sizes) if self.conventions.clipped_stages else refined


class BBoxHead(BoxHead):
    """Box head of one stage (2.x ``BBoxHead``).

    Args:
        in_shapes: Feature shapes, finest first.
        num_classes: K.
        head: Body: ``TwoFCHead`` for FPN, ``Res5Head`` for C4.
        roi_extractor: Pools regions.
        bbox_assigner: Training targets of regions.
        with_pool: Average the body's maps over their area; true if and only if the body returns maps.
        bbox_weight: Weights of dx, dy, dw, dh.
        conventions: Box conventions.

    Raises:
        ValueError: If `with_pool` does not fit the body.
    """

    def __init__(
        self,
        *,
        in_shapes: Derived[list[FeatureShape]],
        num_classes: Shared[PositiveInt] = 80,
        head: Spec[RoiFeatures] = Spec.of(TwoFCHead),  # noqa: B008  (immutable)
        roi_extractor: Spec[RoIAlign] = Spec.of(RoIAlign),  # noqa: B008
        bbox_assigner: Spec[BBoxAssigner] = Spec.of(BBoxAssigner),  # noqa: B008
        with_pool: bool = False,
        bbox_weight: Sequence[Positive] = (10.0, 10.0, 5.0, 5.0),
        conventions: Derived[BoxConventions] = NORMAL,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            roi_extractor=roi_extractor.build(in_shapes=in_shapes, conventions=conventions),
            bbox_assigner=bbox_assigner.build(num_classes=num_classes),
            with_pool=with_pool,
            class_agnostic=False,
            conventions=conventions,
        )
        self.head = self.build_body(head)
        if with_pool != (self.head.out_resolution > 0):
            raise ArgumentError(
                "with_pool",
                f"got {with_pool}, but {head.name} returns "
                f"{'maps' if self.head.out_resolution > 0 else 'vectors'}; set it to {not with_pool}",
            )
        self.bbox_score, self.bbox_delta = self.build_outputs(self.head.out_channels)
        self.stages = [BoxStage(self.head, self.bbox_score, self.bbox_delta, DeltaCoder(bbox_weight))]

    def predict(self, features: list[Tensor], proposals: Proposals, image_sizes: Tensor) -> BoxPredictions:
        """Class probabilities and deltas; zeros in padded rows if the body is a stage of the backbone.

        Such a body is most of an inference, so it is spared the padding, except in a traced graph, whose
        shapes stay fixed.
        """
        if not (self.with_pool and paddle.in_dynamic_mode()):
            return super().predict(features, proposals, image_sizes)
        regions = flatten_regions(proposals.boxes, proposals.valid)
        outputs = self(features, regions)
        assert regions.rows is not None
        shape, rows = proposals.valid.shape, regions.rows
        found = (outputs.deltas, functional.softmax(outputs.class_logits))
        deltas, probs = (place_rows(each, rows, shape[0] * shape[1]) for each in found)
        return BoxPredictions(
            regions=proposals.boxes,
            deltas=deltas.reshape([*shape, *deltas.shape[1:]]),
            probs=probs.reshape([*shape, *probs.shape[1:]]),
            valid=proposals.valid,
        )


def _normal(std: float) -> paddle.ParamAttr:
    return paddle.ParamAttr(initializer=nn.initializer.Normal(0.0, std))
