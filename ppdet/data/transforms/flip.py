"""Mirroring."""

from __future__ import annotations

import numpy as np

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import Fraction
from ppdet.data.geometry import flip_target
from ppdet.data.transforms.base import Transform, pixels_hwc
from ppdet.structures import Sample


class RandomFlip(Transform[bool]):
    """Mirrors left and right.

    Args:
        prob: Probability of mirroring, 0..1.
    """

    def __init__(self, *, prob: Fraction = 0.5) -> None:
        if not 0 <= prob <= 1:
            raise ArgumentError("prob", f"expected 0..1, got {prob}")
        self.prob = prob

    def draw(self, sample: Sample, rng: np.random.Generator) -> bool:
        """Whether to mirror."""
        del sample
        return bool(rng.random() < self.prob)

    def apply(self, sample: Sample, params: bool) -> Sample:
        """Mirror image, boxes and masks if `params`."""
        if not params:
            return sample
        import cv2

        image = pixels_hwc(sample)
        target = sample.target
        return sample.replace(
            image=cv2.flip(image, 1),
            target=None if target is None else flip_target(target, image.shape[1]),
        )
