"""Box head of several stages (Cai and Vasconcelos, "Cascade R-CNN: Delving into High Quality Object
Detection", section 4).
"""

from __future__ import annotations

from collections.abc import Sequence

from paddle import nn

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import Positive, PositiveInt
from ppdet.config.spec import Derived, Shared, Spec
from ppdet.modeling.assign.box_coder import DeltaCoder
from ppdet.modeling.assign.roi_targets import BBoxAssigner
from ppdet.modeling.heads.bbox_head import BoxHead, BoxStage
from ppdet.modeling.heads.roi_extractor import RoIAlign
from ppdet.modeling.heads.roi_features import CascadeTwoFCHead, RoiFeatures
from ppdet.structures import BoxConventions, FeatureShape
from ppdet.structures.conventions import NORMAL

#: Deltas shrink from stage to stage; greater weights keep the losses alike (section 4.2).
_STAGE_WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))


class CascadeHead(BoxHead):
    """Stages that each refine the boxes of the one before, one box per region for all classes.

    Args:
        in_shapes: Feature shapes, finest first.
        num_classes: Number of classes.
        head: Body of each stage.
        roi_extractor: Pools regions.
        bbox_assigner: Training targets; has the IoU threshold of each stage.
        bbox_weight: Weights of dx, dy, dw, dh, for each stage.
        conventions: Box conventions.

    Raises:
        ValueError: If the body returns maps, or there are fewer IoU thresholds than stages.
    """

    def __init__(
        self,
        *,
        in_shapes: Derived[list[FeatureShape]],
        num_classes: Shared[PositiveInt] = 80,
        head: Spec[RoiFeatures] = Spec.of(CascadeTwoFCHead),  # noqa: B008  (immutable)
        roi_extractor: Spec[RoIAlign] = Spec.of(RoIAlign),  # noqa: B008
        bbox_assigner: Spec[BBoxAssigner] = Spec.of(BBoxAssigner),  # noqa: B008
        bbox_weight: Sequence[Sequence[Positive]] = _STAGE_WEIGHTS,
        conventions: Derived[BoxConventions] = NORMAL,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            roi_extractor=roi_extractor.build(in_shapes=in_shapes, conventions=conventions),
            bbox_assigner=bbox_assigner.build(num_classes=num_classes),
            with_pool=False,
            class_agnostic=True,
            conventions=conventions,
        )
        if len(self.assign.matchers) < len(bbox_weight):
            raise ArgumentError(
                "bbox_weight",
                f"there are {len(bbox_weight)} stages, but BBoxAssigner.cascade_iou has only "
                f"{len(self.assign.matchers)} thresholds",
            )
        bodies = [self.build_body(head) for _ in bbox_weight]
        self.head = nn.LayerList(bodies)
        self.stages = []
        for i, (body, weights) in enumerate(zip(bodies, bbox_weight)):
            if body.out_resolution > 0:
                raise ArgumentError("head", f"{head.name} returns maps, expected vectors")
            score, delta = self.build_outputs(body.out_channels)
            self.add_sublayer(f"bbox_score_stage{i}", score)
            self.add_sublayer(f"bbox_delta_stage{i}", delta)
            coder = DeltaCoder(weights, limited=conventions.limited_growth)
            self.stages.append(BoxStage(body, score, delta, coder))
