"""A decoder of queries (Zhu et al., "Deformable DETR", arXiv:2010.04159, section 4.1 and appendix A.4).

Letters: N images, Q queries, T tokens of all levels, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

from paddle import Tensor, nn

from ppdet.modeling.layers.attention import DeformableAttention, SelfAttention, xavier_linear
from ppdet.modeling.layers.transformer_layer import Activation, activate
from ppdet.ops.deformable import GridSize


class DecoderLayer(nn.Layer):
    """Attention among the queries, attention to the image, a feed-forward network; post-norm.

    Args:
        channels: D.
        heads: Heads of both attentions.
        levels: Feature levels.
        points: Points per head and level.
        feedforward: Channels inside the feed-forward network.
        activation: ``relu`` or ``gelu``.
    """

    def __init__(
        self,
        channels: int,
        *,
        heads: int,
        levels: int,
        points: int,
        feedforward: int,
        activation: Activation,
    ) -> None:
        super().__init__()
        self._activation: Activation = activation
        self.self_attn = SelfAttention(channels, heads)
        self.norm1 = nn.LayerNorm(channels)
        self.cross_attn = DeformableAttention(channels, heads, levels, points)
        self.norm2 = nn.LayerNorm(channels)
        self.linear1 = xavier_linear(channels, feedforward)
        self.linear2 = xavier_linear(feedforward, channels)
        self.norm3 = nn.LayerNorm(channels)

    def forward(
        self,
        queries: Tensor,
        position: Tensor,
        boxes: Tensor,
        memory: Tensor,
        grids: Sequence[GridSize],
        mask: Optional[Tensor],
    ) -> Tensor:
        """One layer.

        Args:
            queries: ``[N, Q, D]``.
            position: ``[N, Q, D]``, made of the boxes.
            boxes: ``[N, Q, 4]`` cx, cy, w, h in 0..1.
            memory: ``[N, T, D]``.
            grids: (height, width) of the levels.
            mask: ``[Q, Q]`` added to the logits of the self-attention, or None.

        Returns:
            ``[N, Q, D]``.
        """
        queries = self.norm1(queries + self.self_attn(queries + position, queries, mask))
        queries = self.norm2(queries + self.cross_attn(queries + position, boxes, memory, grids))
        return self.norm3(queries + self.linear2(activate(self.linear1(queries), self._activation)))


class Decoder(nn.Layer):
    """The layers of a decoder; keys ``layers.0``, ``layers.1``, ...

    Args:
        layers: The layers.
    """

    def __init__(self, layers: Sequence[DecoderLayer]) -> None:
        super().__init__()
        self.layers = nn.LayerList(list(layers))

    def __len__(self) -> int:
        """Number of layers."""
        return len(self.layers)

    def __getitem__(self, index: int) -> DecoderLayer:
        """A layer."""
        layer: Any = self.layers[index]
        return layer
