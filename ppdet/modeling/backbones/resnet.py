"""ResNet backbone (He et al., "Deep Residual Learning for Image Recognition")."""

from __future__ import annotations

from collections.abc import Sequence

from paddle import Tensor, nn
from paddle.nn import functional

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import IntFromMinusOne, NonNegative, NonNegativeInt, PositiveInt
from ppdet.config.spec import Common
from ppdet.modeling.interfaces import Backbone
from ppdet.modeling.layers.residual import ResidualPlan, ResidualStage
from ppdet.structures import FeatureShape

#: Channels out of the stem.
_STEM_CHANNELS = 64


class ResNet(Backbone):
    """ResNet without its classifier.

    Args:
        depth: 18, 34, 50, 101 or 152.
        variant: ``a``, ``b``, ``c`` or ``d``; see `ResidualPlan`. 2.x calls ``d`` vd.
        norm_type: ``bn`` or ``sync_bn``.
        norm_decay: L2 factor of norm scales and shifts, in place of the optimizer's.
        freeze_norm: Norms keep their stored statistics and are not trained.
        freeze_at: Last stage, counted from res2 = 0, that is not trained, the stem with it; -1 to
            train everything.
        freeze_stem_only: With ``freeze_at >= 0``, freeze the stem and no stage.
        return_idx: Stages to return, res2 = 0.
        num_stages: Stages to build, 1..4.
        lr_mult_list: Learning-rate factors of res2..res5.

    Raises:
        ValueError: If a value is out of range.
    """

    def __init__(
        self,
        *,
        depth: PositiveInt = 50,
        variant: str = "b",
        norm_type: Common[str] = "bn",
        norm_decay: NonNegative = 0.0,
        freeze_norm: bool = True,
        freeze_at: IntFromMinusOne = 0,
        freeze_stem_only: bool = False,
        return_idx: Sequence[NonNegativeInt] = (0, 1, 2, 3),
        num_stages: PositiveInt = 4,
        lr_mult_list: Sequence[NonNegative] = (1.0, 1.0, 1.0, 1.0),
    ) -> None:
        super().__init__()
        if not 1 <= num_stages <= 4:
            raise ArgumentError("num_stages", f"expected 1..4, got {num_stages}")
        if not -1 <= freeze_at < 4:
            raise ArgumentError("freeze_at", f"expected -1..3, got {freeze_at}")
        if len(lr_mult_list) != 4:
            raise ArgumentError("lr_mult_list", f"expected 4 factors (res2..res5), got {list(lr_mult_list)}")
        if not return_idx or not all(0 <= i < num_stages for i in return_idx):
            raise ArgumentError(
                "return_idx",
                f"expected stages 0..{num_stages - 1} (num_stages is {num_stages}), got {list(return_idx)}",
            )
        plan = ResidualPlan(depth, variant, norm_type, norm_decay, freeze_norm)
        self.conv1 = self._stem(plan)
        self._stages = [f"res{i + 2}" for i in range(num_stages)]
        channels = _STEM_CHANNELS
        for i, name in enumerate(self._stages):
            stage = ResidualStage(plan, i + 2, in_channels=channels, lr_mult=lr_mult_list[i])
            self.add_sublayer(name, stage)
            channels = plan.stage_channels(i + 2)
        self._returned = sorted(set(return_idx))
        self.out_shapes = [FeatureShape(plan.stage_channels(i + 2), 4 * 2**i) for i in self._returned]
        if freeze_at >= 0:
            frozen = [] if freeze_stem_only else self._stages[: freeze_at + 1]
            for part in [self.conv1, *(self._sub_layers[name] for name in frozen)]:
                for parameter in part.parameters():
                    parameter.trainable = False

    @staticmethod
    def _stem(plan: ResidualPlan) -> nn.Sequential:
        if plan.variant in ("c", "d"):
            half = _STEM_CHANNELS // 2
            steps = [
                ("conv1_1", 3, half, 2),
                ("conv1_2", half, half, 1),
                ("conv1_3", half, _STEM_CHANNELS, 1),
            ]
            kernel = 3
        else:
            steps = [("conv1", 3, _STEM_CHANNELS, 2)]
            kernel = 7
        layers: list[tuple[str, nn.Layer]] = []
        for name, wide_in, wide_out, stride in steps:
            layers.append((name, plan.conv(wide_in, wide_out, kernel=kernel, stride=stride)))
            layers.append((f"{name}_relu", nn.ReLU()))
        return nn.Sequential(*layers)

    def forward(self, images: Tensor) -> list[Tensor]:
        """``[N, 3, H, W]`` images to the returned stages, finest first."""
        features = functional.max_pool2d(self.conv1(images), 3, stride=2, padding=1)
        outputs = []
        for i, name in enumerate(self._stages[: self._returned[-1] + 1]):
            features = self._sub_layers[name](features)
            if i in self._returned:
                outputs.append(features)
        return outputs
