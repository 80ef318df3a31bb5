"""Blends two images (Zhang et al., "Bag of Freebies", arXiv:1902.04103, section 3.1)."""

from __future__ import annotations

import numpy as np

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import Positive
from ppdet.data.geometry import join_targets
from ppdet.data.transforms.base import Transform, pixels_hwc
from ppdet.structures import Sample, Target


class Mixup(Transform[float]):
    """Blends an image with its partner; objects of both stay, weighted by the share of their image.

    A `TrainReader` supplies partners, as long as its `mixup_epoch` or the key `epochs` here says. An image
    without partner stays as it is.

    Args:
        alpha: First parameter of the Beta distribution of the share, > 0.
        beta: Second parameter, > 0.
    """

    needs_partners = 1

    def __init__(self, *, alpha: Positive = 1.5, beta: Positive = 1.5) -> None:
        for name, value in (("alpha", alpha), ("beta", beta)):
            if value <= 0:
                raise ArgumentError(name, f"expected > 0, got {value}")
        self.alpha = alpha
        self.beta = beta

    def draw(self, sample: Sample, rng: np.random.Generator) -> float:
        """Draw the share of the first image, 0..1."""
        return 1.0 if not sample.partners else float(rng.beta(self.alpha, self.beta))

    def apply(self, sample: Sample, params: float) -> Sample:
        """Blend both images, corner on corner, on a canvas that holds both."""
        if not sample.partners:
            return sample
        partner, *others = sample.partners
        if params >= 1:
            return sample.replace(partners=tuple(others))
        if params <= 0:
            return partner.replace(partners=tuple(others))
        first, second = pixels_hwc(sample), pixels_hwc(partner)
        height, width = np.maximum(first.shape[:2], second.shape[:2]).tolist()
        canvas = np.zeros((height, width, 3), np.float32)
        np.multiply(first, np.float32(params), out=canvas[: first.shape[0], : first.shape[1]])
        canvas[: second.shape[0], : second.shape[1]] += np.multiply(second, np.float32(1 - params))
        target = None
        if sample.target is not None and partner.target is not None:
            target = join_targets([weighted(sample.target, params), weighted(partner.target, 1 - params)])
        return sample.replace(
            image=canvas.astype(np.uint8),
            image_size=(float(height), float(width)),
            target=target,
            partners=tuple(others),
        )


def weighted(target: Target, share: float) -> Target:
    """The same objects, each with so much of its weight."""
    own = np.ones(len(target), np.float32) if target.weights is None else target.weights
    return target.replace(weights=own * np.float32(share))
