"""PP-HGNetV2, a network of blocks that keep the outputs of all their layers.

Cui et al., "Beyond Self-Supervision: A Simple Yet Effective Network Distillation Alternative" (PP-HGNet), and
the successor that PaddleClas publishes; the layout is that of its ImageNet weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import IntFromMinusOne, NonNegative, NonNegativeInt
from ppdet.modeling.interfaces import Backbone
from ppdet.modeling.layers.repvgg import ConvBN
from ppdet.structures import FeatureShape

#: At the bottom and right, which keeps the size of a map under a 2x2 kernel.
_SAME_FOR_2X2 = [0, 1, 0, 1]


class StagePlan(NamedTuple):
    """One stage.

    Attributes:
        width: Channels of the layers inside a block.
        out_channels: Channels out.
        blocks: Blocks.
        downsample: Halve the resolution first.
        light: Layers are a 1x1 and a depthwise convolution instead of a full one.
        kernel: Side of the kernels.
        layers: Layers of a block.
    """

    width: int
    out_channels: int
    blocks: int
    downsample: bool
    light: bool
    kernel: int
    layers: int = 6


#: Channels after the first and the last convolution of the stem.
_STEMS: dict[str, tuple[int, int]] = {"L": (32, 48), "X": (32, 64), "H": (48, 96)}
_STAGES: dict[str, list[StagePlan]] = {
    "L": [
        StagePlan(48, 128, 1, False, False, 3),
        StagePlan(96, 512, 1, True, False, 3),
        StagePlan(192, 1024, 3, True, True, 5),
        StagePlan(384, 2048, 1, True, True, 5),
    ],
    "X": [
        StagePlan(64, 128, 1, False, False, 3),
        StagePlan(128, 512, 2, True, False, 3),
        StagePlan(256, 1024, 5, True, True, 5),
        StagePlan(512, 2048, 2, True, True, 5),
    ],
    "H": [
        StagePlan(96, 192, 2, False, False, 3),
        StagePlan(192, 512, 3, True, False, 3),
        StagePlan(384, 1024, 6, True, True, 5),
        StagePlan(768, 2048, 3, True, True, 5),
    ],
}


class PPHGNetV2(Backbone):
    """PP-HGNetV2; keys ``stem``, ``stages.0`` to ``stages.3``.

    Args:
        arch: Size.
        lr_mult_list: Learning-rate factors of the stem and the four stages.
        return_idx: Stages to return, 0..3, of strides 4 to 32.
        freeze_stem_only: With ``freeze_at >= 0``, freeze the stem and no stage.
        freeze_at: Last stage whose convolutions are not trained, the stem with it; -1 to train everything.
        freeze_norm: Norms keep their stored statistics, scale and shift.

    Raises:
        ArgumentError: If a value is out of range.
    """

    def __init__(
        self,
        *,
        arch: Literal["L", "X", "H"],
        lr_mult_list: Sequence[NonNegative] = (1.0, 1.0, 1.0, 1.0, 1.0),
        return_idx: Sequence[NonNegativeInt] = (1, 2, 3),
        freeze_stem_only: bool = True,
        freeze_at: IntFromMinusOne = 0,
        freeze_norm: bool = True,
    ) -> None:
        super().__init__()
        if len(lr_mult_list) != 5:
            raise ArgumentError("lr_mult_list", f"expected 5, stem and stages, got {list(lr_mult_list)}")
        if not -1 <= freeze_at < 4:
            raise ArgumentError("freeze_at", f"expected -1..3, got {freeze_at}")
        if not return_idx or not all(0 <= i < 4 for i in return_idx):
            raise ArgumentError("return_idx", f"expected stages 0..3, got {list(return_idx)}")
        inner, channels = _STEMS[arch]
        self.stem = HGStem(3, inner, channels, frozen=freeze_norm, lr_mult=lr_mult_list[0])
        stages = []
        for plan, lr_mult in zip(_STAGES[arch], lr_mult_list[1:]):
            stages.append(HGStage(channels, plan, frozen=freeze_norm, lr_mult=lr_mult))
            channels = plan.out_channels
        self.stages = nn.LayerList(stages)
        self._returned = sorted(set(return_idx))
        self.out_shapes = [FeatureShape(_STAGES[arch][i].out_channels, 4 * 2**i) for i in self._returned]
        if freeze_at >= 0:
            for part in [self.stem, *([] if freeze_stem_only else stages[: freeze_at + 1])]:
                for parameter in part.parameters():
                    parameter.trainable = False

    def forward(self, images: Tensor) -> list[Tensor]:
        """``[N, 3, H, W]`` images to the returned stages, finest first."""
        features = self.stem(images)
        outputs = []
        for i, stage in enumerate(self.stages):
            if i <= self._returned[-1]:
                features = stage(features)
            if i in self._returned:
                outputs.append(features)
        return outputs


def _conv(
    in_channels: int,
    out_channels: int,
    kernel: int,
    *,
    frozen: bool,
    lr_mult: float,
    stride: int = 1,
    depthwise: bool = False,
    rectified: bool = True,
) -> ConvBN:
    return ConvBN(
        in_channels,
        out_channels,
        kernel=kernel,
        stride=stride,
        padding=_SAME_FOR_2X2 if kernel == 2 else None,
        groups=in_channels if depthwise else 1,
        act=functional.relu if rectified else None,
        freeze_norm=frozen,
        lr_mult=lr_mult,
    )


class HGStem(nn.Layer):
    """Reduces images to a quarter of their size.

    Args:
        in_channels: Channels in.
        inner: Channels after the first convolution.
        out_channels: Channels out.
        frozen: Norms are frozen.
        lr_mult: Factor on the learning rate.
    """

    def __init__(
        self, in_channels: int, inner: int, out_channels: int, *, frozen: bool, lr_mult: float
    ) -> None:
        super().__init__()

        def conv(wide_in: int, wide_out: int, kernel: int, stride: int = 1) -> ConvBN:
            return _conv(wide_in, wide_out, kernel, stride=stride, frozen=frozen, lr_mult=lr_mult)

        self.stem1 = conv(in_channels, inner, 3, 2)
        self.stem2a = conv(inner, inner // 2, 2)
        self.stem2b = conv(inner // 2, inner, 2)
        self.stem3 = conv(2 * inner, inner, 3, 2)
        self.stem4 = conv(inner, out_channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """``[N, in, H, W]`` to ``[N, out, H / 4, W / 4]``, rounded up."""
        features = self.stem1(images)
        pooled = functional.max_pool2d(features, 2, stride=1, padding=_SAME_FOR_2X2)
        return self.stem4(self.stem3(paddle.concat([pooled, self.stem2b(self.stem2a(features))], axis=1)))


class HGStage(nn.Layer):
    """A stage.

    Args:
        in_channels: Channels in.
        plan: Its shape.
        frozen: Norms are frozen.
        lr_mult: Factor on the learning rate.
    """

    def __init__(self, in_channels: int, plan: StagePlan, *, frozen: bool, lr_mult: float) -> None:
        super().__init__()
        self.downsample = None
        if plan.downsample:
            self.downsample = _conv(
                in_channels,
                in_channels,
                3,
                stride=2,
                depthwise=True,
                rectified=False,
                frozen=frozen,
                lr_mult=lr_mult,
            )
        self.blocks = nn.Sequential(
            *(
                HGBlock(
                    plan.out_channels if i else in_channels,
                    plan,
                    shortcut=i > 0,
                    frozen=frozen,
                    lr_mult=lr_mult,
                )
                for i in range(plan.blocks)
            )
        )

    def forward(self, features: Tensor) -> Tensor:
        """``[N, in, H, W]`` to ``[N, out, H, W]`` or half of the size."""
        return self.blocks(features if self.downsample is None else self.downsample(features))


class HGBlock(nn.Layer):
    """Layers in a row, whose outputs all go into one pair of 1x1 convolutions.

    Args:
        in_channels: Channels in.
        plan: Shape of its stage.
        shortcut: Add the input to the output.
        frozen: Norms are frozen.
        lr_mult: Factor on the learning rate.
    """

    def __init__(
        self, in_channels: int, plan: StagePlan, *, shortcut: bool, frozen: bool, lr_mult: float
    ) -> None:
        super().__init__()
        layer = LightLayer if plan.light else _conv
        self.layers = nn.LayerList(
            [
                layer(
                    plan.width if i else in_channels, plan.width, plan.kernel, frozen=frozen, lr_mult=lr_mult
                )
                for i in range(plan.layers)
            ]
        )
        kept, half = in_channels + plan.layers * plan.width, plan.out_channels // 2
        self.aggregation_squeeze_conv = _conv(kept, half, 1, frozen=frozen, lr_mult=lr_mult)
        self.aggregation_excitation_conv = _conv(half, plan.out_channels, 1, frozen=frozen, lr_mult=lr_mult)
        self._shortcut = shortcut

    def forward(self, features: Tensor) -> Tensor:
        """``[N, in, H, W]`` to ``[N, out, H, W]``."""
        outputs = [features]
        for layer in self.layers:
            outputs.append(layer(outputs[-1]))
        merged = self.aggregation_squeeze_conv(paddle.concat(outputs, axis=1))
        merged = self.aggregation_excitation_conv(merged)
        return merged + features if self._shortcut else merged


class LightLayer(nn.Layer):
    """A 1x1 convolution without activation, then a depthwise one; keys ``conv1``, ``conv2``.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel: Side of the depthwise kernel.
        frozen: Norms are frozen.
        lr_mult: Factor on the learning rate.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, frozen: bool, lr_mult: float
    ) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, out_channels, 1, rectified=False, frozen=frozen, lr_mult=lr_mult)
        self.conv2 = _conv(out_channels, out_channels, kernel, depthwise=True, frozen=frozen, lr_mult=lr_mult)

    def forward(self, features: Tensor) -> Tensor:
        """``[N, in, H, W]`` to ``[N, out, H, W]``."""
        return self.conv2(self.conv1(features))
