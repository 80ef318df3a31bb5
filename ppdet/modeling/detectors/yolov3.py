"""YOLOv3 and YOLOv3-tiny (Redmon & Farhadi, "YOLOv3: An Incremental Improvement")."""

from __future__ import annotations

from ppdet.config.spec import Shared, Spec
from ppdet.modeling.backbones.darknet import DarkNet
from ppdet.modeling.detectors.single_stage import PostProcess, SingleStageDetector
from ppdet.modeling.heads.post_process import BBoxPostProcess, MultiClassNMS
from ppdet.modeling.heads.yolo import YOLOBox, YOLOv3Head
from ppdet.modeling.interfaces import Backbone, Neck
from ppdet.modeling.necks.yolo_fpn import YOLOv3FPN

#: As published: many weak candidates, since a score is a product of objectness and class.
_POST_PROCESS = Spec.of(
    BBoxPostProcess,
    decode=Spec.of(YOLOBox),
    nms=Spec.of(MultiClassNMS, score_threshold=0.01, nms_top_k=1000, keep_top_k=100, nms_threshold=0.45),
)


class YOLOv3(SingleStageDetector):
    """YOLOv3 with any backbone, neck and number of levels; keys ``backbone``, ``neck``, ``yolo_head``.

    Args:
        num_classes: K.
        backbone: Backbone.
        neck: Neck that returns the coarsest level first.
        yolo_head: Head; holds the anchors.
        post_process: Decoding and NMS.
    """

    def __init__(
        self,
        *,
        num_classes: Shared[int],
        backbone: Spec[Backbone] = Spec.of(DarkNet),  # noqa: B008  (a Spec is immutable)
        neck: Spec[Neck] = Spec.of(YOLOv3FPN),  # noqa: B008
        yolo_head: Spec[YOLOv3Head] = Spec.of(YOLOv3Head),  # noqa: B008
        post_process: Spec[BBoxPostProcess] = _POST_PROCESS,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.backbone = backbone.build()
        self.neck = neck.build(in_shapes=self.backbone.out_shapes)
        self.yolo_head = yolo_head.build(in_shapes=self.neck.out_shapes, num_classes=num_classes)
        self._post_process = post_process.build(decode_facts=self.yolo_head.decode_facts)
        self.conventions = self._post_process.decode.conventions

    def dense_head(self) -> YOLOv3Head:
        """The head."""
        return self.yolo_head

    def post_process(self) -> PostProcess:
        """Decoding and NMS."""
        return self._post_process
