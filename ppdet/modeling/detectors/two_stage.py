"""Two-stage detectors: proposals, then a box head in one stage or several, then masks or not.

Ren et al., "Faster R-CNN"; He et al., "Mask R-CNN"; Cai and Vasconcelos, "Cascade R-CNN". One class does
all three; the classes with their names only say which parts they must have.
"""

from __future__ import annotations

from typing import Optional

from paddle import Tensor

from ppdet.config.ranges import PositiveInt
from ppdet.config.spec import Shared, Spec
from ppdet.modeling.heads.bbox_head import BBoxHead, BoxHead
from ppdet.modeling.heads.cascade_head import CascadeHead
from ppdet.modeling.heads.mask_head import MaskHead, MaskPostProcess, SharedFeatures
from ppdet.modeling.heads.rpn_head import RPNHead
from ppdet.modeling.interfaces import Backbone, Detector, Neck
from ppdet.modeling.post_process import BBoxPostProcess, MultiClassNMS
from ppdet.ops.boxes import scale_boxes
from ppdet.structures import Batch, DetectionTensors, box_conventions


class TwoStageDetector(Detector):
    """Backbone, neck or none, RPN, box head, mask head or none.

    Args:
        num_classes: Number of classes, background not counted.
        backbone: Features.
        neck: Pyramid; None for the C4 detectors, which work on the backbone's last map.
        rpn_head: Proposals.
        bbox_head: Boxes and classes.
        bbox_post_process: Final boxes.
        conventions: Name of the box conventions; all parts get them from here.
        mask_head: Masks.
        mask_post_process: Final masks; None where there are no masks.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: Spec[Backbone],
        neck: Optional[Spec[Neck]],
        rpn_head: Spec[RPNHead],
        bbox_head: Spec[BoxHead],
        bbox_post_process: Spec[BBoxPostProcess],
        conventions: str,
        mask_head: Optional[Spec[MaskHead]] = None,
        mask_post_process: Optional[Spec[MaskPostProcess]] = None,
    ) -> None:
        super().__init__()
        self.conventions = box_conventions(conventions)
        self.num_classes = num_classes
        self.backbone: Backbone = backbone.build()
        self.neck: Optional[Neck] = None if neck is None else neck.build(in_shapes=self.backbone.out_shapes)
        shapes = self.backbone.out_shapes if self.neck is None else self.neck.out_shapes
        handed_down = {"in_shapes": shapes, "conventions": self.conventions}
        self.rpn_head = rpn_head.build(**handed_down)
        self.bbox_head = bbox_head.build(**handed_down, num_classes=num_classes)
        self.bbox_post_process = bbox_post_process.build(decode_arguments=self.bbox_head.decode_arguments)
        self.has_masks = mask_head is not None
        self.mask_head: Optional[MaskHead] = None
        if mask_head is not None:
            body = self.bbox_head.stages[0].body
            self.mask_head = mask_head.build(
                **handed_down,
                num_classes=num_classes,
                shared_features=SharedFeatures(body.out_channels, body.out_resolution),
            )
        if mask_post_process is not None:
            self.mask_threshold = mask_post_process.build().binary_thresh

    @property
    def final_nms(self) -> MultiClassNMS:
        """The NMS of the final boxes."""
        nms: MultiClassNMS = self.bbox_post_process.nms
        return nms

    def _features(self, images: Tensor) -> list[Tensor]:
        features = self.backbone(images)
        return features if self.neck is None else self.neck(features)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of the RPN, of each stage of the box head, and of the mask head."""
        if batch.targets is None:
            raise ValueError("the batch has no targets; for inference call detect, not the model itself")
        features = self._features(batch.images)
        rpn = self.rpn_head(features)
        losses: dict[str, Tensor] = self.rpn_head.losses(rpn, batch.targets)
        proposals = self.rpn_head.decode(rpn, batch.image_sizes, training=True)
        boxes = self.bbox_head.train_step(features, proposals, batch.targets, batch.image_sizes)
        losses.update(boxes.losses)
        if self.mask_head is not None:
            positives = self.bbox_head.assign.sampler.max_positives
            losses.update(self.mask_head.losses(features, boxes, batch.targets, positives=positives))
        return losses

    def detect(self, images: Tensor, image_sizes: Tensor, scale_factors: Tensor) -> DetectionTensors:
        """Detections in pixels of the original images; see `Detector.detect`."""
        features = self._features(images)
        proposals = self.rpn_head.decode(self.rpn_head(features), image_sizes, training=False)
        predictions = self.bbox_head.predict(features, proposals, image_sizes)
        detections: DetectionTensors = self.bbox_post_process(predictions, image_sizes, scale_factors)
        if self.mask_head is None:
            return detections
        probs = self.mask_head.predict(
            features,
            scale_boxes(detections.boxes, scale_factors, last_pixel=self.conventions.last_pixel),
            detections.labels,
            box_features=self.bbox_head.region_features,
        )
        return DetectionTensors(detections.boxes, detections.scores, detections.labels, probs)


