"""DarkNet backbones: DarkNet-53 (Redmon & Farhadi, "YOLOv3: An Incremental Improvement", table 1) and the
small one of Darknet's own ``yolov3-tiny.cfg``.

Letters: N images, H, W height and width of the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from paddle import Tensor, nn
from paddle.nn import functional

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import IntFromMinusOne, NonNegative, NonNegativeInt, PositiveInt
from ppdet.config.spec import Common
from ppdet.modeling.interfaces import Backbone
from ppdet.modeling.layers.darknet import ConvNormLeaky
from ppdet.structures import FeatureShape

#: Residual blocks of each stage by depth.
_BLOCKS = {53: (1, 2, 8, 8, 4)}
#: Channels out of the stem, before the first downsampling.
_STEM_CHANNELS = 32
#: Channels of the seven convolutions of the tiny network.
_TINY_CHANNELS = (16, 32, 64, 128, 256, 512, 1024)


class _Residual(nn.Layer):
    """1x1 and 3x3 convolution beside an identity; no rectifier after the sum."""

    def __init__(self, channels: int, conv: partial[ConvNormLeaky]) -> None:
        super().__init__()
        self.conv1 = conv(channels, channels // 2, kernel=1)
        self.conv2 = conv(channels // 2, channels, kernel=3)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.conv2(self.conv1(features))


class _Stage(nn.Layer):
    """Residual blocks of one resolution; their keys are those of the published weights."""

    def __init__(self, index: int, channels: int, blocks: int, conv: partial[ConvNormLeaky]) -> None:
        super().__init__()
        self._names = ["basicblock0", *(f"stage.{index}.{i}" for i in range(1, blocks))]
        for name in self._names:
            self.add_sublayer(name, _Residual(channels, conv))

    def forward(self, features: Tensor) -> Tensor:
        for name in self._names:
            features = self._sub_layers[name](features)
        return features


class _Downsample(nn.Layer):
    """3x3 convolution of stride 2 that doubles the channels."""

    def __init__(self, in_channels: int, conv: partial[ConvNormLeaky]) -> None:
        super().__init__()
        self.conv_bn_layer = conv(in_channels, 2 * in_channels, kernel=3, stride=2)

    def forward(self, features: Tensor) -> Tensor:
        return self.conv_bn_layer(features)


class DarkNet(Backbone):
    """DarkNet-53 without its classifier.

    Args:
        depth: 53, the only one published.
        freeze_at: Last stage, counted from 0, that is not trained, with everything before it; -1 to train
            everything.
        return_idx: Stages to return; stage i has stride ``2 ** (i + 1)`` and ``64 * 2 ** i`` channels.
        num_stages: Stages to build, 1..5.
        norm_type: ``bn`` or ``sync_bn``.
        norm_decay: L2 factor of norm scales and shifts, in place of the optimizer's.
        freeze_norm: Norms keep their stored statistics and are not trained.

    Raises:
        ValueError: If a value is out of range.
    """

    def __init__(
        self,
        *,
        depth: PositiveInt = 53,
        freeze_at: IntFromMinusOne = -1,
        return_idx: Sequence[NonNegativeInt] = (2, 3, 4),
        num_stages: PositiveInt = 5,
        norm_type: Common[str] = "bn",
        norm_decay: NonNegative = 0.0,
        freeze_norm: bool = False,
    ) -> None:
        super().__init__()
        if depth not in _BLOCKS:
            raise ArgumentError("depth", f"expected {', '.join(map(str, _BLOCKS))}, got {depth}")
        _check_stages(num_stages, len(_BLOCKS[depth]), return_idx, freeze_at)
        conv = partial(ConvNormLeaky, norm_type=norm_type, norm_decay=norm_decay, freeze_norm=freeze_norm)
        channels = [2 * _STEM_CHANNELS * 2**i for i in range(num_stages)]
        self.conv0 = conv(3, _STEM_CHANNELS, kernel=3)
        self.downsample0 = _Downsample(_STEM_CHANNELS, conv)
        # Stages first and downsamplings after, though they alternate: the order of the published key list.
        self._stages = [f"stage.{i}" for i in range(num_stages)]
        for i, name in enumerate(self._stages):
            self.add_sublayer(name, _Stage(i, channels[i], _BLOCKS[depth][i], conv))
        self._downsamples = [f"stage.{i}.downsample" for i in range(num_stages - 1)]
        for i, name in enumerate(self._downsamples):
            self.add_sublayer(name, _Downsample(channels[i], conv))
        self._returned = sorted(set(return_idx))
        self.out_shapes = [FeatureShape(channels[i], 2 ** (i + 1)) for i in self._returned]
        self._freeze(freeze_at)

    def _freeze(self, last: int) -> None:
        if last < 0:
            return
        names = [*self._stages[: last + 1], *self._downsamples[:last]]
        for part in [self.conv0, self.downsample0, *(self._sub_layers[name] for name in names)]:
            for parameter in part.parameters():
                parameter.trainable = False

    def forward(self, images: Tensor) -> list[Tensor]:
        """``[N, 3, H, W]`` images to the returned stages, finest first."""
        features = self.downsample0(self.conv0(images))
        outputs = []
        for i, name in enumerate(self._stages[: self._returned[-1] + 1]):
            if i > 0:
                features = self._sub_layers[self._downsamples[i - 1]](features)
            features = self._sub_layers[name](features)
            if i in self._returned:
                outputs.append(features)
        return outputs


class DarkNetTiny(Backbone):
    """The backbone of Darknet's ``yolov3-tiny.cfg``: seven 3x3 convolutions with max-pooling between them.

    Keys are ``conv0`` to ``conv6`` in the order of the cfg. Stage i is the output of ``conv<i>``; it has
    stride ``2 ** i``, save that the last pooling keeps the resolution, so stage 6 has stride 32 as stage 5.

    Args:
        freeze_at: Last stage, counted from 0, that is not trained, with everything before it; -1 to train
            everything.
        return_idx: Stages to return.
        norm_type: ``bn`` or ``sync_bn``.
        norm_decay: L2 factor of norm scales and shifts, in place of the optimizer's.
        freeze_norm: Norms keep their stored statistics and are not trained.

    Raises:
        ValueError: If a value is out of range.
    """

    def __init__(
        self,
        *,
        freeze_at: IntFromMinusOne = -1,
        return_idx: Sequence[NonNegativeInt] = (4, 6),
        norm_type: Common[str] = "bn",
        norm_decay: NonNegative = 0.0,
        freeze_norm: bool = False,
    ) -> None:
        super().__init__()
        stages = len(_TINY_CHANNELS)
        _check_stages(stages, stages, return_idx, freeze_at)
        for i, channels in enumerate(_TINY_CHANNELS):
            conv = ConvNormLeaky(
                _TINY_CHANNELS[i - 1] if i else 3,
                channels,
                kernel=3,
                norm_type=norm_type,
                norm_decay=norm_decay,
                freeze_norm=freeze_norm,
            )
            self.add_sublayer(f"conv{i}", conv)
            if i <= freeze_at:
                for parameter in conv.parameters():
                    parameter.trainable = False
        self._returned = sorted(set(return_idx))
        self.out_shapes = [FeatureShape(_TINY_CHANNELS[i], 2 ** min(i, 5)) for i in self._returned]

    def forward(self, images: Tensor) -> list[Tensor]:
        """``[N, 3, H, W]`` images to the returned stages, finest first."""
        features = images
        outputs = []
        for i in range(self._returned[-1] + 1):
            if i == len(_TINY_CHANNELS) - 1:
                features = _pool_same(features)
            elif i > 0:
                # Darknet pools a last odd row or column on its own rather than dropping it.
                features = functional.max_pool2d(features, 2, stride=2, ceil_mode=True)
            features = self._sub_layers[f"conv{i}"](features)
            if i in self._returned:
                outputs.append(features)
        return outputs


def _pool_same(features: Tensor) -> Tensor:
    """2x2 max-pooling of stride 1 that keeps the size: each cell with its right and lower neighbours.

    Darknet pads at the right and bottom only, with minus infinity. Repeating the edge gives the same maxima;
    padding with zeros would not, since leaky features can be negative.
    """
    padded = functional.pad(features, [0, 1, 0, 1], mode="replicate")
    return functional.max_pool2d(padded, 2, stride=1)


def _check_stages(num_stages: int, available: int, return_idx: Sequence[int], freeze_at: int) -> None:
    if not 1 <= num_stages <= available:
        raise ArgumentError("num_stages", f"expected 1..{available}, got {num_stages}")
    if not return_idx or not all(0 <= i < num_stages for i in return_idx):
        raise ArgumentError(
            "return_idx",
            f"expected stages 0..{num_stages - 1} ({num_stages} stages), got {list(return_idx)}",
        )
    if not -1 <= freeze_at < num_stages:
        raise ArgumentError("freeze_at", f"expected -1..{num_stages - 1}, got {freeze_at}")
