"""Losses of query detectors.

Zhao et al., "DETRs Beat YOLOs on Real-time Object Detection", arXiv:2304.08069, section 4.3, equation 6.

Letters: N images, Q queries, K classes, G most objects of an image in the batch, R pairs per image, L sets of
predictions: those of layers, which are compared with the objects all at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import paddle
from paddle import Tensor

from ppdet.config.ranges import NonNegative
from ppdet.config.spec import Spec
from ppdet.modeling.assign.hungarian import HungarianMatcher, check_parts
from ppdet.modeling.queries import DenoisingOutputs, QueryOutputs, QueryPredictions, QueryTargets
from ppdet.ops.boxes import paired_iou
from ppdet.ops.constants import Kept
from ppdet.ops.indexing import gather_rows, place_rows, row_starts
from ppdet.ops.losses import varifocal_loss
from ppdet.ops.normalized_boxes import to_corners
from ppdet.ops.ranks import mean_over_ranks

_COEFFICIENTS: dict[str, float] = {"class": 1.0, "bbox": 5.0, "giou": 2.0}
#: Positive denoising queries, by images, objects and groups.
_POSITIVES: Kept[Tensor] = Kept(64)


class Pairs(NamedTuple):
    """Queries and the objects that they stand for, in the images of each of L sets.

    Attributes:
        queries: ``[L * N, R]`` int64; 0 where there is no pair.
        exist: ``[L * N, R]`` float32, 1 for a pair, 0 for none.
        boxes: ``[L * N, R, 4]`` float32 cx, cy, w, h of the objects.
        labels: ``[L * N, R]`` int64.
        divisor: Scalar that sums are divided by.
    """

    queries: Tensor
    exist: Tensor
    boxes: Tensor
    labels: Tensor
    divisor: Tensor


class DINOLoss:
    """Varifocal, L1 and GIoU losses of every layer and of the denoising queries.

    The classification target of a matched query is the IoU of its box (section 4.3, "IoU-aware query
    selection").

    Args:
        matcher: Which query stands for which object.
        loss_coeff: Weights of ``class``, ``bbox`` and ``giou``.
    """

    def __init__(
        self,
        *,
        matcher: Spec[HungarianMatcher] = Spec.of(HungarianMatcher),  # noqa: B008  (a Spec is immutable)
        loss_coeff: dict[str, NonNegative] = _COEFFICIENTS,
    ) -> None:
        self.matcher = matcher.build()
        self._weights = check_parts("loss_coeff", loss_coeff)

    def __call__(self, outputs: QueryOutputs, targets: QueryTargets) -> dict[str, Tensor]:
        """Weighted losses.

        Args:
            outputs: Predictions.
            targets: Objects.

        Returns:
            ``loss_class``, ``loss_bbox``, ``loss_giou`` of the last layer; with ``_aux`` the sums over the
            encoder and the other layers; with ``_dn`` and ``_aux_dn`` the same of the denoising queries, if
            there are any. Float32 scalars, finite also without any object.
        """
        objects = targets.valid.astype("float32").sum()
        everywhere = mean_over_ranks(objects, training=paddle.is_grad_enabled())
        divisor = paddle.clip(everywhere, min=1.0)
        sets = [outputs.encoder, *outputs.layers]
        matches = paddle.flatten(self.matcher(sets, targets), 0, 1)
        losses = _last_and_rest(
            self.layer_losses(sets, matched_pairs(matches, targets.repeated(len(sets)), divisor)), ""
        )
        if outputs.denoising is not None:
            sets = outputs.denoising.layers
            pairs = denoising_pairs(outputs.denoising, targets.repeated(len(sets)), divisor)
            # A batch without objects has nothing to restore.
            some = paddle.clip(objects, max=1.0)
            restored = {part: loss * some for part, loss in self.layer_losses(sets, pairs).items()}
            losses.update(_last_and_rest(restored, "_dn"))
        return losses

    def layer_losses(self, sets: Sequence[QueryPredictions], pairs: Pairs) -> dict[str, Tensor]:
        """``class``, ``bbox`` and ``giou``, weighted: ``[L]`` float32 each, a loss for each set."""
        predictions = QueryPredictions.joined(sets)
        logits = predictions.logits.astype("float32")
        boxes = gather_rows(predictions.boxes.astype("float32"), pairs.queries)
        corners, object_corners = to_corners(boxes), to_corners(pairs.boxes)
        quality = paired_iou(corners.detach(), object_corners)
        positive, target = _class_targets(logits, pairs, quality)
        distance = paddle.abs(boxes - pairs.boxes).sum(axis=-1)
        giou = paired_iou(corners, object_corners, kind="giou")
        losses = {
            # In two sums: a single one of some 50,000 float32 numbers is off by 1e-4 on a CPU.
            "class": varifocal_loss(logits, target, positive).sum(axis=-1),
            "bbox": distance * pairs.exist,
            "giou": (1 - giou) * pairs.exist,
        }
        return {
            part: self._weights[part] * loss.reshape([len(sets), -1]).sum(axis=1) / pairs.divisor
            for part, loss in losses.items()
        }


def _class_targets(logits: Tensor, pairs: Pairs, quality: Tensor) -> tuple[Tensor, Tensor]:
    """``[L * N, Q, K]`` 1 where a query stands for an object of a class, and the IoU there."""
    images, queries, classes = logits.shape
    slots = (pairs.queries + row_starts(images, queries)) * classes + pairs.labels
    size = images * queries * classes
    slots = paddle.where(pairs.exist > 0, slots, paddle.full_like(slots, size))
    values = paddle.stack([pairs.exist, quality], axis=-1).reshape([-1, 2])
    placed = place_rows(values, paddle.flatten(slots), size).reshape([images, queries, classes, 2])
    return placed[..., 0], placed[..., 1]


def matched_pairs(match: Tensor, targets: QueryTargets, divisor: Tensor) -> Pairs:
    """Pairs of matches ``[L * N, G]`` as `HungarianMatcher` returns them, with the objects of every set."""
    exist = (match >= 0).astype("float32")
    return Pairs(paddle.clip(match, min=0), exist, targets.boxes, targets.labels, divisor)


def denoising_pairs(outputs: DenoisingOutputs, targets: QueryTargets, divisor: Tensor) -> Pairs:
    """The positive queries of every group and the objects they were made of, repeated for every set."""
    images, objects = targets.labels.shape
    groups = outputs.groups
    queries = _POSITIVES.get((images, objects, groups), lambda: _positives(images, objects, groups))
    again = [1, groups]
    return Pairs(
        queries,
        paddle.tile(targets.valid, again).astype("float32"),
        paddle.tile(targets.boxes, [*again, 1]),
        paddle.tile(targets.labels, again),
        divisor * groups,
    )


def _positives(images: int, objects: int, groups: int) -> Tensor:
    """``[images, groups * objects]`` int64; a group has as many negative queries after them."""
    rows = np.arange(groups)[:, None] * 2 * objects + np.arange(objects)
    return paddle.to_tensor(np.tile(rows.reshape(1, -1), [images, 1]).astype(np.int64))


def _last_and_rest(losses: dict[str, Tensor], suffix: str) -> dict[str, Tensor]:
    """Losses ``[L]`` by part to those of the last set, and the sums of the others if there are any."""
    named = {f"loss_{part}{suffix}": loss[-1] for part, loss in losses.items()}
    for part, loss in losses.items():
        if len(loss) > 1:
            named[f"loss_{part}_aux{suffix}"] = loss[:-1].sum()
    return named