class FasterRCNN(TwoStageDetector):
    """Faster R-CNN, with a pyramid or without.

    Args:
        num_classes: Number of classes, background not counted.
        backbone: Features.
        rpn_head: Proposals.
        bbox_head: Boxes and classes.
        bbox_post_process: Final boxes.
        neck: Pyramid, or None.
        conventions: Name of the box conventions.
    """

    def __init__(
        self,
        *,
        num_classes: Shared[PositiveInt] = 80,
        backbone: Spec[Backbone],
        rpn_head: Spec[RPNHead] = Spec.of(RPNHead),  # noqa: B008  (immutable)
        bbox_head: Spec[BoxHead] = Spec.of(BBoxHead),  # noqa: B008
        bbox_post_process: Spec[BBoxPostProcess],
        neck: Optional[Spec[Neck]] = None,
        conventions: Shared[str] = "",
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck,
            rpn_head=rpn_head,
            bbox_head=bbox_head,
            bbox_post_process=bbox_post_process,
            conventions=conventions,
        )


class MaskRCNN(TwoStageDetector):
    """Mask R-CNN, with a pyramid or without.

    Args:
        num_classes: Number of classes, background not counted.
        backbone: Features.
        rpn_head: Proposals.
        bbox_head: Boxes and classes.
        mask_head: Masks.
        bbox_post_process: Final boxes.
        mask_post_process: Final masks.
        neck: Pyramid, or None.
        conventions: Name of the box conventions.
    """

    def __init__(
        self,
        *,
        num_classes: Shared[PositiveInt] = 80,
        backbone: Spec[Backbone],
        rpn_head: Spec[RPNHead] = Spec.of(RPNHead),  # noqa: B008  (immutable)
        bbox_head: Spec[BoxHead] = Spec.of(BBoxHead),  # noqa: B008
        mask_head: Spec[MaskHead] = Spec.of(MaskHead),  # noqa: B008
        bbox_post_process: Spec[BBoxPostProcess],
        mask_post_process: Spec[MaskPostProcess] = Spec.of(MaskPostProcess),  # noqa: B008
        neck: Optional[Spec[Neck]] = None,
        conventions: Shared[str] = "",
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck,
            rpn_head=rpn_head,
            bbox_head=bbox_head,
            bbox_post_process=bbox_post_process,
            conventions=conventions,
            mask_head=mask_head,
            mask_post_process=mask_post_process,
        )


class CascadeRCNN(TwoStageDetector):
    """Cascade R-CNN, with masks or without.

    Args:
        num_classes: Number of classes, background not counted.
        backbone: Features.
        rpn_head: Proposals.
        bbox_head: Boxes and classes, in several stages.
        bbox_post_process: Final boxes.
        neck: Pyramid, or None.
        mask_head: Masks, or None.
        mask_post_process: Final masks.
        conventions: Name of the box conventions.
    """

    def __init__(
        self,
        *,
        num_classes: Shared[PositiveInt] = 80,
        backbone: Spec[Backbone],
        rpn_head: Spec[RPNHead] = Spec.of(RPNHead),  # noqa: B008  (immutable)
        bbox_head: Spec[BoxHead] = Spec.of(CascadeHead),  # noqa: B008
        bbox_post_process: Spec[BBoxPostProcess],
        neck: Optional[Spec[Neck]] = None,
        mask_head: Optional[Spec[MaskHead]] = None,
        mask_post_process: Optional[Spec[MaskPostProcess]] = None,
        conventions: Shared[str] = "",
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck,
            rpn_head=rpn_head,
            bbox_head=bbox_head,
            bbox_post_process=bbox_post_process,
            conventions=conventions,
            mask_head=mask_head,
            mask_post_process=mask_post_process,
        )
