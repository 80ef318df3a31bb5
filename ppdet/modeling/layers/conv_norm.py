"""Convolution followed by a normalisation."""

from __future__ import annotations

from typing import Optional

import paddle
from paddle import Tensor, nn

from ppdet.modeling.layers.norm import build_norm


class ConvNorm(nn.Layer):
    """Square convolution without bias, then normalisation; state-dict keys ``conv.*``, ``norm.*``.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel: Side of the kernel; padded by ``kernel // 2``.
        stride: Stride.
        norm_type: See `build_norm`.
        norm_decay: Own L2 factor of the norm's scale and shift.
        freeze_norm: Keep scale, shift and statistics as they are.
        lr_mult: Factor on the learning rate.
        initializer: Start of the kernel; Paddle's own if None.
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
        lr_mult: float = 1.0,
        initializer: Optional[nn.initializer.Initializer] = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2D(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            padding=kernel // 2,
            weight_attr=paddle.ParamAttr(learning_rate=lr_mult, initializer=initializer),
            bias_attr=False,
        )
        self.norm = build_norm(out_channels, norm_type, frozen=freeze_norm, lr_mult=lr_mult, decay=norm_decay)

    def forward(self, features: Tensor) -> Tensor:
        """``[N, in, H, W]`` to ``[N, out, ceil(H / stride), ceil(W / stride)]``."""
        return self.norm(self.conv(features))
