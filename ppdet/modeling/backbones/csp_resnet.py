"""CSPRepResNet, the backbone of PP-YOLOE (Xu et al. 2022, "PP-YOLOE", arXiv:2203.16250, section 2.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Optional

import paddle
from paddle import Tensor, nn

from ppdet.config.ranges import NonNegativeInt, Positive, PositiveInt
from ppdet.config.spec import Shared
from ppdet.modeling.interfaces import Backbone
from ppdet.modeling.layers.csp import BasicBlock, ChannelAttention
from ppdet.modeling.layers.repvgg import ConvBN, activation_of
from ppdet.structures import FeatureShape


class _Stage(nn.Layer):
    """Halves the resolution; one half of the channels runs through the blocks, the other passes by."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        blocks: int,
        *,
        act: Callable[[Tensor], Tensor],
        norm_type: str,
        use_alpha: bool,
    ) -> None:
        super().__init__()
        middle = (in_channels + out_channels) // 2
        half = middle // 2
        self.conv_down = ConvBN(in_channels, middle, kernel=3, stride=2, act=act, norm_type=norm_type)
        self.conv1 = ConvBN(middle, half, kernel=1, act=act, norm_type=norm_type)
        self.conv2 = ConvBN(middle, half, kernel=1, act=act, norm_type=norm_type)
        self.blocks = nn.Sequential(
            *(
                BasicBlock(half, act=act, norm_type=norm_type, shortcut=True, use_alpha=use_alpha)
                for _ in range(blocks)
            )
        )
        self.attn = ChannelAttention(2 * half)
        self.conv3 = ConvBN(2 * half, out_channels, kernel=1, act=act, norm_type=norm_type)

    def forward(self, features: Tensor) -> Tensor:
        """``[N, in, H, W]`` to ``[N, out, H / 2, W / 2]``."""
        features = self.conv_down(features)
        both = paddle.concat([self.conv1(features), self.blocks(self.conv2(features))], axis=1)
        return self.conv3(self.attn(both))


class CSPResNet(Backbone):
    """Cross-stage partial stages of re-parameterisable residual blocks.

    Args:
        layers: Blocks of each stage before `depth_mult`.
        channels: Channels of the stem and of each stage before `width_mult`.
        act: ``swish`` or ``relu``.
        norm_type: ``bn`` or ``sync_bn``.
        return_idx: Which stages are returned, 0 having stride 4.
        use_large_stem: Three 3x3 convolutions before the first stage instead of two.
        width_mult: Factor on all channels.
        depth_mult: Factor on all numbers of blocks; each stage keeps at least one.
        use_alpha: A learnt factor on the 1x1 branch of each block, as PP-YOLOE+ has it.

    Raises:
        ValueError: If stages and channels do not fit, or `return_idx` names a stage that does not exist.
    """

    def __init__(
        self,
        *,
        layers: Sequence[PositiveInt] = (3, 6, 6, 3),
        channels: Sequence[PositiveInt] = (64, 128, 256, 512, 1024),
        act: str = "swish",
        norm_type: Shared[str] = "bn",
        return_idx: Sequence[NonNegativeInt] = (1, 2, 3),
        use_large_stem: bool = True,
        width_mult: Shared[Positive] = 1.0,
        depth_mult: Shared[Positive] = 1.0,
        use_alpha: bool = False,
    ) -> None:
        super().__init__()
        if len(channels) != len(layers) + 1:
            raise ValueError(
                f"CSPResNet.channels: expected {len(layers) + 1} numbers for {len(layers)} layers, one more "
                f"for the stem, got {list(channels)}"
            )
        if not return_idx or not set(return_idx) <= set(range(len(layers))):
            raise ValueError(
                f"CSPResNet.return_idx: expected stages 0..{len(layers) - 1}, got {list(return_idx)}"
            )
        wide = [max(round(count * width_mult), 1) for count in channels]
        activation = activation_of("CSPResNet", act)
        self.stem = _stem(wide[0], large=use_large_stem, act=activation, norm_type=norm_type)
        self.stages = nn.Sequential(
            *(
                _Stage(
                    wide[i],
                    wide[i + 1],
                    max(round(count * depth_mult), 1),
                    act=activation,
                    norm_type=norm_type,
                    use_alpha=use_alpha,
                )
                for i, count in enumerate(layers)
            )
        )
        self._return_idx = sorted(return_idx)
        self.out_shapes = [FeatureShape(wide[i + 1], 4 * 2**i) for i in self._return_idx]

    def forward(self, images: Tensor) -> list[Tensor]:
        """``[N, 3, H, W]`` to the maps of the returned stages, finest first."""
        features = self.stem(images)
        maps = []
        for i, stage in enumerate(self.stages):
            features = stage(features)
            if i in self._return_idx:
                maps.append(features)
        return maps


def _stem(
    channels: int, *, large: bool, act: Optional[Callable[[Tensor], Tensor]], norm_type: str
) -> nn.Sequential:
    """``[N, 3, H, W]`` to ``[N, channels, H / 2, W / 2]``; keys ``conv1`` to ``conv3``, or ``conv2``."""
    widths = [channels // 2, channels // 2, channels] if large else [channels // 2, channels]
    stem = nn.Sequential()
    before = 3
    for i, width in enumerate(widths):
        conv = ConvBN(before, width, kernel=3, stride=2 if i == 0 else 1, act=act, norm_type=norm_type)
        stem.add_sublayer(f"conv{i + 1}", conv)
        before = width
    return stem
