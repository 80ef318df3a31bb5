"""Feature pyramid network (Lin et al., "Feature Pyramid Networks for Object Detection", section 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Optional

import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import NonNegativeInt, Positive, PositiveInt
from ppdet.config.spec import Derived
from ppdet.modeling.interfaces import Neck
from ppdet.modeling.layers.upsample import double_nearest
from ppdet.structures import FeatureShape, doubling_strides


class FPN(Neck):
    """Top-down pathway with lateral connections, and coarser levels on top.

    Args:
        in_shapes: Feature shapes of the backbone, finest first, each twice as coarse as the last.
        out_channel: Channels of every level out.
        spatial_scales: 1 / stride of each level in. Follows from the backbone; if given it must agree.
        has_extra_convs: Make the levels on top with 3x3 convolutions of stride 2 (RetinaNet, section
            4) instead of one more level by taking every second cell (FPN, section 4.1, footnote).
        extra_stage: How many levels to put on top; without `has_extra_convs` at most 1.
        use_c5: With `has_extra_convs`, make the first of them from the backbone's last map rather
            than from the pyramid's.
        relu_before_extra_convs: With `has_extra_convs`, rectify before all but the first of them.

    Raises:
        ValueError: If the arguments disagree.
    """

    def __init__(
        self,
        *,
        in_shapes: Derived[list[FeatureShape]],
        out_channel: PositiveInt = 256,
        spatial_scales: Optional[Sequence[Positive]] = None,
        has_extra_convs: bool = False,
        extra_stage: NonNegativeInt = 1,
        use_c5: bool = True,
        relu_before_extra_convs: bool = True,
    ) -> None:
        super().__init__()
        _check(in_shapes, spatial_scales, has_extra_convs, extra_stage)
        #: Level of each map in, log2 of its stride: C2..C5 are those of stride 4..32.
        levels = [round(math.log2(shape.stride)) for shape in in_shapes]
        self._laterals: list[str] = []
        self._outputs: list[str] = []
        for level, shape in zip(levels, in_shapes):
            top = level == levels[-1]
            self._laterals.append(f"fpn_inner_res{level}_sum" + ("" if top else "_lateral"))
            self._outputs.append(f"fpn_res{level}_sum")
            self.add_sublayer(self._laterals[-1], _conv(shape.channels, out_channel, 1))
            self.add_sublayer(self._outputs[-1], _conv(out_channel, out_channel, 3))
        self._extra: list[str] = []
        for i in range(extra_stage if has_extra_convs else 0):
            channels = in_shapes[-1].channels if use_c5 and i == 0 else out_channel
            self._extra.append(f"fpn_{levels[-1] + 1 + i}")
            self.add_sublayer(self._extra[-1], _conv(channels, out_channel, 3, stride=2))
        self._subsample = extra_stage > 0 and not has_extra_convs
        self._use_c5 = use_c5
        self._relu_before_extra = relu_before_extra_convs
        strides = [shape.stride for shape in in_shapes]
        strides += [strides[-1] * 2 ** (i + 1) for i in range(extra_stage)]
        self.out_shapes = [FeatureShape(out_channel, stride) for stride in strides]

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """The backbone's maps to ``[N, out_channel, H_l, W_l]`` maps, finest first."""
        parts = self._sub_layers
        inner = [parts[name](feature) for name, feature in zip(self._laterals, features)]
        for i in range(len(inner) - 1, 0, -1):
            inner[i - 1] = inner[i - 1] + double_nearest(inner[i], inner[i - 1])
        outputs = [parts[name](feature) for name, feature in zip(self._outputs, inner)]
        if self._subsample:
            outputs.append(functional.max_pool2d(outputs[-1], 1, stride=2))
        for i, name in enumerate(self._extra):
            if i == 0:
                source = features[-1] if self._use_c5 else outputs[-1]
            else:
                source = functional.relu(outputs[-1]) if self._relu_before_extra else outputs[-1]
            outputs.append(parts[name](source))
        return outputs


def _conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Conv2D:
    """Convolution with uniform weights of variance 1 / fan-in: no rectifier follows."""
    fan_in = in_channels * kernel * kernel
    return nn.Conv2D(
        in_channels,
        out_channels,
        kernel,
        stride=stride,
        padding=kernel // 2,
        weight_attr=paddle.ParamAttr(initializer=nn.initializer.XavierUniform(fan_in=fan_in, fan_out=fan_in)),
    )


def _check(
    in_shapes: list[FeatureShape],
    spatial_scales: Optional[Sequence[float]],
    has_extra_convs: bool,
    extra_stage: int,
) -> None:
    strides = doubling_strides(in_shapes, "FPN")
    if spatial_scales is not None and [1.0 / s for s in strides] != list(spatial_scales):
        raise ArgumentError(
            "spatial_scales",
            f"got {list(spatial_scales)}, but the backbone returns maps of strides {strides}; remove the "
            "line or change the backbone's return_idx",
        )
    if extra_stage < 0 or (extra_stage > 1 and not has_extra_convs):
        raise ArgumentError(
            "extra_stage", f"expected 0 or 1 (more only with has_extra_convs), got {extra_stage}"
        )
