"""Residual stages: the body of ResNet, and the RoI head of the C4 detectors.

He et al., "Deep Residual Learning for Image Recognition", section 4; variants b to d after He et
al., "Bag of Tricks for Image Classification", section 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from paddle import Tensor, nn
from paddle.nn import functional

from ppdet.config.errors import ArgumentError
from ppdet.modeling.layers.conv_norm import ConvNorm

VARIANTS = ("a", "b", "c", "d")

#: Blocks of the stages res2..res5 by depth.
BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
#: Channels of the 3x3 convolutions of res2..res5.
WIDTHS = (64, 128, 256, 512)


@dataclass(frozen=True)
class ResidualPlan:
    """Settings that all blocks of a network share.

    Attributes:
        depth: 18, 34 (basic blocks), 50, 101 or 152 (bottlenecks).
        variant: ``a``: the first 1x1 convolution has the stride; ``b``: the 3x3 one has; ``c``: as b,
            and a stem of three 3x3 convolutions; ``d``: as c, and shortcuts average before their
            1x1 convolution instead of skipping pixels.
        norm_type: See `ppdet.modeling.layers.norm.build_norm`.
        norm_decay: Own L2 factor of scale and shift.
        freeze_norm: Norms keep their stored statistics, scale and shift.

    Raises:
        ValueError: If depth or variant is not one of those.
    """

    depth: int
    variant: str = "b"
    norm_type: str = "bn"
    norm_decay: float = 0.0
    freeze_norm: bool = True

    def __post_init__(self) -> None:
        if self.depth not in BLOCKS:
            raise ArgumentError("depth", f"expected one of {sorted(BLOCKS)}, got {self.depth!r}")
        if self.variant not in VARIANTS:
            raise ArgumentError("variant", f"expected one of {', '.join(VARIANTS)}, got {self.variant!r}")

    @property
    def expansion(self) -> int:
        """Channels out of a stage per channel of its 3x3 convolutions."""
        return 1 if self.depth < 50 else 4

    def conv(self, in_channels: int, out_channels: int, **how: Any) -> ConvNorm:
        """A convolution with this network's kind of norm."""
        return ConvNorm(
            in_channels,
            out_channels,
            norm_type=self.norm_type,
            norm_decay=self.norm_decay,
            freeze_norm=self.freeze_norm,
            **how,
        )

    def stage_channels(self, stage: int) -> int:
        """Channels out of stage ``res<stage>``, 2..5."""
        return WIDTHS[stage - 2] * self.expansion


def _projection(
    plan: ResidualPlan, in_channels: int, out_channels: int, stride: int, lr_mult: float
) -> nn.Layer:
    """The shortcut of a stage's first block."""
    if plan.variant == "d" and stride == 2:
        return nn.Sequential(
            ("pool", nn.AvgPool2D(2, stride=2, ceil_mode=True)),
            ("conv", plan.conv(in_channels, out_channels, kernel=1, lr_mult=lr_mult)),
        )
    return plan.conv(in_channels, out_channels, kernel=1, stride=stride, lr_mult=lr_mult)


class BasicBlock(nn.Layer):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(
        self, plan: ResidualPlan, in_channels: int, width: int, stride: int, project: bool, lr_mult: float
    ) -> None:
        super().__init__()
        self.short = _projection(plan, in_channels, width, stride, lr_mult) if project else None
        self.branch2a = plan.conv(in_channels, width, kernel=3, stride=stride, lr_mult=lr_mult)
        self.branch2b = plan.conv(width, width, kernel=3, lr_mult=lr_mult)

    def forward(self, features: Tensor) -> Tensor:
        """``[N, in, H, W]`` to ``[N, width, H / stride, W / stride]``."""
        branch = self.branch2b(functional.relu(self.branch2a(features)))
        short = features if self.short is None else self.short(features)
        return functional.relu(branch + short)


class Bottleneck(nn.Layer):
    """1x1, 3x3, 1x1 convolutions beside a shortcut."""

    def __init__(
        self, plan: ResidualPlan, in_channels: int, width: int, stride: int, project: bool, lr_mult: float
    ) -> None:
        super().__init__()
        out_channels = width * plan.expansion
        first, second = (stride, 1) if plan.variant == "a" else (1, stride)
        self.branch2a = plan.conv(in_channels, width, kernel=1, stride=first, lr_mult=lr_mult)
        self.branch2b = plan.conv(width, width, kernel=3, stride=second, lr_mult=lr_mult)
        self.branch2c = plan.conv(width, out_channels, kernel=1, lr_mult=lr_mult)
        self.short = _projection(plan, in_channels, out_channels, stride, lr_mult) if project else None

    def forward(self, features: Tensor) -> Tensor:
        """``[N, in, H, W]`` to ``[N, 4 * width, H / stride, W / stride]``."""
        branch = functional.relu(self.branch2b(functional.relu(self.branch2a(features))))
        branch = self.branch2c(branch)
        short = features if self.short is None else self.short(features)
        return functional.relu(branch + short)


class ResidualStage(nn.Layer):
    """The blocks ``res<stage>a``, ``res<stage>b``, ... of one stage.

    Args:
        plan: The network's plan.
        stage: 2..5; all but stage 2 halve the resolution.
        in_channels: Channels in.
        lr_mult: Factor on the learning rate.
    """

    def __init__(self, plan: ResidualPlan, stage: int, *, in_channels: int, lr_mult: float = 1.0) -> None:
        super().__init__()
        block = BasicBlock if plan.depth < 50 else Bottleneck
        self._names = [self._name(plan.depth, stage, i) for i in range(BLOCKS[plan.depth][stage - 2])]
        for i, name in enumerate(self._names):
            # The first block always projects, also in res2 of depth 18 and 34 where the shapes
            # agree: the published weights have that convolution.
            layer = block(
                plan,
                in_channels if i == 0 else plan.stage_channels(stage),
                WIDTHS[stage - 2],
                2 if i == 0 and stage > 2 else 1,
                i == 0,
                lr_mult,
            )
            self.add_sublayer(name, layer)

    @staticmethod
    def _name(depth: int, stage: int, index: int) -> str:
        """Key of a block; the long stages number their blocks, having more than there are letters."""
        if depth > 50 and stage == 4 and index > 0:
            return f"res{stage}b{index}"
        return f"res{stage}{chr(ord('a') + index)}"

    def forward(self, features: Tensor) -> Tensor:
        """``[N, in, H, W]`` to the stage's output."""
        for name in self._names:
            features = self._sub_layers[name](features)
        return features
