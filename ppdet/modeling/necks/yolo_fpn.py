"""Necks of the YOLOv3 family. They return the COARSEST level first, as the heads and anchor masks count.

Redmon & Farhadi, "YOLOv3: An Incremental Improvement", section 2.3.
"""

from __future__ import annotations

from functools import partial

import paddle
from paddle import Tensor, nn

from ppdet.config.spec import Common, Derived
from ppdet.modeling.interfaces import Neck
from ppdet.modeling.layers.darknet import ConvNormLeaky
from ppdet.modeling.layers.upsample import double_nearest
from ppdet.structures import FeatureShape, doubling_strides


class _YoloBlock(nn.Layer):
    """Five alternating 1x1 and 3x3 convolutions; their result goes on to the finer level, and through one
    more 3x3 convolution, the tip, to the head.
    """

    def __init__(self, in_channels: int, channels: int, conv: partial[ConvNormLeaky]) -> None:
        super().__init__()
        self.conv_module = nn.Sequential(
            ("conv0", conv(in_channels, channels, kernel=1)),
            ("conv1", conv(channels, 2 * channels, kernel=3)),
            ("conv2", conv(2 * channels, channels, kernel=1)),
            ("conv3", conv(channels, 2 * channels, kernel=3)),
            ("route", conv(2 * channels, channels, kernel=1)),
        )
        self.tip = conv(channels, 2 * channels, kernel=3)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """``[N, in, H, W]`` to the route ``[N, channels, H, W]`` and the tip ``[N, 2 * channels, H, W]``."""
        route = self.conv_module(features)
        return route, self.tip(route)


class YOLOv3FPN(Neck):
    """Top-down pathway that concatenates, in three or any number of levels.

    Args:
        in_shapes: Feature shapes of the backbone, finest first, each twice as coarse as the last.
        norm_type: ``bn`` or ``sync_bn``.
        freeze_norm: Norms keep their stored statistics and are not trained.

    Raises:
        ValueError: If the strides do not double from level to level.
    """

    def __init__(
        self,
        *,
        in_shapes: Derived[list[FeatureShape]],
        norm_type: Common[str] = "bn",
        freeze_norm: bool = False,
    ) -> None:
        super().__init__()
        doubling_strides(in_shapes, "YOLOv3FPN")
        conv = partial(ConvNormLeaky, norm_type=norm_type, freeze_norm=freeze_norm)
        self._levels = len(in_shapes)
        self.out_shapes: list[FeatureShape] = []
        from_above = 0
        for i, shape in enumerate(reversed(in_shapes)):
            # 512, 256, 128 as after DarkNet-53, also after other backbones.
            channels = 512 // 2**i
            self.add_sublayer(f"yolo_block.{i}", _YoloBlock(shape.channels + from_above, channels, conv))
            self.out_shapes.append(FeatureShape(2 * channels, shape.stride))
            if i < self._levels - 1:
                from_above = channels // 2
                self.add_sublayer(f"yolo_transition.{i}", conv(channels, from_above, kernel=1))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """The backbone's maps, finest first, to one map per level, COARSEST first."""
        outputs = []
        route = None
        for i, feature in enumerate(reversed(features)):
            if route is not None:
                route = self._sub_layers[f"yolo_transition.{i - 1}"](route)
                feature = paddle.concat([double_nearest(route, feature), feature], axis=1)
            route, tip = self._sub_layers[f"yolo_block.{i}"](feature)
            outputs.append(tip)
        return outputs


class YOLOv3TinyFPN(Neck):
    """The part of Darknet's ``yolov3-tiny.cfg`` between backbone and head.

    Keys in the order of the cfg: ``bottleneck`` (1x1), ``tip0`` (3x3, to the first output), ``transition``
    (1x1, then upsampled), ``tip1`` (3x3, to the second output).

    Args:
        in_shapes: Two feature shapes of the backbone, finest first.
        norm_type: ``bn`` or ``sync_bn``.
        freeze_norm: Norms keep their stored statistics and are not trained.

    Raises:
        ValueError: If there are not two levels, the second twice as coarse as the first.
    """

    def __init__(
        self,
        *,
        in_shapes: Derived[list[FeatureShape]],
        norm_type: Common[str] = "bn",
        freeze_norm: bool = False,
    ) -> None:
        super().__init__()
        doubling_strides(in_shapes, "YOLOv3TinyFPN")
        if len(in_shapes) != 2:
            raise ValueError(f"YOLOv3TinyFPN takes 2 feature maps, got {len(in_shapes)}")
        fine, coarse = in_shapes
        conv = partial(ConvNormLeaky, norm_type=norm_type, freeze_norm=freeze_norm)
        self.bottleneck = conv(coarse.channels, 256, kernel=1)
        self.tip0 = conv(256, 512, kernel=3)
        self.transition = conv(256, 128, kernel=1)
        self.tip1 = conv(128 + fine.channels, 256, kernel=3)
        self.out_shapes = [FeatureShape(512, coarse.stride), FeatureShape(256, fine.stride)]

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """The backbone's two maps, finest first, to two maps, COARSEST first."""
        fine, coarse = features
        route = self.bottleneck(coarse)
        merged = paddle.concat([double_nearest(self.transition(route), fine), fine], axis=1)
        return [self.tip0(route), self.tip1(merged)]
