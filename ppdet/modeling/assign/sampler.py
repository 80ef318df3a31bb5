"""Sampling of a fixed number of positives and negatives, without reading their number from the device.

Letters: N images, A anchors or regions, S sampled per image.
"""

from __future__ import annotations

from typing import NamedTuple

import paddle
from paddle import Tensor

from ppdet.config.errors import ArgumentError
from ppdet.modeling.assign.matcher import NEGATIVE, POSITIVE
from ppdet.ops.constants import arange, indices
from ppdet.ops.indexing import gather_rows, place_rows, row_starts
from ppdet.structures import IGNORE_LABEL


class SampledRows(NamedTuple):
    """Sampled rows: first the positives, then the negatives, then padding.

    Attributes:
        rows: ``[N, S]`` int64 0..A-1; 0 in padded rows.
        labels: ``[N, S]`` int64: 1 positive, 0 negative, -1 padding.
    """

    rows: Tensor
    labels: Tensor


class BalancedSampler:
    """Draws at most S rows of each image, at most a given share of them positive.

    There are min(#positives, S * fg_fraction) positives; negatives fill up to S. If there are too few
    negatives the sample is shorter and padded: positives do not take their place.
    """

    def __init__(self, *, batch_size_per_im: int, fg_fraction: float, use_random: bool = True) -> None:
        """Check and keep the numbers.

        Args:
            batch_size_per_im: S, > 0.
            fg_fraction: Largest share of positives, 0..1.
            use_random: Whether to draw at random, from Paddle's generator; if not, the first rows of each
                kind are taken, which makes training repeatable but biased to the top left.

        Raises:
            ValueError: If a number is out of range.
        """
        if batch_size_per_im <= 0:
            raise ArgumentError("batch_size_per_im", f"expected > 0, got {batch_size_per_im}")
        if not 0 <= fg_fraction <= 1:
            raise ArgumentError("fg_fraction", f"expected 0..1, got {fg_fraction}")
        self.batch_size_per_im = batch_size_per_im
        self.max_positives = int(batch_size_per_im * fg_fraction)
        self.use_random = use_random

    @paddle.no_grad()
    def __call__(self, labels: Tensor) -> SampledRows:
        """Sample rows.

        Args:
            labels: ``[N, A]`` int64: 1 positive, 0 negative, anything else is never drawn. N and A are ints.

        Returns:
            Rows of each kind in index order, or in random order with `use_random`.
        """
        images, rows = labels.shape
        size = self.batch_size_per_im
        order = None
        if self.use_random:
            # One permutation per image; drawing the first rows of a permutation is drawing at random.
            order = paddle.stack([paddle.randperm(rows) for _ in range(images)])
            labels = gather_rows(labels, order)
        kinds = labels == indices([POSITIVE, NEGATIVE]).reshape([2, 1, 1])
        positive, negative = kinds.unbind()
        # Counted from 1.
        positive_rank, negative_rank = paddle.cumsum(kinds.astype("int64"), axis=2).unbind()
        num_positive = paddle.clip(positive_rank[:, -1:], max=self.max_positives)
        take_positive = positive & (positive_rank <= num_positive)
        take_negative = negative & (negative_rank <= size - num_positive)

        # Each drawn row has its slot in the result; all others share the one that `place_rows` drops.
        slot = paddle.where(take_positive, positive_rank, num_positive + negative_rank)
        slot = slot + row_starts(images, size) - 1
        slot = paddle.where(take_positive | take_negative, slot, paddle.full_like(slot, images * size))
        slot = paddle.flatten(slot)
        if order is None:
            order = arange(rows).unsqueeze(0).expand([images, rows])
        index = place_rows(paddle.flatten(order), slot, images * size)
        drawn = place_rows(paddle.flatten(labels), slot, images * size, fill=IGNORE_LABEL)
        return SampledRows(paddle.reshape(index, [images, size]), paddle.reshape(drawn, [images, size]))
