"""The transformer of RT-DETR: query selection and decoder.

Zhao et al., "DETRs Beat YOLOs on Real-time Object Detection", arXiv:2304.08069, sections 4.1 and 4.3.

Letters: N images, L levels, H, W size of a level, T tokens of all levels, D channels, Q queries, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Optional

import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import AnyInt, Fraction, NonNegative, NonNegativeInt, PositiveInt
from ppdet.config.spec import Common, Derived, Shared
from ppdet.modeling.layers.attention import MLP, uniform_linear, xavier_linear, zero_linear
from ppdet.modeling.layers.conv_norm import ConvNorm
from ppdet.modeling.layers.transformer_layer import Activation
from ppdet.modeling.queries import DenoisingOutputs, QueryOutputs, QueryPredictions, QueryTargets
from ppdet.modeling.transformers.decoder import Decoder, DecoderLayer
from ppdet.modeling.transformers.denoising import (
    DenoisingDraws,
    attention_mask,
    denoising_queries,
    number_of_groups,
)
from ppdet.ops.constants import Kept
from ppdet.ops.deformable import GridSize, as_float, grid_cells
from ppdet.ops.indexing import dim, gather_rows, static_dim
from ppdet.ops.normalized_boxes import inverse_sigmoid
from ppdet.structures import FeatureShape

#: Probability that an untrained network gives every class.
_PRIOR = 0.01
#: Side of an anchor on the finest level, in units of the image; doubles from level to level.
_ANCHOR_SIDE = 0.05
#: Anchors nearer than this to the border of the image do not become queries.
_BORDER = 0.01
#: Logit of the coordinates of such anchors; their sigmoid is 1.
_OUTSIDE = 1e4
#: Results of `_anchor_logits`.
_ANCHORS: Kept[tuple[Tensor, Tensor]] = Kept(64)


class Memory(NamedTuple):
    """The image as the decoder sees it.

    Attributes:
        tokens: ``[N, T, D]``, level by level, each in row-major order.
        grids: (height, width) of the levels.
    """

    tokens: Tensor
    grids: list[GridSize]


class Selection(NamedTuple):
    """The tokens that become queries, best first.

    Attributes:
        tokens: ``[N, Q]`` int64, which of the T.
        content: ``[N, Q, D]``.
        box_logits: ``[N, Q, 4]`` cx, cy, w, h before the sigmoid.
        class_logits: ``[N, Q, K]``.
    """

    tokens: Tensor
    content: Tensor
    box_logits: Tensor
    class_logits: Tensor

    @property
    def predictions(self) -> QueryPredictions:
        """As predictions of the encoder."""
        return QueryPredictions(self.class_logits, functional.sigmoid(self.box_logits))


class RTDETRTransformer(nn.Layer):
    """Chooses the most promising tokens of the image as queries and refines their boxes layer by layer.

    `num_queries` and `eval_idx` may differ between training and inference: no weight depends on either.

    Args:
        in_shapes: Feature shapes of the neck, finest first.
        num_classes: K.
        hidden_dim: D.
        num_queries: Q; fewer where an image has fewer tokens.
        num_levels: L; must be the number of feature shapes.
        num_decoder_points: Points per head and level of the deformable attention.
        nhead: Heads.
        num_decoder_layers: Decoder layers.
        dim_feedforward: Channels inside their feed-forward networks.
        activation: ``relu`` or ``gelu``.
        num_denoising: Positive denoising queries in training, about; 0 for none.
        label_noise_ratio: Twice the probability that such a query shows a wrong label.
        box_noise_scale: Noise of their corners, as a share of half the box.
        eval_idx: Decoder layer whose predictions are used at inference; later ones do not run. -1: the last.
        norm_type: See `build_norm`.

    Raises:
        ArgumentError: If a value is out of range.
    """

    def __init__(
        self,
        *,
        in_shapes: Derived[list[FeatureShape]],
        num_classes: Shared[PositiveInt],
        hidden_dim: Shared[PositiveInt] = 256,
        num_queries: PositiveInt = 300,
        num_levels: PositiveInt = 3,
        num_decoder_points: PositiveInt = 4,
        nhead: PositiveInt = 8,
        num_decoder_layers: PositiveInt = 6,
        dim_feedforward: PositiveInt = 1024,
        activation: Activation = "relu",
        num_denoising: NonNegativeInt = 100,
        label_noise_ratio: Fraction = 0.5,
        box_noise_scale: NonNegative = 1.0,
        eval_idx: AnyInt = -1,
        norm_type: Common[str] = "bn",
    ) -> None:
        super().__init__()
        _check_counts(
            num_levels=(num_levels, len(in_shapes), len(in_shapes)),
            eval_idx=(eval_idx, -num_decoder_layers, num_decoder_layers - 1),
            num_queries=(num_queries, 1, None),
            num_decoder_layers=(num_decoder_layers, 1, None),
            num_denoising=(num_denoising, 0, None),
        )
        self._num_classes = num_classes
        self._num_queries = num_queries
        self._num_denoising = num_denoising
        self._noise = {"label_noise_ratio": label_noise_ratio, "box_noise_scale": box_noise_scale}
        self._last = eval_idx % num_decoder_layers
        self.input_proj = nn.LayerList(
            [_projection(shape.channels, hidden_dim, norm_type) for shape in in_shapes]
        )

        def layer() -> DecoderLayer:
            return DecoderLayer(
                hidden_dim,
                heads=nhead,
                levels=num_levels,
                points=num_decoder_points,
                feedforward=dim_feedforward,
                activation=activation,
            )

        self.decoder = Decoder([layer() for _ in range(num_decoder_layers)])
        if num_denoising > 0:
            normal = paddle.ParamAttr(initializer=nn.initializer.Normal())
            self.denoising_class_embed = nn.Embedding(num_classes, hidden_dim, weight_attr=normal)
        self.query_pos_head = MLP(
            [xavier_linear(4, 2 * hidden_dim), xavier_linear(2 * hidden_dim, hidden_dim)]
        )
        self.enc_output = nn.Sequential(xavier_linear(hidden_dim, hidden_dim), nn.LayerNorm(hidden_dim))
        self.enc_score_head = _score_head(hidden_dim, num_classes)
        self.enc_bbox_head = _box_head(hidden_dim)
        self.dec_score_head = nn.LayerList(
            [_score_head(hidden_dim, num_classes) for _ in range(num_decoder_layers)]
        )
        self.dec_bbox_head = nn.LayerList([_box_head(hidden_dim) for _ in range(num_decoder_layers)])

    def forward(self, features: list[Tensor]) -> QueryPredictions:
        """L maps ``[N, C, H, W]`` of the neck to the predictions used at inference."""
        memory = self.memory(features)
        selection = self.select(memory)
        queries, boxes = selection.content, functional.sigmoid(selection.box_logits)
        for i in range(self._last + 1):
            queries = self._decode(i, queries, boxes, memory, None)
            boxes = functional.sigmoid(self.dec_bbox_head[i](queries) + inverse_sigmoid(boxes))
        return QueryPredictions(self.dec_score_head[self._last](queries), boxes)

    def train_outputs(self, features: list[Tensor], targets: QueryTargets) -> QueryOutputs:
        """Predictions of all layers, with denoising.

        Args:
            features: L maps ``[N, C, H, W]`` of the neck.
            targets: Objects, for the denoising queries.

        Returns:
            What the losses are made of.
        """
        memory = self.memory(features)
        selection = self.select(memory)
        queries, box_logits = selection.content.detach(), selection.box_logits.detach()
        mask, extra, groups = None, 0, 0
        if self._num_denoising > 0:
            objects = targets.labels.shape[1]
            groups = number_of_groups(self._num_denoising, objects)
            extra = 2 * groups * objects
            draws = DenoisingDraws.of(targets.labels.shape[0], extra, self._num_classes)
            noisy = denoising_queries(targets, draws, groups=groups, **self._noise)
            classes = self.denoising_class_embed(noisy.labels)
            classes = classes * noisy.valid.unsqueeze(-1).astype(classes.dtype)
            mask = attention_mask(groups, 2 * objects, queries.shape[1])
            queries = paddle.concat([classes, queries.astype(classes.dtype)], axis=1)
            box_logits = paddle.concat([noisy.box_logits.astype(box_logits.dtype), box_logits], axis=1)
        layers = self._refine(queries, functional.sigmoid(box_logits), memory, mask)
        denoising = None
        if extra:
            shown = [QueryPredictions(logits[:, :extra], boxes[:, :extra]) for logits, boxes in layers]
            layers = [QueryPredictions(logits[:, extra:], boxes[:, extra:]) for logits, boxes in layers]
            denoising = DenoisingOutputs(shown, groups)
        return QueryOutputs(selection.predictions, layers, denoising)

    def memory(self, features: list[Tensor]) -> Memory:
        """Maps of the neck as tokens."""
        maps = [project(feature) for project, feature in zip(self.input_proj, features)]
        tokens = [paddle.transpose(paddle.flatten(x, 2), [0, 2, 1]) for x in maps]
        return Memory(paddle.concat(tokens, axis=1), [(dim(x, 2), dim(x, 3)) for x in maps])

    def select(self, memory: Memory) -> Selection:
        """The tokens with the highest class logits (section 4.3, "query selection")."""
        inside, anchor_logits = _ANCHORS.get(tuple(memory.grids), lambda: _anchor_logits(memory.grids))
        content = self.enc_output(memory.tokens * inside.astype(memory.tokens.dtype))
        logits = self.enc_score_head(content)
        known = static_dim(logits, 1)
        count = self._num_queries if known is None else min(self._num_queries, known)
        _, index = paddle.topk(logits.max(axis=-1), count, axis=1)
        chosen = gather_rows(content, index)
        own = paddle.gather(anchor_logits, paddle.flatten(index)).reshape([-1, count, 4])
        return Selection(index, chosen, self.enc_bbox_head(chosen) + own, gather_rows(logits, index))

    def _decode(
        self, i: int, queries: Tensor, boxes: Tensor, memory: Memory, mask: Optional[Tensor]
    ) -> Tensor:
        layer = self.decoder[i]
        return layer(queries, self.query_pos_head(boxes), boxes, memory.tokens, memory.grids, mask)

    def _refine(
        self, queries: Tensor, boxes: Tensor, memory: Memory, mask: Optional[Tensor]
    ) -> list[QueryPredictions]:
        """All layers. Each starts from the boxes of the one before, which takes no gradient that way; but the
        boxes that go to the loss pass theirs on to one layer before."""
        predictions: list[QueryPredictions] = []
        previous = boxes
        for i in range(len(self.decoder)):
            queries = self._decode(i, queries, boxes, memory, mask)
            delta = self.dec_bbox_head[i](queries)
            refined = functional.sigmoid(delta + inverse_sigmoid(boxes))
            judged = refined if i == 0 else functional.sigmoid(delta + inverse_sigmoid(previous))
            predictions.append(QueryPredictions(self.dec_score_head[i](queries), judged))
            previous, boxes = refined, refined.detach()
        return predictions


def _anchor_logits(grids: Sequence[GridSize]) -> tuple[Tensor, Tensor]:
    """Which anchors are well inside the image, ``[T, 1]`` bool, and ``[T, 4]`` float32 logits of all."""
    anchors = grid_anchors(grids)
    inside = ((anchors > _BORDER) & (anchors < 1 - _BORDER)).all(axis=-1, keepdim=True)
    logits = paddle.where(inside, paddle.log(anchors / (1 - anchors)), paddle.full_like(anchors, _OUTSIDE))
    return inside, logits


def grid_anchors(grids: Sequence[GridSize]) -> Tensor:
    """An anchor in the middle of every cell.

    Args:
        grids: (height, width) of the levels, finest first.

    Returns:
        ``[T, 4]`` float32 cx, cy, w, h in 0..1.
    """
    levels = []
    for level, (height, width) in enumerate(grids):
        row, column = grid_cells((height, width))
        side = paddle.full_like(row, _ANCHOR_SIDE * 2**level)
        centre = [(column + 0.5) / as_float(width), (row + 0.5) / as_float(height)]
        levels.append(paddle.stack([*centre, side, side], axis=1))
    return paddle.concat(levels)


def _check_counts(**counts: tuple[int, int, Optional[int]]) -> None:
    """Each is a value, the least and the largest it may be."""
    for name, (value, least, most) in counts.items():
        if value < least or (most is not None and value > most):
            expected = f">= {least}" if most is None else str(least) if least == most else f"{least}..{most}"
            raise ArgumentError(name, f"expected {expected}, got {value}")


def _projection(in_channels: int, out_channels: int, norm_type: str) -> ConvNorm:
    xavier = nn.initializer.XavierUniform()
    return ConvNorm(in_channels, out_channels, kernel=1, norm_type=norm_type, initializer=xavier)


def _score_head(channels: int, num_classes: int) -> nn.Linear:
    return uniform_linear(channels, num_classes, bias=-math.log((1 - _PRIOR) / _PRIOR))


def _box_head(channels: int) -> MLP:
    return MLP(
        [uniform_linear(channels, channels), uniform_linear(channels, channels), zero_linear(channels, 4)]
    )
