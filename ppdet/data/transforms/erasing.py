"""Random erasing (Zhong et al., "Random Erasing Data Augmentation", arXiv:1708.04896)."""

from __future__ import annotations

import math
from typing import NamedTuple, Optional

import numpy as np

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import Fraction, Positive
from ppdet.data.transforms.base import Transform, pixels_hwc
from ppdet.structures import Sample

#: Rectangles drawn per object until one fits into its box.
_ATTEMPTS = 100


class ErasingParams(NamedTuple):
    """What is erased: rectangles (x1, y1, x2, y2) in pixels, and the seed of what is there instead."""

    rectangles: tuple[tuple[int, int, int, int], ...]
    seed: int


class RandomErasingImage(Transform[ErasingParams]):
    """Fills a rectangle inside of an object's box with noise; boxes and masks stay.

    Section 3.3 of the paper, "object-aware". The object is covered there. Crowd regions are left alone.

    Args:
        prob: Probability of it, for each object.
        lower: Smallest area of the rectangle, as a share of the box.
        higher: Largest area, as a share of the box.
        aspect_ratio: Smallest height / width of the rectangle; the largest is its inverse.
    """

    def __init__(
        self,
        *,
        prob: Fraction = 0.5,
        lower: Fraction = 0.02,
        higher: Fraction = 0.4,
        aspect_ratio: Positive = 0.3,
    ) -> None:
        if lower > higher:
            raise ArgumentError("lower", f"expected at most higher, {higher}, got {lower}")
        if aspect_ratio > 1:
            raise ArgumentError("aspect_ratio", f"expected at most 1, got {aspect_ratio}")
        self.prob = prob
        self.areas = (lower, higher)
        self.aspect_ratio = aspect_ratio

    def draw(self, sample: Sample, rng: np.random.Generator) -> ErasingParams:
        """Draw a rectangle for some of the objects."""
        rectangles = []
        if sample.target is not None:
            height, width = pixels_hwc(sample).shape[:2]
            boxes = np.clip(sample.target.boxes, 0, [width, height, width, height])
            for box, crowd in zip(boxes.tolist(), sample.target.is_crowd):
                if rng.random() < self.prob and not crowd:
                    rectangle = self._draw_one(box, rng)
                    if rectangle is not None:
                        rectangles.append(rectangle)
        return ErasingParams(tuple(rectangles), int(rng.integers(2**32)))

    def _draw_one(self, box: list[float], rng: np.random.Generator) -> Optional[tuple[int, int, int, int]]:
        """A rectangle of whole pixels inside of a box; None if none fits."""
        x1, y1, x2, y2 = math.ceil(box[0]), math.ceil(box[1]), math.floor(box[2]), math.floor(box[3])
        whole = (box[2] - box[0]) * (box[3] - box[1])
        for _ in range(_ATTEMPTS):
            area = whole * rng.uniform(*self.areas)
            # Both ways of looking at a shape are equally likely.
            aspect = math.exp(rng.uniform(math.log(self.aspect_ratio), -math.log(self.aspect_ratio)))
            height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < height <= y2 - y1 and 0 < width <= x2 - x1:
                x, y = int(rng.integers(x1, x2 - width + 1)), int(rng.integers(y1, y2 - height + 1))
                return x, y, x + width, y + height
        return None

    def apply(self, sample: Sample, params: ErasingParams) -> Sample:
        """Erase."""
        if not params.rectangles:
            return sample
        image = pixels_hwc(sample).copy()
        noise = np.random.default_rng(params.seed)
        for x1, y1, x2, y2 in params.rectangles:
            image[y1:y2, x1:x2] = noise.integers(0, 256, (y2 - y1, x2 - x1, 3))
        return sample.replace(image=image)
