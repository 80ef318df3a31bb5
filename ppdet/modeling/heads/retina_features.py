"""The two towers of convolutions before RetinaNet's outputs."""

from __future__ import annotations

from typing import Optional

import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from ppdet.config.ranges import NonNegativeInt, PositiveInt
from ppdet.config.spec import Derived
from ppdet.modeling.layers.norm import build_norm


class _TowerConv(nn.Layer):
    """3x3 convolution with bias, a norm or none, rectifier; keys ``conv.*``, ``norm.*``."""

    def __init__(self, in_channels: int, out_channels: int, norm_type: Optional[str]) -> None:
        super().__init__()
        self.conv = nn.Conv2D(
            in_channels,
            out_channels,
            3,
            padding=1,
            weight_attr=paddle.ParamAttr(initializer=nn.initializer.Normal(std=0.01)),
            # Twice the rate for biases, as Caffe had it and the published weights were trained.
            bias_attr=paddle.ParamAttr(initializer=nn.initializer.Constant(0.0), learning_rate=2.0),
        )
        self.norm = None if norm_type is None else build_norm(out_channels, norm_type)

    def forward(self, features: Tensor) -> Tensor:
        features = self.conv(features)
        return functional.relu(features if self.norm is None else self.norm(features))


class RetinaFeat(nn.Layer):
    """One tower for classes and one for boxes, shared by all levels (Lin et al. 2017, RetinaNet, section 4).

    The keys say ``fcos_head`` because 2.x shares this part with FCOS.

    Args:
        feat_in: Channels of the neck.
        feat_out: Channels of the towers.
        num_convs: Convolutions of each tower.
        norm_type: ``bn``, ``sync_bn``, or None for no normalisation.
    """

    def __init__(
        self,
        *,
        feat_in: Derived[int],
        feat_out: PositiveInt = 256,
        num_convs: NonNegativeInt = 4,
        norm_type: Optional[str] = None,
    ) -> None:
        super().__init__()
        self.out_channels = feat_out if num_convs > 0 else feat_in
        self._towers: dict[str, list[str]] = {"cls": [], "reg": []}
        for i in range(num_convs):
            for tower, names in self._towers.items():
                names.append(f"fcos_head_{tower}_tower_conv_{i}")
                conv = _TowerConv(feat_in if i == 0 else feat_out, feat_out, norm_type)
                self.add_sublayer(names[-1], conv)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """One level ``[N, feat_in, H, W]`` to its class and box features ``[N, feat_out, H, W]``."""
        results = []
        for names in self._towers.values():
            result = features
            for name in names:
                result = self._sub_layers[name](result)
            results.append(result)
        return results[0], results[1]
