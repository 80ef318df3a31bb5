"""The interfaces between the parts of a detector: backbone, neck, dense head, detector.

Letters: N images, H, W input height and width, L feature levels.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Optional

from paddle import Tensor, nn

from ppdet.modeling.post_process import MultiClassNMS
from ppdet.structures import Batch, BatchTargets, BoxConventions, DetectionTensors, FeatureShape


class Backbone(nn.Layer):
    """Turns images into feature maps, finest first."""

    out_shapes: list[FeatureShape]

    @abstractmethod
    def forward(self, images: Tensor) -> list[Tensor]:
        """``[N, 3, H, W]`` images to L maps ``[N, C_l, H / stride_l, W / stride_l]``."""


class Neck(nn.Layer):
    """Turns the feature maps of a backbone into others; its parent hands over ``in_shapes``."""

    out_shapes: list[FeatureShape]

    @abstractmethod
    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """L maps in, L' maps out, finest first unless the neck says otherwise."""


class DenseHead(nn.Layer):
    """Predicts at every cell of the feature maps; the head of a `SingleStageDetector`.

    Its parent hands over ``in_shapes`` (channels and stride of each level, in the order of the neck) and
    ``num_classes``. What `forward` returns is the head's own choice, a list or a named tuple; only `losses`
    and `decode` read it. `RPNHead` has the same three methods, but its `decode` gives proposals.
    """

    #: The NMS that ends `decode`; None where there is none.
    final_nms: Optional[MultiClassNMS] = None

    @abstractmethod
    def forward(self, features: list[Tensor]) -> Any:
        """L maps of the neck to raw outputs."""

    @abstractmethod
    def losses(self, outputs: Any, targets: BatchTargets) -> dict[str, Tensor]:
        """Training losses by name, each a float32 scalar that exists and is finite without any object too.

        Args:
            outputs: Raw outputs.
            targets: Ground truth in pixels of the resized images.
        """

    @abstractmethod
    def decode(self, outputs: Any, image_sizes: Tensor, scale_factors: Tensor) -> DetectionTensors:
        """Detections in pixels of the original images.

        Args:
            outputs: Raw outputs.
            image_sizes: ``[N, 2]`` float32 (height, width) of the resized content.
            scale_factors: ``[N, 2]`` float32 (y, x), resized / original.
        """

    def begin_epoch(self, epoch: int) -> None:
        """See `Detector.begin_epoch`."""


class Detector(nn.Layer):
    """A whole model. Training calls `forward`, everything else `detect`.

    The attributes tell what the detector offers; nothing else of it is inspected from outside.
    """

    num_classes: int
    #: Whether it trains on masks and predicts them.
    has_masks: bool = False
    #: Probability from which on a pixel belongs to an object, where the detector has masks.
    mask_threshold: float = 0.5
    #: Meaning of the boxes of its weights; other than normal only for weights of other programs.
    conventions: BoxConventions = BoxConventions()

    @property
    def final_nms(self) -> Optional[MultiClassNMS]:
        """The NMS that ends `detect`; None where there is none, as in detectors that predict sets."""
        return None

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Training losses by name, each a float32 scalar; the engine minimises their sum.

        Losses hang on `forward` because `paddle.DataParallel` synchronises gradients only there.
        """

    @abstractmethod
    def detect(self, images: Tensor, image_sizes: Tensor, scale_factors: Tensor) -> DetectionTensors:
        """Detections as tensors on the model's device; the part that an export wraps.

        Args:
            images: ``[N, 3, H, W]`` float32, normalised and padded.
            image_sizes: ``[N, 2]`` float32 (height, width) of the resized content.
            scale_factors: ``[N, 2]`` float32 (y, x), resized / original.
        """

    def begin_epoch(self, epoch: int) -> None:
        """Prepare for an epoch of training, counted from 0; by default nothing.

        The trainer calls it before the first batch of each epoch, and after a resume before the first batch
        of the rest of one. For heads whose assignment of targets depends on the epoch.
        """
