"""The convolution block of the YOLOv3 family."""

from __future__ import annotations

from paddle import Tensor, nn
from paddle.nn import functional

from ppdet.modeling.layers.norm import build_norm

#: Slope of the leaky rectifier for negative inputs; Darknet's ``activation=leaky``.
LEAKY_SLOPE = 0.1


class ConvNormLeaky(nn.Layer):
    """Square convolution without bias, normalisation, leaky rectifier; keys ``conv.*``, ``batch_norm.*``.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel: Side of the kernel; padded by ``kernel // 2``.
        stride: Stride.
        norm_type: See `ppdet.modeling.layers.norm.build_norm`.
        norm_decay: Own L2 factor of the norm's scale and shift.
        freeze_norm: Keep scale, shift and statistics as they are.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int,
        stride: int = 1,
        norm_type: str = "bn",
        norm_decay: float = 0.0,
        freeze_norm: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2D(
            in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias_attr=False
        )
        self.batch_norm = build_norm(out_channels, norm_type, frozen=freeze_norm, decay=norm_decay)

    def forward(self, features: Tensor) -> Tensor:
        """``[N, in, H, W]`` to ``[N, out, ceil(H / stride), ceil(W / stride)]``."""
        return functional.leaky_relu(self.batch_norm(self.conv(features)), LEAKY_SLOPE)
