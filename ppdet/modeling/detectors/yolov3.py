"""YOLOv3 and YOLOv3-tiny (Redmon & Farhadi, "YOLOv3: An Incremental Improvement")."""

from __future__ import annotations

from typing import Optional

from ppdet.config.ranges import PositiveInt
from ppdet.config.spec import Shared, Spec
from ppdet.modeling.backbones.darknet import DarkNet
from ppdet.modeling.detectors.single_stage import SingleStageDetector
from ppdet.modeling.heads.yolo import POST_PROCESS, YOLOv3Head
from ppdet.modeling.interfaces import Backbone, DenseHead, Neck
from ppdet.modeling.necks.yolo_fpn import YOLOv3FPN
from ppdet.modeling.post_process import BBoxPostProcess
from ppdet.structures import box_conventions


class YOLOv3(SingleStageDetector):
    """YOLOv3 with any backbone, neck and number of levels; keys ``backbone``, ``neck``, ``yolo_head``.

    Args:
        num_classes: K.
        backbone: Backbone.
        neck: Neck that returns the coarsest level first.
        yolo_head: `YOLOv3Head`, which holds the anchors. Another dense head is accepted too, since 2.x gives
            PP-YOLOE this name in some of its configs.
        post_process: Decoding and NMS of a `YOLOv3Head`'s outputs; null where the head has its own.
        conventions: Name of the box conventions.
    """

    head_key = "yolo_head"

    def __init__(
        self,
        *,
        num_classes: Shared[PositiveInt],
        backbone: Spec[Backbone] = Spec.of(DarkNet),  # noqa: B008  (a Spec is immutable)
        neck: Spec[Neck] = Spec.of(YOLOv3FPN),  # noqa: B008
        yolo_head: Spec[DenseHead] = Spec.of(YOLOv3Head),  # noqa: B008
        post_process: Optional[Spec[BBoxPostProcess]] = POST_PROCESS,
        conventions: Shared[str] = "",
    ) -> None:
        box = box_conventions(conventions)
        if isinstance(yolo_head.component, type) and issubclass(yolo_head.component, YOLOv3Head):
            yolo_head = yolo_head.bind(post_process=post_process or POST_PROCESS, conventions=box)
        super().__init__(num_classes=num_classes, backbone=backbone, neck=neck, head=yolo_head)
        self.conventions = box
