"""What a backbone, a neck and a detector promise each other.

Letters: N images, H, W input height and width, L feature levels.
"""

from __future__ import annotations

from abc import abstractmethod

from paddle import Tensor, nn

from ppdet.structures import Batch, BoxConventions, DetectionTensors, FeatureShape


class Backbone(nn.Layer):
    """Turns images into feature maps, finest first."""

    out_shapes: list[FeatureShape]

    @abstractmethod
    def forward(self, images: Tensor) -> list[Tensor]:
        """``[N, 3, H, W]`` images to L maps ``[N, C_l, H / stride_l, W / stride_l]``."""


class Neck(nn.Layer):
    """Turns the feature maps of a backbone into others; takes ``in_shapes`` from its parent."""

    out_shapes: list[FeatureShape]

    @abstractmethod
    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """L maps in, L' maps out, finest first unless the neck says otherwise."""


class Detector(nn.Layer):
    """A whole model. Training calls `forward`, everything else `detect`."""

    num_classes: int
    #: Probability from which on a pixel belongs to an object, where the detector has masks.
    mask_threshold: float = 0.5
    #: What the weights mean by boxes; other than normal only for weights of other programs.
    conventions: BoxConventions = BoxConventions()

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
