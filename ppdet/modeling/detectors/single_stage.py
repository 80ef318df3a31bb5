"""Detectors without proposals: backbone, neck, and a head that looks at every cell once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

from paddle import Tensor

from ppdet.modeling.interfaces import Backbone, Detector, Neck
from ppdet.structures import Batch, BatchTargets, DetectionTensors

#: Raw outputs, image sizes and scale factors to detections; see `BBoxPostProcess`.
PostProcess = Callable[[Any, Tensor, Tensor], DetectionTensors]


class DenseHead(Protocol):
    """What a head of such a detector offers. Its raw outputs are its own affair: a list, a named tuple."""

    def __call__(self, features: list[Tensor]) -> Any:
        """Maps of the neck to raw outputs."""

    def losses(self, outputs: Any, targets: BatchTargets) -> dict[str, Tensor]:
        """Named training losses."""


class SingleStageDetector(Detector):
    """The flow that YOLOv3 and RetinaNet share. A subclass builds the parts under its own key names."""

    backbone: Backbone
    neck: Neck

    @abstractmethod
    def dense_head(self) -> DenseHead:
        """The head."""

    @abstractmethod
    def post_process(self) -> PostProcess:
        """What makes detections of the head's raw outputs."""

    def raw_outputs(self, images: Tensor) -> Any:
        """What the head puts out for images ``[N, 3, H, W]``, before any decoding."""
        return self.dense_head()(self.neck(self.backbone(images)))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Training losses by name, each a float32 scalar.

        Raises:
            ValueError: If the batch has no targets.
        """
        if batch.targets is None:
            raise ValueError("the batch has no targets; for inference call detect, not the model itself")
        return self.dense_head().losses(self.raw_outputs(batch.images), batch.targets)

    def detect(self, images: Tensor, image_sizes: Tensor, scale_factors: Tensor) -> DetectionTensors:
        """Detections as tensors; see `Detector.detect`."""
        return self.post_process()(self.raw_outputs(images), image_sizes, scale_factors)
