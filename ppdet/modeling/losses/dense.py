"""Losses of anchor-based heads, named as in 2.x. They sum; the caller divides."""

from __future__ import annotations

from paddle import Tensor

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import Fraction, NonNegative
from ppdet.ops.losses import sigmoid_focal_loss, smooth_l1


class FocalLoss:
    """Sigmoid focal loss (Lin et al. 2017, "Focal Loss for Dense Object Detection", equation 5).

    Args:
        alpha: Weight of positives; negatives have 1 - alpha.
        gamma: Exponent that reduces the loss of well-classified elements.
        loss_weight: Factor.
    """

    def __init__(
        self, *, alpha: Fraction = 0.25, gamma: NonNegative = 2.0, loss_weight: NonNegative = 1.0
    ) -> None:
        self.alpha = alpha
        self.gamma = gamma
        self.loss_weight = loss_weight

    def __call__(self, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """Sum over all elements.

        Args:
            logits: ``[..., K]`` float32.
            targets: ``[..., K]`` float32 0 or 1.
            weights: ``[...]`` float32, 0 to leave an element out.

        Returns:
            Scalar.
        """
        loss = sigmoid_focal_loss(logits, targets, alpha=self.alpha, gamma=self.gamma)
        return self.loss_weight * (loss.sum(axis=-1) * weights).sum()


class SmoothL1Loss:
    """Smooth L1 (Girshick 2015, "Fast R-CNN", equation 3).

    Args:
        beta: Where the parabola meets the line, >= 0; 0 is plain L1.
        loss_weight: Factor.
    """

    def __init__(self, *, beta: NonNegative = 1.0, loss_weight: NonNegative = 1.0) -> None:
        if beta < 0:
            raise ArgumentError("beta", f"expected >= 0, got {beta}")
        self.beta = beta
        self.loss_weight = loss_weight

    def __call__(self, prediction: Tensor, target: Tensor, weights: Tensor) -> Tensor:
        """Sum over all elements of ``[..., 4]`` deltas, rows weighted by ``[...]`` weights."""
        loss = smooth_l1(prediction, target, beta=self.beta)
        return self.loss_weight * (loss.sum(axis=-1) * weights).sum()
