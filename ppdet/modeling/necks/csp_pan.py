"""The neck of PP-YOLOE: a path aggregation network of cross-stage partial stages. COARSEST level first.

Xu et al. 2022, "PP-YOLOE" (arXiv:2203.16250), section 2.2; Liu et al. 2018, "Path Aggregation Network".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from ppdet.config.ranges import Positive, PositiveInt
from ppdet.config.spec import Derived, Shared
from ppdet.modeling.interfaces import Neck
from ppdet.modeling.layers.csp import BasicBlock
from ppdet.modeling.layers.repvgg import ConvBN, activation_of
from ppdet.modeling.layers.upsample import double_nearest
from ppdet.structures import FeatureShape

#: Windows of the max pools in the spatial pyramid (He et al. 2014, "Spatial Pyramid Pooling").
_POOLS = (5, 9, 13)


class _SpatialPyramid(nn.Layer):
    """The map beside its maxima over windows of three sizes, mixed by a 1x1 convolution; key ``conv``."""

    def __init__(self, channels: int, *, act: Callable[[Tensor], Tensor], norm_type: str) -> None:
        super().__init__()
        self.conv = ConvBN(channels * (1 + len(_POOLS)), channels, kernel=1, act=act, norm_type=norm_type)

    def forward(self, features: Tensor) -> Tensor:
        """``[N, C, H, W]`` to the same shape."""
        maxima = [functional.max_pool2d(features, size, stride=1, padding=size // 2) for size in _POOLS]
        return self.conv(paddle.concat([features, *maxima], axis=1))


class _Stage(nn.Layer):
    """One half of the channels runs through the blocks ``convs``; keys ``conv1|2|3``, ``convs``."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        blocks: int,
        spp: bool,
        act: Callable[[Tensor], Tensor],
        norm_type: str,
        use_alpha: bool,
    ) -> None:
        super().__init__()
        half = out_channels // 2
        self.conv1 = ConvBN(in_channels, half, kernel=1, act=act, norm_type=norm_type)
        self.conv2 = ConvBN(in_channels, half, kernel=1, act=act, norm_type=norm_type)
        self.convs = nn.Sequential()
        for i in range(blocks):
            block = BasicBlock(half, act=act, norm_type=norm_type, shortcut=False, use_alpha=use_alpha)
            self.convs.add_sublayer(str(i), block)
            if spp and i == (blocks - 1) // 2:
                self.convs.add_sublayer("spp", _SpatialPyramid(half, act=act, norm_type=norm_type))
        self.conv3 = ConvBN(2 * half, out_channels, kernel=1, act=act, norm_type=norm_type)

    def forward(self, features: Tensor) -> Tensor:
        """``[N, in, H, W]`` to ``[N, out, H, W]``."""
        both = paddle.concat([self.conv1(features), self.convs(self.conv2(features))], axis=1)
        return self.conv3(both)


class CustomCSPPAN(Neck):
    """A top-down and a bottom-up pass, each level and pass with a stage of its own.

    Args:
        in_shapes: Feature shapes of the backbone, finest first, each twice as coarse as the last.
        out_channels: Channels of each level before `width_mult`, COARSEST first.
        norm_type: ``bn`` or ``sync_bn``.
        act: ``swish`` or ``relu``.
        stage_num: Stages of each level and pass, one after the other.
        block_num: Blocks of each stage before `depth_mult`.
        spp: Pool over windows of several sizes at the coarsest level.
        width_mult: Factor on all channels.
        depth_mult: Factor on `block_num`; at least one block stays.
        use_alpha: See `RepVGGBlock`.

    Raises:
        ValueError: If `out_channels` has not as many numbers as there are levels, or the strides do not
            double from level to level.
    """

    def __init__(
        self,
        *,
        in_shapes: Derived[list[FeatureShape]],
        out_channels: Sequence[PositiveInt] = (768, 384, 192),
        norm_type: Shared[str] = "bn",
        act: str = "swish",
        stage_num: PositiveInt = 1,
        block_num: PositiveInt = 3,
        spp: bool = True,
        width_mult: Shared[Positive] = 1.0,
        depth_mult: Shared[Positive] = 1.0,
        use_alpha: bool = False,
    ) -> None:
        super().__init__()
        if len(out_channels) != len(in_shapes):
            raise ValueError(
                f"CustomCSPPAN.out_channels: expected {len(in_shapes)} numbers, one per level of the "
                f"backbone, coarsest first, got {list(out_channels)}"
            )
        shapes = list(reversed(in_shapes))
        if any(coarse.stride != 2 * fine.stride for coarse, fine in zip(shapes, shapes[1:])):
            raise ValueError(
                f"CustomCSPPAN: strides {[s.stride for s in in_shapes]} must double from level to level; "
                "change the backbone's return_idx"
            )
        wide = [max(round(count * width_mult), 1) for count in out_channels]
        blocks = max(round(block_num * depth_mult), 1)
        activation = activation_of("CustomCSPPAN", act)

        conv = partial(ConvBN, act=activation, norm_type=norm_type)
        stages = partial(
            _stages,
            stage_num,
            partial(_Stage, blocks=blocks, act=activation, norm_type=norm_type, use_alpha=use_alpha),
        )
        # What comes from the coarser level has half of that level's channels.
        above = [0, *(count // 2 for count in wide)]
        self.fpn_stages = nn.LayerList(
            [stages(shape.channels + above[i], wide[i], spp=spp and i == 0) for i, shape in enumerate(shapes)]
        )
        self.fpn_routes = nn.LayerList([conv(count, count // 2, kernel=1) for count in wide[:-1]])
        self.pan_stages = nn.LayerList(
            [stages(finer + count, count) for count, finer in zip(wide[:-1], wide[1:])]
        )
        self.pan_routes = nn.LayerList([conv(finer, finer, kernel=3, stride=2) for finer in wide[1:]])
        self.out_shapes = [FeatureShape(count, shape.stride) for count, shape in zip(wide, shapes)]

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """The backbone's maps, finest first, to as many maps, COARSEST first."""
        down: list[Tensor] = []
        for i, feature in enumerate(reversed(features)):
            if down:
                route = double_nearest(self.fpn_routes[i - 1](down[-1]), feature)
                feature = paddle.concat([route, feature], axis=1)
            down.append(self.fpn_stages[i](feature))
        up = [down[-1]]
        for i in reversed(range(len(down) - 1)):
            route = self.pan_routes[i](up[0])
            up.insert(0, self.pan_stages[i](paddle.concat([route, down[i]], axis=1)))
        return up


def _stages(
    count: int, stage: Callable[..., _Stage], in_channels: int, out_channels: int, *, spp: bool = False
) -> nn.Sequential:
    """Stages one after the other; the first one changes the number of channels."""
    widths = [in_channels, *[out_channels] * count]
    return nn.Sequential(*(stage(a, b, spp=spp) for a, b in zip(widths, widths[1:])))
