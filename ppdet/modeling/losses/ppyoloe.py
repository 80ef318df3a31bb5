"""The losses of PP-YOLOE, given the target of each anchor (Xu et al. 2022, arXiv:2203.16250, section 2.2).

Letters: N images, A anchors of all levels, B bins of a distance, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple

import paddle
from paddle import Tensor
from paddle.nn import functional

from ppdet.modeling.assign.soft_targets import SoftTargets
from ppdet.modeling.layers.anchor_points import AnchorPoints
from ppdet.ops.boxes import paired_iou
from ppdet.ops.constants import arange
from ppdet.ops.losses import distribution_focal_loss, quality_focal_loss, varifocal_loss
from ppdet.ops.ranks import mean_over_ranks

#: How far below the last bin a distance must stay, so that there is always a bin to its right.
_BELOW_LAST = 0.01


class PointPredictions(NamedTuple):
    """Predictions at all anchors, float32.

    Attributes:
        class_logits: ``[N, A, K]``.
        box_logits: ``[N, A, 4, B]``: of the distances to the left, top, right and bottom, in strides.
        boxes: ``[N, A, 4]`` xyxy in strides of each anchor's level.
    """

    class_logits: Tensor
    box_logits: Tensor
    boxes: Tensor


@dataclass(frozen=True)
class LossWeights:
    """Factors of the losses.

    Attributes:
        classes: Of ``loss_cls``; ``class`` in a YAML.
        iou: Of ``loss_iou``.
        dfl: Of ``loss_dfl``.
    """

    classes: float = 1.0
    iou: float = 2.5
    dfl: float = 0.5

    @classmethod
    def of(cls, weights: Mapping[str, float]) -> LossWeights:
        """From the mapping of a YAML.

        Raises:
            ValueError: If it has another key than ``class``, ``iou`` and ``dfl``.
        """
        names = {"class" if f.name == "classes" else f.name: f.name for f in fields(cls)}
        unknown = sorted(set(weights) - set(names))
        if unknown:
            raise ValueError(f"expected the keys {', '.join(names)}, got {', '.join(unknown)}")
        return cls(**{names[key]: float(value) for key, value in weights.items()})


def ppyoloe_losses(
    predictions: PointPredictions,
    points: AnchorPoints,
    assigned: SoftTargets,
    *,
    weights: LossWeights,
    varifocal: bool,
    focal_alpha: float,
    training: bool,
) -> dict[str, Tensor]:
    """``loss_cls``, ``loss_iou`` and ``loss_dfl``, weighted.

    Each is a sum over anchors divided by the sum of all target scores of the batch (its mean over processes),
    at least 1.

    Args:
        predictions: Of the head.
        points: The anchors.
        assigned: What they should predict.
        weights: Factors.
        varifocal: Varifocal loss of the classes, else quality focal loss.
        focal_alpha: Weight of positives in the latter; negative for none.
        training: Whether all processes of a training take this step together.

    Returns:
        Float32 scalars, finite also without any object.
    """
    classes = predictions.class_logits.shape[-1]
    # Background is class K, which no column has: its row is all zeros.
    one_hot = (assigned.labels.unsqueeze(-1) == arange(classes)).astype("float32")
    scores = assigned.scores * (assigned.labels < classes).astype("float32")
    divisor = paddle.clip(mean_over_ranks(scores.sum(), training=training), min=1.0)

    class_targets = one_hot * scores.unsqueeze(-1)
    if varifocal:
        loss_class = varifocal_loss(predictions.class_logits, class_targets, one_hot)
    else:
        loss_class = quality_focal_loss(predictions.class_logits, class_targets, alpha=focal_alpha)

    boxes = assigned.boxes / points.strides
    giou = paired_iou(predictions.boxes, boxes, kind="giou")
    distances = paddle.concat([points.centres - boxes[..., :2], boxes[..., 2:] - points.centres], axis=-1)
    last = predictions.box_logits.shape[-1] - 1
    distances = paddle.clip(distances, 0.0, last - _BELOW_LAST)
    loss_distances = distribution_focal_loss(predictions.box_logits, distances).mean(axis=-1)
    return {
        "loss_cls": weights.classes * loss_class.sum() / divisor,
        "loss_iou": weights.iou * ((1 - giou) * scores).sum() / divisor,
        "loss_dfl": weights.dfl * (loss_distances * scores).sum() / divisor,
    }


def expected_distances(box_logits: Tensor, bins: Tensor) -> Tensor:
    """Means (Li et al. 2020, GFL, eq. 5) of distributions: logits ``[..., B]``, bins ``[B]`` to ``[...]``."""
    return (functional.softmax(box_logits, axis=-1) * bins).sum(axis=-1)


def boxes_around(centres: Tensor, distances: Tensor) -> Tensor:
    """Boxes ``[..., 4]`` xyxy of points ``[..., 2]`` and distances ``[..., 4]`` left, top, right, bottom."""
    return paddle.concat([centres - distances[..., :2], centres + distances[..., 2:]], axis=-1)
