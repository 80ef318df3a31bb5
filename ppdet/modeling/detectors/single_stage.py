"""Detectors without proposals: backbone, neck, and a dense head."""

from __future__ import annotations

from typing import Any, ClassVar, Optional

from paddle import Tensor

from ppdet.config.ranges import PositiveInt
from ppdet.config.spec import Shared, Spec
from ppdet.modeling.interfaces import Backbone, DenseHead, Detector, Neck
from ppdet.modeling.post_process import MultiClassNMS
from ppdet.structures import Batch, BatchTargets, DetectionTensors


class SingleStageDetector(Detector):
    """Any backbone, neck and dense head.

    ``architecture: SingleStageDetector`` takes the parts from a YAML. A subclass gives them other names or
    defaults, and may choose the key of the head in a state dict.

    Args:
        num_classes: K.
        backbone: Backbone.
        neck: Neck; None where the head works on the backbone's maps.
        head: Dense head.
    """

    #: Key of the head in a state dict.
    head_key: ClassVar[str] = "head"

    def __init__(
        self,
        *,
        num_classes: Shared[PositiveInt],
        backbone: Spec[Backbone],
        neck: Optional[Spec[Neck]] = None,
        head: Spec[DenseHead],
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.backbone: Backbone = backbone.build()
        self.neck: Optional[Neck] = None if neck is None else neck.build(in_shapes=self.backbone.out_shapes)
        shapes = self.backbone.out_shapes if self.neck is None else self.neck.out_shapes
        self.add_sublayer(self.head_key, head.build(in_shapes=shapes, num_classes=num_classes))

    @property
    def dense_head(self) -> DenseHead:
        """The head, under any key."""
        head: DenseHead = self._sub_layers[self.head_key]
        return head

    @property
    def final_nms(self) -> Optional[MultiClassNMS]:
        """The head's NMS."""
        return self.dense_head.final_nms

    def begin_epoch(self, epoch: int) -> None:
        """Hand the epoch to the head."""
        self.dense_head.begin_epoch(epoch)

    def raw_outputs(self, images: Tensor) -> Any:
        """Outputs of the head for images ``[N, 3, H, W]``, before any decoding."""
        features = self.backbone(images)
        return self.dense_head(features if self.neck is None else self.neck(features))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Training losses by name, each a float32 scalar.

        Raises:
            ValueError: If the batch has no targets.
        """
        return self.dense_head.losses(self.raw_outputs(batch.images), required_targets(batch))

    def detect(self, images: Tensor, image_sizes: Tensor, scale_factors: Tensor) -> DetectionTensors:
        """Detections as tensors; see `Detector.detect`."""
        return self.dense_head.decode(self.raw_outputs(images), image_sizes, scale_factors)


def required_targets(batch: Batch) -> BatchTargets:
    """The targets of a training batch.

    Raises:
        ValueError: If it has none.
    """
    if batch.targets is None:
        raise ValueError("the batch has no targets; for inference call detect, not the model itself")
    return batch.targets
