"""What the backbone and the neck of PP-YOLOE are both made of."""

from __future__ import annotations

from collections.abc import Callable

from paddle import Tensor, nn

from ppdet.modeling.layers.repvgg import ConvBN, RepVGGBlock

#: Slope and offset of the hard sigmoid that weighs channels.
_SLOPE, _OFFSET = 1.0 / 6.0, 0.5


class BasicBlock(nn.Layer):
    """A 3x3 convolution and a RepVGG block; keys ``conv1``, ``conv2``.

    Args:
        channels: Channels in and out.
        act: Activation.
        norm_type: ``bn`` or ``sync_bn``.
        shortcut: Add the input; nothing follows the sum.
        use_alpha: See `RepVGGBlock`.
    """

    def __init__(
        self,
        channels: int,
        *,
        act: Callable[[Tensor], Tensor],
        norm_type: str,
        shortcut: bool,
        use_alpha: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = ConvBN(channels, channels, kernel=3, act=act, norm_type=norm_type)
        self.conv2 = RepVGGBlock(channels, channels, act=act, norm_type=norm_type, use_alpha=use_alpha)
        self._shortcut = shortcut

    def forward(self, features: Tensor) -> Tensor:
        """``[N, C, H, W]`` to the same shape."""
        result = self.conv2(self.conv1(features))
        return features + result if self._shortcut else result


class ChannelAttention(nn.Layer):
    """Effective squeeze and excitation (Lee & Park 2020, "CenterMask", section 3.3); key ``fc``.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2D(channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """``[N, C, H, W]`` to the same shape, each channel weighed by its average over the image."""
        average = features.mean(axis=[2, 3], keepdim=True)
        return features * nn.functional.hardsigmoid(self.fc(average), slope=_SLOPE, offset=_OFFSET)
