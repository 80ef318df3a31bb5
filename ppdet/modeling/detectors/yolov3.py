"""YOLOv3 and YOLOv3-tiny (Redmon & Farhadi, "YOLOv3: An Incremental Improvement")."""

from __future__ import annotations

from ppdet.config.ranges import PositiveInt
from ppdet.config.spec import Shared, Spec
from ppdet.modeling.backbones.darknet import DarkNet
from ppdet.modeling.detectors.single_stage import SingleStageDetector
from ppdet.modeling.heads.yolo import POST_PROCESS, YOLOv3Head
from ppdet.modeling.interfaces import Backbone, Neck
from ppdet.modeling.necks.yolo_fpn import YOLOv3FPN
from ppdet.modeling.post_process import BBoxPostProcess
from ppdet.structures import box_conventions


class YOLOv3(SingleStageDetector):
    """YOLOv3 with any backbone, neck and number of levels; keys ``backbone``, ``neck``, ``yolo_head``.

    Args:
        num_classes: K.
        backbone: Backbone.
        neck: Neck that returns the coarsest level first.
        yolo_head: Head; holds the anchors.
        post_process: Decoding and NMS of the head's outputs.
        conventions: Name of the box conventions.
    """

    head_key = "yolo_head"
    yolo_head: YOLOv3Head

    def __init__(
        self,
        *,
        num_classes: Shared[PositiveInt],
        backbone: Spec[Backbone] = Spec.of(DarkNet),  # noqa: B008  (a Spec is immutable)
        neck: Spec[Neck] = Spec.of(YOLOv3FPN),  # noqa: B008
        yolo_head: Spec[YOLOv3Head] = Spec.of(YOLOv3Head),  # noqa: B008
        post_process: Spec[BBoxPostProcess] = POST_PROCESS,
        conventions: Shared[str] = "",
    ) -> None:
        box = box_conventions(conventions)
        head = yolo_head.bind(post_process=post_process, conventions=box)
        super().__init__(num_classes=num_classes, backbone=backbone, neck=neck, head=head)
        self.conventions = box
