"""Rotation, scaling, shear and translation in one step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import AnyFloat, Colour, Fraction, Positive
from ppdet.data.geometry import warp_pixels, warp_target
from ppdet.data.transforms.base import Transform, pixels_hwc
from ppdet.data.transforms.resize import Size, as_size
from ppdet.structures import Sample

#: A shear of a right angle has no end.
_MOST_SHEAR = 89.0


class AffineParams(NamedTuple):
    """How a point moves, and what size the result has.

    Attributes:
        matrix: ``[2, 3]`` float64; a point (x, y, 1) in pixels becomes ``matrix @ point``.
        size: (height, width) of the result.
    """

    matrix: np.ndarray
    size: tuple[int, int]


class AffineRanges:
    """Ranges from which an affine map is drawn, each [low, high].

    Args:
        degrees: Angle of the rotation, counter-clockwise.
        translate: Shift as a share of the result's width and height.
        scale: Factor on both sides.
        shear: Angles of the shear along x and along y, in degrees.
    """

    def __init__(
        self,
        *,
        degrees: Sequence[float],
        translate: Sequence[float],
        scale: Sequence[float],
        shear: Sequence[float],
    ) -> None:
        ranges = {"degrees": degrees, "translate": translate, "scale": scale, "shear": shear}
        for name, pair in ranges.items():
            if len(pair) != 2 or pair[0] > pair[1]:
                raise ArgumentError(name, f"expected [low, high], got {list(pair)}")
        if max(abs(angle) for angle in shear) > _MOST_SHEAR:
            raise ArgumentError("shear", f"expected angles from -{_MOST_SHEAR:g} to {_MOST_SHEAR:g}")
        self._ranges = ranges

    def draw(self, size: tuple[int, int], result: tuple[int, int], rng: np.random.Generator) -> AffineParams:
        """Draw a map that takes the centre of an image to the centre of the result, and then shifts it.

        Args:
            size: (height, width) of the image.
            result: (height, width) of the result.
            rng: Random numbers.
        """
        angle = math.radians(self._one("degrees", rng))
        scale = self._one("scale", rng)
        along_x, along_y = (math.tan(math.radians(self._one("shear", rng))) for _ in range(2))
        shift = [self._one("translate", rng) * side for side in (result[1], result[0])]
        cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
        # y points down, so this turns counter-clockwise.
        turned = np.array([[cosine, sine], [-sine, cosine]])
        linear = np.array([[1.0, along_x], [along_y, 1.0]]) @ turned
        old = np.array([size[1], size[0]]) / 2
        new = np.array([result[1], result[0]]) / 2 + shift
        return AffineParams(np.hstack([linear, (new - linear @ old)[:, None]]), result)

    def _one(self, name: str, rng: np.random.Generator) -> float:
        low, high = self._ranges[name]
        return float(rng.uniform(low, high))


def warp(sample: Sample, params: AffineParams, *, min_visible: float, fill_value: Sequence[float]) -> Sample:
    """Map image, boxes and masks.

    Args:
        sample: A decoded sample.
        params: The map.
        min_visible: Objects of which a smaller share of the box stays in the image go.
        fill_value: R, G, B where there is no image.
    """
    image, target = pixels_hwc(sample), sample.target
    height, width = params.size
    return sample.replace(
        image=warp_pixels(image, params.matrix, params.size, fill=fill_value),
        image_size=(float(height), float(width)),
        target=None if target is None else warp_target(target, params.matrix, params.size).kept(min_visible),
    )


class RandomAffine(Transform[Optional[AffineParams]]):
    """Rotates, scales, shears and shifts about the centre of the image.

    Each range is [low, high]. A turned box becomes the box around its mask, or around its corners where the
    dataset has no masks; the latter is larger than the object.

    Args:
        degrees: Angle of the rotation, counter-clockwise.
        translate: Shift as a share of width and height.
        scale: Factor on both sides.
        shear: Angles of the shear along x and along y, in degrees.
        target_size: (height, width) of the result, or one number for both; None keeps that of the image.
        min_visible: Objects of which a smaller share of the box stays in the image go.
        fill_value: R, G, B where there is no image, 0..255.
        prob: Probability of doing it.
    """

    def __init__(
        self,
        *,
        degrees: Sequence[AnyFloat] = (-10.0, 10.0),
        translate: Sequence[AnyFloat] = (-0.1, 0.1),
        scale: Sequence[Positive] = (0.5, 1.5),
        shear: Sequence[AnyFloat] = (-2.0, 2.0),
        target_size: Optional[Size] = None,
        min_visible: Fraction = 0.1,
        fill_value: Sequence[Colour] = (114, 114, 114),
        prob: Fraction = 1.0,
    ) -> None:
        if len(fill_value) != 3:
            raise ArgumentError("fill_value", f"expected a colour (R, G, B), got {list(fill_value)}")
        self.ranges = AffineRanges(degrees=degrees, translate=translate, scale=scale, shear=shear)
        self.target_size = None if target_size is None else as_size(target_size)
        self.min_visible = min_visible
        self.fill_value = fill_value
        self.prob = prob

    def draw(self, sample: Sample, rng: np.random.Generator) -> Optional[AffineParams]:
        """Draw the map; None to leave the image as it is."""
        if rng.random() >= self.prob:
            return None
        height, width = pixels_hwc(sample).shape[:2]
        return self.ranges.draw((height, width), self.target_size or (height, width), rng)

    def apply(self, sample: Sample, params: Optional[AffineParams]) -> Sample:
        """Map image, boxes and masks."""
        if params is None:
            return sample
        return warp(sample, params, min_visible=self.min_visible, fill_value=self.fill_value)
