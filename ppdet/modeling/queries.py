"""What the parts of a query detector hand to each other.

Letters: N images, Q queries, K classes, G most objects of an image in the batch, D denoising queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

import paddle
from paddle import Tensor

from ppdet.ops.constants import constant
from ppdet.ops.normalized_boxes import to_centres
from ppdet.structures import BatchTargets


class QueryPredictions(NamedTuple):
    """What one layer says of its queries.

    Attributes:
        logits: ``[N, Q, K]`` float, before the sigmoid.
        boxes: ``[N, Q, 4]`` float cx, cy, w, h in 0..1 of the input.
    """

    logits: Tensor
    boxes: Tensor

    @classmethod
    def joined(cls, sets: Sequence[QueryPredictions]) -> QueryPredictions:
        """S sets for the same N images as one for S * N images, set after set."""
        return cls(*(paddle.concat(list(parts)) for parts in zip(*sets)))


class QueryTargets(NamedTuple):
    """Objects as a query detector sees them.

    Attributes:
        boxes: ``[N, G, 4]`` float32 cx, cy, w, h in 0..1 of the input; zeros in rows that are no objects.
        labels: ``[N, G]`` int64 in 0..K-1; 0 in rows that are no objects.
        valid: ``[N, G]`` bool, whether a row is an object. Crowd regions are none.
    """

    boxes: Tensor
    labels: Tensor
    valid: Tensor

    @classmethod
    def of(cls, targets: BatchTargets, images: Tensor) -> QueryTargets:
        """Targets in pixels of images ``[N, 3, H, W]``, padding included."""
        height, width = images.shape[2:]
        valid = (targets.labels >= 0) & ~targets.is_crowd
        scale = constant([width, height] * 2, targets.boxes)
        boxes = to_centres(targets.boxes / scale) * valid.unsqueeze(-1).astype("float32")
        return cls(boxes, targets.labels * valid.astype("int64"), valid)

    def repeated(self, times: int) -> QueryTargets:
        """The objects of as many sets as `QueryPredictions.joined` joins."""
        return QueryTargets(*(paddle.concat([each] * times) for each in self))


class DenoisingOutputs(NamedTuple):
    """Predictions for objects that were shown to the decoder with noise.

    A group holds G noisy copies of the objects that should be restored, then G worse ones that should be
    background; the groups follow each other.

    Attributes:
        layers: Predictions of each decoder layer for the D = 2 * G * `groups` denoising queries.
        groups: Number of groups.
    """

    layers: list[QueryPredictions]
    groups: int


class QueryOutputs(NamedTuple):
    """What the losses are made of.

    Attributes:
        encoder: Predictions for the tokens that became queries.
        layers: Predictions of each decoder layer.
        denoising: None if there are no denoising queries.
    """

    encoder: QueryPredictions
    layers: list[QueryPredictions]
    denoising: Optional[DenoisingOutputs]
