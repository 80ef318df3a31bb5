"""Losses, element by element. The caller weights and reduces them, with the denominator of its paper.

No function here divides by a number of elements, so none can divide by zero when an image, a batch or a rank
has no positive.
"""

from __future__ import annotations

import paddle
from paddle import Tensor
from paddle.nn import functional

from ppdet.ops.boxes import paired_iou


def smooth_l1(prediction: Tensor, target: Tensor, *, beta: float = 1.0) -> Tensor:
    """Huber-like loss of differences (Girshick 2015, Fast R-CNN, eq. 3, generalised by `beta`).

    0.5 * d**2 / beta where d = abs(prediction - target) < beta, d - 0.5 * beta elsewhere.

    Args:
        prediction: ``[...]`` float.
        target: ``[...]`` float, broadcastable.
        beta: Where the parabola meets the line, >= 0; 0 is plain L1.

    Returns:
        ``[...]`` >= 0.
    """
    distance = paddle.abs(prediction - target)
    if beta == 0:
        return distance
    return paddle.where(distance < beta, 0.5 * distance**2 / beta, distance - 0.5 * beta)


def sigmoid_focal_loss(logits: Tensor, targets: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Binary cross entropy that is reduced for well-classified elements (Lin et al. 2017, RetinaNet, eq. 5).

    Args:
        logits: ``[...]`` float, before the sigmoid.
        targets: ``[...]`` float 0 or 1.
        alpha: Weight of positives; negatives have 1 - alpha. Below 0: no weighting.
        gamma: Exponent of (1 - probability of the target).

    Returns:
        ``[...]`` >= 0; finite for any finite logit.
    """
    probability = functional.sigmoid(logits)
    entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    missing = probability + targets - 2 * probability * targets
    loss = entropy * missing**gamma
    if alpha < 0:
        return loss
    return loss * (alpha * targets + (1 - alpha) * (1 - targets))


def cross_entropy(logits: Tensor, labels: Tensor, *, ignore_label: int = -1) -> Tensor:
    """Softmax cross entropy of each row.

    Args:
        logits: ``[R, K]`` float.
        labels: ``[R]`` int64 in 0..K-1, or `ignore_label`.
        ignore_label: Rows with this label give 0 and no gradient.

    Returns:
        ``[R]`` >= 0.
    """
    return functional.cross_entropy(logits, labels, ignore_index=ignore_label, reduction="none")


def binary_cross_entropy(logits: Tensor, targets: Tensor, *, ignore_label: float = -1.0) -> Tensor:
    """Sigmoid cross entropy of each element.

    Args:
        logits: ``[...]`` float.
        targets: ``[...]`` float in 0..1, or `ignore_label`.
        ignore_label: Elements with this target give 0 and no gradient.

    Returns:
        ``[...]`` >= 0.
    """
    counted = (targets != ignore_label).astype(logits.dtype)
    return functional.binary_cross_entropy_with_logits(logits, targets, weight=counted, reduction="none")


def iou_loss(prediction: Tensor, target: Tensor, *, kind: str = "iou", squared: bool = False) -> Tensor:
    """One minus a similarity of paired boxes.

    Args:
        prediction: ``[..., 4]`` float xyxy.
        target: ``[..., 4]`` float xyxy.
        kind: ``iou``, ``giou``, ``diou`` or ``ciou``, as in `ppdet.ops.boxes.paired_iou`.
        squared: 1 - similarity**2 instead of 1 - similarity; only makes sense for ``iou``, which is never
            negative.

    Returns:
        ``[...]`` >= 0.

    Raises:
        ValueError: If `kind` is unknown, or `squared` is true for a similarity that can be negative.
    """
    if squared and kind != "iou":
        raise ValueError(f"the squared loss is defined for iou, not for {kind}")
    similarity = paired_iou(prediction, target, kind=kind)
    return 1 - similarity**2 if squared else 1 - similarity


def varifocal_loss(
    logits: Tensor, targets: Tensor, positive: Tensor, *, alpha: float = 0.75, gamma: float = 2.0
) -> Tensor:
    """Cross entropy with the quality of a box as its target (Zhang et al. 2020, VarifocalNet, eq. 2).

    Positives weigh as much as their target, so that good boxes count most; negatives weigh less the
    better they are classified. The gradient also flows through the weights: published PP-YOLOE and RT-DETR
    weights were trained like this.

    Args:
        logits: ``[...]`` float, before the sigmoid.
        targets: ``[...]`` float in 0..1, the IoU of a positive with its object.
        positive: ``[...]`` float 0 or 1.
        alpha: Weight of negatives.
        gamma: Exponent of a negative's probability.

    Returns:
        ``[...]`` >= 0.
    """
    weights = alpha * functional.sigmoid(logits) ** gamma * (1 - positive) + targets * positive
    return weights * functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")


def quality_focal_loss(logits: Tensor, targets: Tensor, *, alpha: float = -1.0, gamma: float = 2.0) -> Tensor:
    """Cross entropy with a soft target, reduced for well-classified elements (Li et al. 2020, GFL, eq. 3).

    Args:
        logits: ``[...]`` float, before the sigmoid.
        targets: ``[...]`` float in 0..1.
        alpha: Weight of a target of 1, that of a target of 0 being 1 - alpha; below 0: no weighting.
        gamma: Exponent of abs(probability - target).

    Returns:
        ``[...]`` >= 0.
    """
    distance = functional.sigmoid(logits) - targets
    loss = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    loss = loss * paddle.abs(distance) ** gamma
    return loss if alpha < 0 else loss * (alpha * targets + (1 - alpha) * (1 - targets))


def distribution_focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of a distribution over whole numbers with a number between two of them (GFL, eq. 6).

    Args:
        logits: ``[..., B]`` float, of the values 0..B-1.
        targets: ``[...]`` float in 0..B-1.

    Returns:
        ``[...]`` >= 0. The two neighbours of a target share its weight linearly.
    """
    bins = paddle.arange(logits.shape[-1], dtype=logits.dtype)
    share = functional.relu(1 - paddle.abs(bins - targets.unsqueeze(-1)))
    return -(share * functional.log_softmax(logits, axis=-1)).sum(axis=-1)
