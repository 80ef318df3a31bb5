"""Blends two images (Zhang et al., "Bag of Freebies", arXiv:1902.04103, section 3.1)."""

from __future__ import annotations

import numpy as np

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import Positive
from ppdet.data.transforms.base import Transform, pixels_hwc
from ppdet.structures import Sample, Target


class Mixup(Transform[float]):
    """Blends an image with its partner; objects of both stay, weighted by the share of their image.

    Readers supply partners in the first `mixup_epoch` epochs. An image without partner stays as it is.

    Args:
        alpha: First parameter of the Beta distribution of the share, > 0.
        beta: Second parameter, > 0.
    """

    def __init__(self, *, alpha: Positive = 1.5, beta: Positive = 1.5) -> None:
        for name, value in (("alpha", alpha), ("beta", beta)):
            if value <= 0:
                raise ArgumentError(name, f"expected > 0, got {value}")
        self.alpha = alpha
        self.beta = beta

    def draw(self, sample: Sample, rng: np.random.Generator) -> float:
        """Draw the share of the first image, 0..1."""
        return 1.0 if sample.mixup_with is None else float(rng.beta(self.alpha, self.beta))

    def apply(self, sample: Sample, params: float) -> Sample:
        """Blend both images, corner on corner, on a canvas that holds both."""
        partner = sample.mixup_with
        if partner is None or params >= 1:
            return sample.replace(mixup_with=None)
        if params <= 0:
            return partner
        first, second = pixels_hwc(sample), pixels_hwc(partner)
        height, width = np.maximum(first.shape[:2], second.shape[:2]).tolist()
        canvas = np.zeros((height, width, 3), np.float32)
        np.multiply(first, np.float32(params), out=canvas[: first.shape[0], : first.shape[1]])
        canvas[: second.shape[0], : second.shape[1]] += np.multiply(second, np.float32(1 - params))
        target = None
        if sample.target is not None and partner.target is not None:
            target = _join(sample.target, partner.target, params)
        return sample.replace(
            image=canvas.astype(np.uint8),
            image_size=(float(height), float(width)),
            target=target,
            mixup_with=None,
        )


def _join(first: Target, second: Target, share: float) -> Target:
    def weights(target: Target, factor: float) -> np.ndarray:
        own = np.ones(len(target), np.float32) if target.weights is None else target.weights
        return own * np.float32(factor)

    masks = None
    if first.masks is not None and second.masks is not None:
        masks = first.masks + second.masks
    difficult = None
    if first.difficult is not None and second.difficult is not None:
        difficult = np.concatenate([first.difficult, second.difficult])
    return Target(
        boxes=np.concatenate([first.boxes, second.boxes]),
        labels=np.concatenate([first.labels, second.labels]),
        is_crowd=np.concatenate([first.is_crowd, second.is_crowd]),
        difficult=difficult,
        masks=masks,
        weights=np.concatenate([weights(first, share), weights(second, 1 - share)]),
    )
