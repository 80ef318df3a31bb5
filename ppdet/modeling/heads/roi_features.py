"""Bodies of RoI heads: features for classification and box regression from pooled regions.

Letters: T regions, C channels, S resolution they were pooled at.
"""

from __future__ import annotations

from abc import abstractmethod

import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from ppdet.config.ranges import PositiveInt
from ppdet.config.spec import Derived
from ppdet.modeling.layers.residual import ResidualPlan, ResidualStage


class RoiFeatures(nn.Layer):
    """A body of an RoI head.

    Attributes:
        out_channels: Channels of its result.
        out_resolution: Side of its maps in cells; 0 if its result is vectors.
    """

    out_channels: int
    out_resolution: int

    @abstractmethod
    def forward(self, pooled: Tensor) -> Tensor:
        """``[T, C, S, S]`` to ``[T, out_channels]`` or ``[T, out_channels, R, R]``, R = `out_resolution`."""


class TwoFCHead(RoiFeatures):
    """Two fully connected layers (Lin et al., "Feature Pyramid Networks", section 4.2).

    Args:
        in_channel: C.
        resolution: S.
        out_channel: Width of both layers.
    """

    out_resolution = 0

    def __init__(
        self, *, in_channel: Derived[int], resolution: Derived[int], out_channel: PositiveInt = 1024
    ) -> None:
        super().__init__()
        self.out_channels = out_channel
        self.fc6 = _linear(in_channel * resolution * resolution, out_channel)
        self.fc7 = _linear(out_channel, out_channel)

    def forward(self, pooled: Tensor) -> Tensor:
        """``[T, C, S, S]`` to ``[T, out_channel]``."""
        return functional.relu(self.fc7(functional.relu(self.fc6(pooled.flatten(1)))))


class CascadeTwoFCHead(TwoFCHead):
    """`TwoFCHead` under the name it has in a cascade; `CascadeHead` builds one for each stage."""


class Res5Head(RoiFeatures):
    """Stage res5 of a ResNet, which the C4 detectors apply to each region (Ren et al., section 3.2).

    Always variant b with frozen norms, also after a backbone of another variant, as in the published weights.

    Args:
        in_channel: C, the channels of stage res4 of the same depth.
        resolution: S.
        depth: Depth of the ResNet.

    Raises:
        ValueError: If the backbone's channels are not those of res4.
    """

    def __init__(
        self, *, in_channel: Derived[int], resolution: Derived[int], depth: PositiveInt = 50
    ) -> None:
        super().__init__()
        plan = ResidualPlan(depth)
        if in_channel != plan.stage_channels(4):
            raise ValueError(
                f"Res5Head of depth {depth} takes the {plan.stage_channels(4)} channels of stage res4, got "
                f"{in_channel}; let the backbone return stage 2 (return_idx: [2]) at the same depth"
            )
        self.out_channels = plan.stage_channels(5)
        self.out_resolution = (resolution + 1) // 2  # the stage's stride is 2
        self.res5 = ResidualStage(plan, 5, in_channels=in_channel)

    def forward(self, pooled: Tensor) -> Tensor:
        """``[T, C, S, S]`` to ``[T, out_channels, R, R]``, R = S / 2 rounded up."""
        return self.res5(pooled)


def _linear(in_features: int, out_features: int) -> nn.Linear:
    """Fully connected layer with uniform weights of variance 1 / fan-in."""
    initializer = nn.initializer.XavierUniform(fan_in=in_features, fan_out=in_features)
    return nn.Linear(in_features, out_features, weight_attr=paddle.ParamAttr(initializer=initializer))
