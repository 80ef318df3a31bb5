"""RetinaNet (Lin et al. 2017, "Focal Loss for Dense Object Detection")."""

from __future__ import annotations

from ppdet.config.ranges import PositiveInt
from ppdet.config.spec import Shared, Spec
from ppdet.modeling.backbones.resnet import ResNet
from ppdet.modeling.detectors.single_stage import SingleStageDetector
from ppdet.modeling.heads.retina import RetinaHead
from ppdet.modeling.interfaces import Backbone, DenseHead, Neck
from ppdet.modeling.necks.fpn import FPN

#: C3 to C5, and P3 to P7 made of them, P6 from P5 (section 4).
_BACKBONE: Spec[Backbone] = Spec.of(ResNet, return_idx=[1, 2, 3])
_NECK: Spec[Neck] = Spec.of(FPN, has_extra_convs=True, extra_stage=2, use_c5=False)
_HEAD: Spec[DenseHead] = Spec.of(RetinaHead)


class RetinaNet(SingleStageDetector):
    """RetinaNet with any backbone and pyramid; keys ``backbone``, ``neck``, ``head``.

    Args:
        num_classes: K.
        backbone: Backbone.
        neck: Neck that returns the finest level first.
        head: Head.
    """

    def __init__(
        self,
        *,
        num_classes: Shared[PositiveInt],
        backbone: Spec[Backbone] = _BACKBONE,
        neck: Spec[Neck] = _NECK,
        head: Spec[DenseHead] = _HEAD,
    ) -> None:
        super().__init__(num_classes=num_classes, backbone=backbone, neck=neck, head=head)
