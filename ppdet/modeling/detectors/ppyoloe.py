"""PP-YOLOE and PP-YOLOE+ (Xu et al. 2022, "PP-YOLOE: An Evolved Version of YOLO", arXiv:2203.16250)."""

from __future__ import annotations

import copy

import paddle
from paddle import Tensor

from ppdet.config.ranges import NonNegativeInt, PositiveInt
from ppdet.config.spec import Shared, Spec
from ppdet.modeling.backbones.csp_resnet import CSPResNet
from ppdet.modeling.detectors.single_stage import SingleStageDetector, required_targets
from ppdet.modeling.heads.ppyoloe import PPYOLOEHead
from ppdet.modeling.heads.simple_conv import SimpleConvHead
from ppdet.modeling.interfaces import Backbone, Neck
from ppdet.modeling.necks.csp_pan import CustomCSPPAN
from ppdet.structures import Batch, FeatureShape


class PPYOLOE(SingleStageDetector):
    """PP-YOLOE with any backbone and neck; keys ``backbone``, ``neck``, ``yolo_head``.

    Args:
        num_classes: K.
        backbone: Backbone.
        neck: Neck that returns the coarsest level first.
        yolo_head: Head.
    """

    head_key = "yolo_head"
    yolo_head: PPYOLOEHead
    neck: Neck

    def __init__(
        self,
        *,
        num_classes: Shared[PositiveInt],
        backbone: Spec[Backbone] = Spec.of(CSPResNet),  # noqa: B008  (a Spec is immutable)
        neck: Spec[Neck] = Spec.of(CustomCSPPAN),  # noqa: B008
        yolo_head: Spec[PPYOLOEHead] = Spec.of(PPYOLOEHead),  # noqa: B008
    ) -> None:
        super().__init__(num_classes=num_classes, backbone=backbone, neck=neck, head=yolo_head)


class PPYOLOEWithAuxHead(PPYOLOE):
    """PP-YOLOE whose training an auxiliary neck and head help; detection does not use them.

    Further keys ``aux_neck``, ``aux_head``.

    Args:
        num_classes: K.
        backbone: Backbone.
        neck: Neck; the auxiliary one is a second of its kind, with the same random weights.
        yolo_head: Head.
        aux_head: Auxiliary head, on the maps of both necks.
        detach_epoch: From this epoch on, counted from 0, the auxiliary part no longer trains the backbone and
            the neck.
    """

    def __init__(
        self,
        *,
        num_classes: Shared[PositiveInt],
        backbone: Spec[Backbone] = Spec.of(CSPResNet),  # noqa: B008  (a Spec is immutable)
        neck: Spec[Neck] = Spec.of(CustomCSPPAN),  # noqa: B008
        yolo_head: Spec[PPYOLOEHead] = Spec.of(PPYOLOEHead),  # noqa: B008
        aux_head: Spec[SimpleConvHead] = Spec.of(SimpleConvHead),  # noqa: B008
        detach_epoch: NonNegativeInt = 5,
    ) -> None:
        super().__init__(num_classes=num_classes, backbone=backbone, neck=neck, yolo_head=yolo_head)
        self.aux_neck = copy.deepcopy(self.neck)
        both = [FeatureShape(2 * shape.channels, shape.stride) for shape in self.neck.out_shapes]
        self.aux_head = aux_head.build(in_shapes=both, num_classes=num_classes)
        self._detach_epoch = detach_epoch

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Training losses by name, of both heads together; see `SingleStageDetector.forward`."""
        targets = required_targets(batch)
        maps = self.backbone(batch.images)
        features = self.neck(maps)
        outputs = self.yolo_head(features)
        if self.yolo_head.epoch >= self._detach_epoch:
            maps, features = [x.detach() for x in maps], [x.detach() for x in features]
        both = [paddle.concat([a, b], axis=1) for a, b in zip(features, self.aux_neck(maps))]
        return self.yolo_head.losses(outputs, targets, self.aux_head(both))
