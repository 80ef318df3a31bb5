"""Denoising queries: objects with noise, which the decoder learns to restore.

Li et al., "DN-DETR", arXiv:2203.01305, section 4; Zhang et al., "DINO", arXiv:2203.03605, section 3.3
(contrastive: of two copies, the worse one is background).

Letters: N images, G most objects of an image in the batch, D = 2 * G * groups denoising queries, Q others.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import paddle
from paddle import Tensor

from ppdet.modeling.queries import QueryTargets
from ppdet.ops.constants import Kept
from ppdet.ops.normalized_boxes import inverse_sigmoid, to_centres, to_corners

#: Added to attention logits of what a query must not see. Beyond what exp() of float32 tells from 0.
_HIDDEN = -1e4
#: Which queries are the worse copies, by objects and groups.
_NEGATIVES: Kept[Tensor] = Kept(64)
#: Results of `attention_mask`, a megabyte each.
_MASKS: Kept[Tensor] = Kept(16)


class DenoisingDraws(NamedTuple):
    """Everything random about denoising queries.

    Attributes:
        flips: ``[N, D]`` float in 0..1; the label is replaced below half of ``label_noise_ratio``.
        labels: ``[N, D]`` int64 in 0..K-1, the labels in place of those.
        signs: ``[N, D, 4]`` float 0 or 1: a corner moves to smaller or larger coordinates.
        magnitudes: ``[N, D, 4]`` float in 0..1, by how much.
    """

    flips: Tensor
    labels: Tensor
    signs: Tensor
    magnitudes: Tensor

    @classmethod
    def of(cls, images: int, queries: int, num_classes: int) -> DenoisingDraws:
        """Draw."""
        return cls(
            flips=paddle.rand([images, queries]),
            labels=paddle.randint(0, num_classes, [images, queries], dtype="int64"),
            signs=paddle.randint(0, 2, [images, queries, 4]).astype("float32"),
            magnitudes=paddle.rand([images, queries, 4]),
        )


class DenoisingQueries(NamedTuple):
    """The queries.

    Attributes:
        labels: ``[N, D]`` int64 in 0..K-1.
        valid: ``[N, D]`` bool; others stand for no object and have neither class nor box.
        box_logits: ``[N, D, 4]`` float32 cx, cy, w, h before the sigmoid.
    """

    labels: Tensor
    valid: Tensor
    box_logits: Tensor


def number_of_groups(num_denoising: int, objects: int) -> int:
    """Groups that G objects each make about `num_denoising` positive queries with; at least 1."""
    return max(1, num_denoising // objects)


def denoising_queries(
    targets: QueryTargets,
    draws: DenoisingDraws,
    *,
    groups: int,
    label_noise_ratio: float,
    box_noise_scale: float,
) -> DenoisingQueries:
    """Noisy copies of the objects.

    Args:
        targets: The objects.
        draws: See there.
        groups: Number of groups.
        label_noise_ratio: Twice the probability of a wrong label.
        box_noise_scale: Corners of positives move by up to this share of half the box, those of negatives by
            more, up to twice as much.

    Returns:
        The queries.
    """
    labels, valid = (paddle.tile(x, [1, 2 * groups]) for x in (targets.labels, targets.valid))
    boxes = paddle.tile(targets.boxes, [1, 2 * groups, 1])
    flipped = (draws.flips < 0.5 * label_noise_ratio) & valid
    labels = paddle.where(flipped, draws.labels, labels)
    objects = targets.labels.shape[1]
    negative = _NEGATIVES.get((objects, groups), lambda: _negatives(objects, groups))
    shift = (2 * draws.signs - 1) * (draws.magnitudes + negative) * box_noise_scale
    half = paddle.tile(0.5 * boxes[..., 2:], [1, 1, 2])
    noisy = paddle.clip(to_corners(boxes) + shift * half, 0.0, 1.0)
    return DenoisingQueries(labels, valid, inverse_sigmoid(to_centres(noisy)))


def _negatives(objects: int, groups: int) -> Tensor:
    """``[1, D, 1]`` float32, 1 for the worse copies."""
    return paddle.to_tensor(
        np.tile(np.repeat([0.0, 1.0], objects), groups).reshape(1, -1, 1), dtype="float32"
    )


def attention_mask(groups: int, group_size: int, queries: int) -> Tensor:
    """Who sees whom among the queries, the denoising ones first.

    Nobody sees the denoising queries but those of the same group: they carry the truth. They do see the
    others.

    Args:
        groups: Number of groups.
        group_size: Denoising queries of a group.
        queries: Q.

    Returns:
        ``[D + Q, D + Q]`` float32 to add to the logits, rows of those who look. Must not be written to.
    """
    return _MASKS.get((groups, group_size, queries), lambda: _mask(groups, group_size, queries))


def _mask(groups: int, group_size: int, queries: int) -> Tensor:
    group = np.repeat(np.arange(groups), group_size)
    group = np.concatenate([group, np.full(queries, groups)])
    seen = (group[:, None] == group[None, :]) | (group[None, :] == groups)
    return paddle.to_tensor(np.where(seen, 0.0, _HIDDEN).astype("float32"))
