"""Convolution blocks of the RepVGG family: several branches in training, one convolution at inference.

Ding et al. 2021, "RepVGG: Making VGG-style ConvNets Great Again" (arXiv:2101.03697), section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Optional

import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from ppdet.modeling.layers.norm import build_norm
from ppdet.modeling.reparameterize import Reparameterizable

#: Activations by the names a YAML uses.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "swish": functional.silu,
    "silu": functional.silu,
    "relu": functional.relu,
}


def activation_of(owner: str, name: str) -> Callable[[Tensor], Tensor]:
    """The activation of a name.

    Args:
        owner: Component whose argument `act` it is, for the message.
        name: One of `ACTIVATIONS`.

    Raises:
        ValueError: If there is none of this name.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"{owner}.act: expected one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]


class ConvBN(nn.Layer):
    """Square convolution without bias, then batch normalisation; keys ``conv.*``, ``bn.*``.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel: Side of the kernel.
        stride: Stride.
        padding: Top, bottom, left, right; ``kernel // 2`` everywhere if None.
        groups: Groups of channels, each convolved on its own.
        act: What follows the normalisation; None for nothing.
        norm_type: ``bn`` or ``sync_bn``.
        freeze_norm: Keep scale, shift and statistics as they are.
        lr_mult: Factor on the learning rate.
        initializer: Start of the kernel; Paddle's own if None.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int,
        stride: int = 1,
        padding: Optional[Sequence[int]] = None,
        groups: int = 1,
        act: Optional[Callable[[Tensor], Tensor]] = None,
        norm_type: str = "bn",
        freeze_norm: bool = False,
        lr_mult: float = 1.0,
        initializer: Optional[nn.initializer.Initializer] = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2D(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            padding=kernel // 2 if padding is None else list(padding),
            groups=groups,
            weight_attr=paddle.ParamAttr(learning_rate=lr_mult, initializer=initializer),
            bias_attr=False,
        )
        self.bn = build_norm(out_channels, norm_type, frozen=freeze_norm, lr_mult=lr_mult)
        self._act = act

    def forward(self, features: Tensor) -> Tensor:
        """``[N, in, H, W]`` to ``[N, out, ceil(H / stride), ceil(W / stride)]``."""
        features = self.bn(self.conv(features))
        return features if self._act is None else self._act(features)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Kernel ``[out, in, k, k]`` and bias ``[out]`` of one convolution that computes the same.

        The normalisation takes part with its stored statistics (section 3.3).
        """
        scale = self.bn.weight / paddle.sqrt(self.bn._variance + self.bn._epsilon)
        kernel = self.conv.weight * scale.reshape([-1, 1, 1, 1])
        return kernel, self.bn.bias - self.bn._mean * scale


class RepVGGBlock(Reparameterizable):
    """``act(ConvBN3x3(x) + alpha * ConvBN1x1(x))``, without an identity branch; keys ``conv1``, ``conv2``.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        act: What follows the sum.
        norm_type: ``bn`` or ``sync_bn``.
        use_alpha: Scale the 1x1 branch by a learnt number, key ``alpha``; else by 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        act: Callable[[Tensor], Tensor],
        norm_type: str = "bn",
        use_alpha: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = ConvBN(in_channels, out_channels, kernel=3, norm_type=norm_type)
        self.conv2 = ConvBN(in_channels, out_channels, kernel=1, norm_type=norm_type)
        self.alpha = (
            self.create_parameter([1], default_initializer=nn.initializer.Constant(1.0))
            if use_alpha
            else None
        )
        self._act = act

    def forward(self, features: Tensor) -> Tensor:
        """``[N, in, H, W]`` to ``[N, out, H, W]``."""
        pointwise = self.conv2(features)
        if self.alpha is not None:
            pointwise = self.alpha * pointwise
        return self._act(self.conv1(features) + pointwise)

    def kernel_and_bias(self) -> tuple[Tensor, Tensor]:
        """Kernel ``[out, in, 3, 3]`` and bias ``[out]`` of the one convolution (section 3.3)."""
        kernel, bias = self.conv1.folded()
        pointwise_kernel, pointwise_bias = self.conv2.folded()
        if self.alpha is not None:
            pointwise_kernel, pointwise_bias = self.alpha * pointwise_kernel, self.alpha * pointwise_bias
        # A 1x1 kernel is a 3x3 one whose border is zero.
        return kernel + functional.pad(pointwise_kernel, [1, 1, 1, 1]), bias + pointwise_bias

    def reparameterized(self) -> nn.Layer:
        """The same function as one convolution, key ``conv``, and the activation."""
        kernel, bias = self.kernel_and_bias()
        return _ConvAct(kernel, bias, self._act)


class _ConvAct(nn.Layer):
    """A 3x3 convolution with bias, of given weights, and an activation."""

    def __init__(self, kernel: Tensor, bias: Tensor, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2D(kernel.shape[1], kernel.shape[0], 3, padding=1)
        self.conv.weight.set_value(kernel)
        self.conv.bias.set_value(bias)
        self._act = act

    def forward(self, features: Tensor) -> Tensor:
        return self._act(self.conv(features))
