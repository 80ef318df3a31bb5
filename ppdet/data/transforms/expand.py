"""Puts an image on a larger canvas ("zoom out", Liu et al., "SSD", arXiv:1512.02325, section 3.6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import AboveOne, Colour, Fraction
from ppdet.data.geometry import paste_target
from ppdet.data.transforms.base import Transform, filled, pixels_hwc
from ppdet.structures import Sample


class ExpandParams(NamedTuple):
    """Canvas (height, width), and where the image's corner goes (y, x), in pixels."""

    size: tuple[int, int]
    offset: tuple[int, int]


class RandomExpand(Transform[Optional[ExpandParams]]):
    """Puts the image at a drawn place of a canvas up to `ratio` times as large each way.

    Args:
        ratio: Largest factor, > 1.
        prob: Probability of NOT doing it, as in 2.x.
        fill_value: R, G, B of the canvas, 0..255.
    """

    def __init__(
        self,
        *,
        ratio: AboveOne = 4.0,
        prob: Fraction = 0.5,
        fill_value: Sequence[Colour] = (127.5, 127.5, 127.5),
    ) -> None:
        if ratio <= 1:
            raise ArgumentError("ratio", f"expected > 1, got {ratio}")
        if not 0 <= prob <= 1:
            raise ArgumentError("prob", f"expected 0..1, got {prob}")
        if len(fill_value) != 3:
            raise ArgumentError("fill_value", f"expected a colour (R, G, B), got {list(fill_value)}")
        self.ratio = ratio
        self.prob = prob
        self.fill_value = fill_value

    def draw(self, sample: Sample, rng: np.random.Generator) -> Optional[ExpandParams]:
        """Draw canvas and place; None to leave the image as it is."""
        if rng.random() < self.prob:
            return None
        height, width = pixels_hwc(sample).shape[:2]
        factor = rng.uniform(1.0, self.ratio)
        size = (int(height * factor), int(width * factor))
        if size[0] <= height or size[1] <= width:
            return None
        return ExpandParams(size, (int(rng.integers(size[0] - height)), int(rng.integers(size[1] - width))))

    def apply(self, sample: Sample, params: Optional[ExpandParams]) -> Sample:
        """Paste the image; the result is float32."""
        if params is None:
            return sample
        image = pixels_hwc(sample)
        (height, width), (y, x) = params.size, params.offset
        canvas = filled((height, width), self.fill_value, np.float32)
        canvas[y : y + image.shape[0], x : x + image.shape[1]] = image
        target = sample.target
        return sample.replace(
            image=canvas,
            image_size=(float(height), float(width)),
            target=None if target is None else paste_target(target, params.offset, params.size),
        )
