"""The auxiliary head of the smallest PP-YOLOE+, shared by all levels (after Li et al. 2020, GFL)."""

from __future__ import annotations

import math

import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import NonNegativeInt, PositiveInt
from ppdet.config.spec import Derived, Shared
from ppdet.modeling.heads.ppyoloe import PRIOR, PointOutputs
from ppdet.structures import FeatureShape

#: Groups of the group normalisation (Wu & He 2018).
_GROUPS = 32
#: Slope of the leaky rectifier for negative inputs.
_SLOPE = 0.1


class _ConvGroupNorm(nn.Layer):
    """3x3 convolution, group normalisation, leaky rectifier; keys ``conv``, ``norm``."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2D(in_channels, out_channels, 3, padding=1, bias_attr=False)
        self.norm = nn.GroupNorm(_GROUPS, out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """``[N, in, h, w]`` to ``[N, out, h, w]``."""
        return functional.leaky_relu(self.norm(self.conv(features)), _SLOPE)


class _Scale(nn.Layer):
    """A learnt factor; key ``scale``."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = self.create_parameter([], default_initializer=nn.initializer.Constant(1.0))

    def forward(self, features: Tensor) -> Tensor:
        """Any shape to the same."""
        return features * self.scale


class SimpleConvHead(nn.Layer):
    """A convolution for the classes, one for the boxes, and their outputs, the same at all levels.

    Args:
        in_shapes: Feature shapes, all with the same number of channels.
        num_classes: K.
        feat_out: Channels between the convolutions, a multiple of 32.
        num_convs: Convolutions before each output.
        reg_max: Largest distance in strides.

    Raises:
        ArgumentError: If `feat_out` is no multiple of 32.
        ValueError: If the levels differ in channels.
    """

    def __init__(
        self,
        *,
        in_shapes: Derived[list[FeatureShape]],
        num_classes: Shared[PositiveInt],
        feat_out: PositiveInt = 288,
        num_convs: NonNegativeInt = 1,
        reg_max: PositiveInt = 16,
    ) -> None:
        super().__init__()
        channels = {shape.channels for shape in in_shapes}
        if len(channels) != 1:
            raise ValueError(f"SimpleConvHead shares its weights over levels of {sorted(channels)} channels")
        if feat_out % _GROUPS:
            raise ArgumentError("feat_out", f"expected a multiple of {_GROUPS}, got {feat_out}")
        widths = [channels.pop(), *[feat_out] * num_convs]

        def tower() -> nn.LayerList:
            return nn.LayerList([_ConvGroupNorm(a, b) for a, b in zip(widths, widths[1:])])

        self.cls_convs = tower()
        self.reg_convs = tower()
        self.gfl_cls = _output(widths[-1], num_classes, -math.log((1 - PRIOR) / PRIOR))
        self.gfl_reg = _output(widths[-1], 4 * (reg_max + 1), 0.0)
        self.scales = nn.LayerList([_Scale() for _ in in_shapes])

    def forward(self, features: list[Tensor]) -> PointOutputs:
        """One map per level to raw outputs."""
        outputs = PointOutputs([], [])
        for feature, scale in zip(features, self.scales):
            for_class = for_box = feature
            for convolve_class, convolve_box in zip(self.cls_convs, self.reg_convs):
                for_class, for_box = convolve_class(for_class), convolve_box(for_box)
            outputs.class_logits.append(self.gfl_cls(for_class))
            outputs.box_logits.append(scale(self.gfl_reg(for_box)))
        return outputs


def _output(in_channels: int, out_channels: int, bias: float) -> nn.Conv2D:
    return nn.Conv2D(
        in_channels,
        out_channels,
        3,
        padding=1,
        weight_attr=paddle.ParamAttr(initializer=nn.initializer.Normal(std=0.01)),
        bias_attr=paddle.ParamAttr(initializer=nn.initializer.Constant(bias)),
    )
