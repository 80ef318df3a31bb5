"""Layers of a transformer encoder, and the positions of tokens on a grid."""

from __future__ import annotations

import math
from typing import Literal, Union

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import PositiveInt
from ppdet.config.spec import Derived
from ppdet.modeling.layers.attention import SelfAttention, xavier_linear
from ppdet.ops.constants import Kept
from ppdet.ops.deformable import grid_cells

Activation = Literal["relu", "gelu"]
#: Results of `grid_positions`.
_POSITIONS: Kept[Tensor] = Kept(64)


def activate(x: Tensor, kind: Activation) -> Tensor:
    """ReLU, or GELU with the error function."""
    return functional.relu(x) if kind == "relu" else functional.gelu(x)


class TransformerLayer(nn.Layer):
    """Self-attention and a feed-forward network, each normalised after its sum (post-norm).

    Vaswani et al., "Attention Is All You Need", arXiv:1706.03762, section 3.1.

    Args:
        d_model: Channels D.
        nhead: Heads.
        dim_feedforward: Channels inside the feed-forward network.
        activation: ``relu`` or ``gelu``.
    """

    def __init__(
        self,
        *,
        d_model: Derived[int],
        nhead: PositiveInt = 8,
        dim_feedforward: PositiveInt = 1024,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self._activation: Activation = activation
        self.self_attn = SelfAttention(d_model, nhead)
        self.linear1 = xavier_linear(d_model, dim_feedforward)
        self.linear2 = xavier_linear(dim_feedforward, d_model)
        self.norm1 = nn.LayerNorm(d_model)
        self.norm2 = nn.LayerNorm(d_model)

    def forward(self, tokens: Tensor, position: Tensor) -> Tensor:
        """Tokens ``[N, T, D]`` and their positions ``[1, T, D]`` to ``[N, T, D]``."""
        tokens = self.norm1(tokens + self.self_attn(tokens + position, tokens))
        return self.norm2(tokens + self.linear2(activate(self.linear1(tokens), self._activation)))


def grid_positions(
    height: Union[int, Tensor], width: Union[int, Tensor], channels: int, temperature: float = 10000.0
) -> Tensor:
    """Sine and cosine positions of the cells of a grid (arXiv:1706.03762, section 3.5, for each of two axes).

    Cell t of the row-major order has the coordinates t // height and t % height, as the published weights
    were trained: row and column where the grid is square. Elsewhere they still tell all cells apart, but no
    longer run along its axes.

    Args:
        height: Rows.
        width: Columns.
        channels: D, a multiple of 4: sine and cosine of the first coordinate, then of the second.
        temperature: Longest wavelength over 2 pi.

    Returns:
        ``[1, height * width, D]`` float32. Must not be written to.

    Raises:
        ArgumentError: If `channels` is no multiple of 4.
    """
    if channels % 4:
        raise ArgumentError("hidden_dim", f"expected a multiple of 4, got {channels}")
    key = (height, width, channels, temperature)
    return _POSITIONS.get(key, lambda: _positions(height, width, channels // 4, temperature))


def _positions(
    height: Union[int, Tensor], width: Union[int, Tensor], count: int, temperature: float
) -> Tensor:
    frequencies = paddle.to_tensor(temperature ** -(np.arange(count) / count), dtype="float32").unsqueeze(0)
    # Counted in rows as long as the grid is high.
    angles = [axis.unsqueeze(1) * frequencies for axis in grid_cells((width, height))]
    # Cosines as sines of a quarter turn more: of the sine and the cosine of one tensor, Paddle Inference 3.3
    # with oneDNN computes both wrongly.
    turned = [part for angle in angles for part in (angle, angle + math.pi / 2)]
    return paddle.sin(paddle.concat(turned, axis=1)).unsqueeze(0)
