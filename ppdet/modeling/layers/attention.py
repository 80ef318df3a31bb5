"""Attention and the small networks around it.

Letters: N images, T tokens (or queries), D channels, M heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Optional

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from ppdet.config.errors import ArgumentError
from ppdet.ops.deformable import GridSize, deformable_sampling


def uniform_linear(in_features: int, out_features: int, *, bias: Optional[float] = None) -> nn.Linear:
    """A linear layer with weights drawn uniformly from +-1/sqrt(in).

    Args:
        in_features: Channels in.
        out_features: Channels out.
        bias: Start of every bias; None draws them like the weights.
    """
    bound = in_features**-0.5
    drawn = nn.initializer.Uniform(-bound, bound)
    constant = drawn if bias is None else nn.initializer.Constant(bias)
    return nn.Linear(
        in_features,
        out_features,
        weight_attr=paddle.ParamAttr(initializer=drawn),
        bias_attr=paddle.ParamAttr(initializer=constant),
    )


def xavier_linear(in_features: int, out_features: int) -> nn.Linear:
    """A linear layer with Xavier-uniform weights (Glorot and Bengio, 2010, equation 16) and zero biases."""
    return nn.Linear(
        in_features,
        out_features,
        weight_attr=paddle.ParamAttr(initializer=nn.initializer.XavierUniform()),
        bias_attr=paddle.ParamAttr(initializer=nn.initializer.Constant(0.0)),
    )


def zero_linear(in_features: int, out_features: int, bias: Sequence[float] = (0.0,)) -> nn.Linear:
    """A linear layer that puts out its biases at first, whatever comes in.

    Args:
        in_features: Channels in.
        out_features: Channels out.
        bias: Start of the biases, repeated to `out_features`.
    """
    values = list(bias) * (out_features // len(bias))
    return nn.Linear(
        in_features,
        out_features,
        weight_attr=paddle.ParamAttr(initializer=nn.initializer.Constant(0.0)),
        bias_attr=paddle.ParamAttr(initializer=nn.initializer.Assign(np.array(values, np.float32))),
    )


class MLP(nn.Layer):
    """Linear layers with a ReLU between them; keys ``layers.0``, ``layers.1``, ...

    Args:
        layers: The linear layers.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.layers = nn.LayerList(list(layers))

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in]`` to ``[..., out]``."""
        for i, layer in enumerate(self.layers):
            x = layer(functional.relu(x) if i else x)
        return x


class SelfAttention(nn.Layer):
    """Multi-head attention among the tokens of a sequence (Vaswani et al., 2017, section 3.2.2).

    Keys ``in_proj_weight [D, 3D]`` (columns of queries, keys, values), ``in_proj_bias``, ``out_proj``.

    Args:
        channels: D.
        heads: M, a divisor of D.

    Raises:
        ArgumentError: If the heads do not share the channels evenly.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        if channels % heads:
            raise ArgumentError("nhead", f"expected a divisor of {channels} channels, got {heads}")
        self._heads = heads
        self._width = channels // heads
        self.in_proj_weight = self.create_parameter(
            [channels, 3 * channels],
            attr=paddle.ParamAttr(initializer=nn.initializer.XavierUniform()),
        )
        self.in_proj_bias = self.create_parameter([3 * channels], is_bias=True)
        self.out_proj = xavier_linear(channels, channels)

    def forward(self, tokens: Tensor, values: Tensor, mask: Optional[Tensor] = None) -> Tensor:
        """Attend.

        Args:
            tokens: ``[N, T, D]``, what queries and keys are made of.
            values: ``[N, T, D]``, what is averaged.
            mask: ``[T, T]`` float added to the logits, rows of queries: 0, or very low where a query must
                not see a token.

        Returns:
            ``[N, T, D]``.
        """
        channels = self._heads * self._width
        weight, bias = self.in_proj_weight, self.in_proj_bias
        pairs = functional.linear(tokens, weight[:, : 2 * channels], bias[: 2 * channels])
        query, key = self._split(pairs[:, :, :channels]), self._split(pairs[:, :, channels:])
        value = self._split(functional.linear(values, weight[:, 2 * channels :], bias[2 * channels :]))
        logits = paddle.matmul(query * self._width**-0.5, key, transpose_y=True)
        if mask is not None:
            logits = logits + mask
        merged = paddle.transpose(paddle.matmul(functional.softmax(logits), value), [0, 2, 1, 3])
        return self.out_proj(paddle.flatten(merged, 2))

    def _split(self, x: Tensor) -> Tensor:
        """``[N, T, D]`` to ``[N, M, T, D / M]``."""
        return paddle.transpose(paddle.reshape(x, [0, 0, self._heads, self._width]), [0, 2, 1, 3])


class DeformableAttention(nn.Layer):
    """Attention to a few points around a reference box on every level (arXiv:2010.04159, section 4.1).

    Args:
        channels: D.
        heads: M, a divisor of D.
        levels: L.
        points: P, points per head and level.

    Raises:
        ArgumentError: If the heads do not share the channels evenly.
    """

    def __init__(self, channels: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        if channels % heads:
            raise ArgumentError("nhead", f"expected a divisor of {channels} channels, got {heads}")
        self._heads, self._levels, self._points = heads, levels, points
        self.sampling_offsets = zero_linear(
            channels, heads * levels * points * 2, star_offsets(heads, levels, points)
        )
        self.attention_weights = zero_linear(channels, heads * levels * points)
        self.value_proj = xavier_linear(channels, channels)
        self.output_proj = xavier_linear(channels, channels)

    def forward(self, queries: Tensor, boxes: Tensor, memory: Tensor, grids: Sequence[GridSize]) -> Tensor:
        """Attend.

        Args:
            queries: ``[N, Q, D]``.
            boxes: ``[N, Q, 4]`` cx, cy, w, h in 0..1, the reference of each query.
            memory: ``[N, T, D]``, tokens of all levels.
            grids: L pairs (height, width).

        Returns:
            ``[N, Q, D]``.
        """
        heads, levels, points = self._heads, self._levels, self._points
        value = self.value_proj(memory)
        value = paddle.reshape(value, [0, 0, heads, value.shape[2] // heads])
        offsets = paddle.reshape(self.sampling_offsets(queries), [0, 0, heads, levels, points, 2])
        logits = paddle.reshape(self.attention_weights(queries), [0, 0, heads, levels * points])
        weights = paddle.reshape(functional.softmax(logits), [0, 0, heads, levels, points])
        box = boxes.unsqueeze([2, 3, 4])
        # An offset of P points reaches the edge of the box.
        locations = box[..., :2] + offsets / points * box[..., 2:] * 0.5
        return self.output_proj(deformable_sampling(value, grids, locations, weights))


def star_offsets(heads: int, levels: int, points: int) -> list[float]:
    """Offsets that an untrained layer samples: heads look in M directions, point p at distance p + 1.

    Returns:
        x, y of every head, level and point, flat. The larger of the two is 1 at the first point.
    """
    offsets: list[float] = []
    for head in range(heads):
        angle = 2 * math.pi * head / heads
        x, y = math.cos(angle), math.sin(angle)
        longest = max(abs(x), abs(y))
        for _ in range(levels):
            for point in range(1, points + 1):
                offsets += [x / longest * point, y / longest * point]
    return offsets
