"""The hybrid encoder of RT-DETR (Zhao et al., "DETRs Beat YOLOs on Real-time Object Detection", section 4.2).

Letters: N images, L levels, H, W size of a level, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import NonNegativeInt, Positive, PositiveInt
from ppdet.config.spec import Common, Derived, Spec
from ppdet.modeling.interfaces import Neck
from ppdet.modeling.layers.norm import build_norm
from ppdet.modeling.layers.repvgg import ConvBN, RepVGGBlock
from ppdet.modeling.layers.transformer_layer import TransformerLayer, grid_positions
from ppdet.modeling.layers.upsample import double_nearest
from ppdet.ops.indexing import dim
from ppdet.structures import FeatureShape

#: RepVGG blocks of a fusion block at depth_mult 1.
_BLOCKS = 3


class HybridEncoder(Neck):
    """Attention within the coarsest level (AIFI), then fusion across levels (CCFM).

    Args:
        in_shapes: Feature shapes of the backbone, finest first, each of twice the stride of the one before.
        hidden_dim: D.
        use_encoder_idx: Levels that get attention.
        num_encoder_layers: Transformer layers of each of them.
        encoder_layer: One of these layers.
        pe_temperature: Longest wavelength of the positions over 2 pi.
        expansion: Width of the fusion blocks inside, as a share of D.
        depth_mult: Factor on their depth.
        norm_type: See `build_norm`.

    Raises:
        ArgumentError: If `use_encoder_idx` names a level that there is not.
    """

    def __init__(
        self,
        *,
        in_shapes: Derived[list[FeatureShape]],
        hidden_dim: PositiveInt = 256,
        use_encoder_idx: Sequence[NonNegativeInt] = (2,),
        num_encoder_layers: NonNegativeInt = 1,
        encoder_layer: Spec[TransformerLayer] = Spec.of(TransformerLayer, activation="gelu"),  # noqa: B008
        pe_temperature: Positive = 10000.0,
        expansion: Positive = 1.0,
        depth_mult: Positive = 1.0,
        norm_type: Common[str] = "bn",
    ) -> None:
        super().__init__()
        levels = len(in_shapes)
        if not all(0 <= i < levels for i in use_encoder_idx):
            raise ArgumentError(
                "use_encoder_idx", f"expected levels 0..{levels - 1}, got {list(use_encoder_idx)}"
            )
        self._attended = list(use_encoder_idx)
        self._temperature = pe_temperature
        self.out_shapes = [FeatureShape(hidden_dim, shape.stride) for shape in in_shapes]
        self.input_proj = nn.LayerList(
            [
                nn.Sequential(
                    nn.Conv2D(
                        shape.channels,
                        hidden_dim,
                        1,
                        weight_attr=paddle.ParamAttr(initializer=nn.initializer.KaimingNormal()),
                        bias_attr=False,
                    ),
                    build_norm(hidden_dim, norm_type),
                )
                for shape in in_shapes
            ]
        )
        self.encoder = nn.LayerList(
            [_EncoderStack(encoder_layer, hidden_dim, num_encoder_layers) for _ in self._attended]
        )

        def conv(kernel: int, stride: int = 1) -> ConvBN:
            return _neck_conv(hidden_dim, hidden_dim, kernel, norm_type, stride=stride)

        def fusion() -> CSPRepLayer:
            return CSPRepLayer(
                2 * hidden_dim,
                hidden_dim,
                blocks=round(_BLOCKS * depth_mult),
                expansion=expansion,
                norm_type=norm_type,
            )

        steps = range(levels - 1)
        self.lateral_convs = nn.LayerList([conv(1) for _ in steps])
        self.fpn_blocks = nn.LayerList([fusion() for _ in steps])
        self.downsample_convs = nn.LayerList([conv(3, 2) for _ in steps])
        self.pan_blocks = nn.LayerList([fusion() for _ in steps])

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """L maps of the backbone to L maps ``[N, D, H, W]``, finest first."""
        maps = [project(feature) for project, feature in zip(self.input_proj, features)]
        for level, stack in zip(self._attended, self.encoder):
            maps[level] = self._attend(maps[level], stack)
        return self._fuse(maps)

    def _attend(self, features: Tensor, stack: nn.Layer) -> Tensor:
        channels = int(features.shape[1])
        height, width = dim(features, 2), dim(features, 3)
        position = grid_positions(height, width, channels, self._temperature)
        tokens = stack(paddle.transpose(paddle.flatten(features, 2), [0, 2, 1]), position)
        return paddle.reshape(paddle.transpose(tokens, [0, 2, 1]), [-1, channels, height, width])

    def _fuse(self, maps: list[Tensor]) -> list[Tensor]:
        fused = [maps[-1]]
        for lateral, block, finer in zip(self.lateral_convs, self.fpn_blocks, maps[-2::-1]):
            # The way back up takes what leaves the lateral convolution, not what enters it.
            fused[0] = lateral(fused[0])
            fused.insert(0, block(paddle.concat([double_nearest(fused[0], finer), finer], axis=1)))
        outputs = fused[:1]
        for down, block, coarser in zip(self.downsample_convs, self.pan_blocks, fused[1:]):
            outputs.append(block(paddle.concat([down(outputs[-1]), coarser], axis=1)))
        return outputs


class _EncoderStack(nn.Layer):
    """Layers one after the other; keys ``layers.0``, ..."""

    def __init__(self, layer: Spec[TransformerLayer], channels: int, count: int) -> None:
        super().__init__()
        self.layers = nn.LayerList([layer.build(d_model=channels) for _ in range(count)])

    def forward(self, tokens: Tensor, position: Tensor) -> Tensor:
        for layer in self.layers:
            tokens = layer(tokens, position)
        return tokens


class CSPRepLayer(nn.Layer):
    """Two paths of one width, one through RepVGG blocks, summed (section 4.2, "fusion block").

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        blocks: RepVGG blocks.
        expansion: Width inside, as a share of the channels out.
        norm_type: See `build_norm`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, blocks: int, expansion: float, norm_type: str
    ) -> None:
        super().__init__()
        hidden = int(out_channels * expansion)
        self.conv1 = _neck_conv(in_channels, hidden, 1, norm_type)
        self.conv2 = _neck_conv(in_channels, hidden, 1, norm_type)
        self.bottlenecks = nn.Sequential(
            *(RepVGGBlock(hidden, hidden, act=functional.silu, norm_type=norm_type) for _ in range(blocks))
        )
        self.conv3 = None if hidden == out_channels else _neck_conv(hidden, out_channels, 1, norm_type)

    def forward(self, features: Tensor) -> Tensor:
        """``[N, in, H, W]`` to ``[N, out, H, W]``."""
        merged = self.bottlenecks(self.conv1(features)) + self.conv2(features)
        return merged if self.conv3 is None else self.conv3(merged)


def _neck_conv(
    in_channels: int, out_channels: int, kernel: int, norm_type: str, *, stride: int = 1
) -> ConvBN:
    bound = (in_channels * kernel * kernel) ** -0.5
    return ConvBN(
        in_channels,
        out_channels,
        kernel=kernel,
        stride=stride,
        act=functional.silu,
        norm_type=norm_type,
        initializer=nn.initializer.Uniform(-bound, bound),
    )
