"""Crops that keep objects ("zoom in", Liu et al., "SSD", arXiv:1512.02325, section 2.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import Fraction, Positive, PositiveInt
from ppdet.data.geometry import crop_target
from ppdet.data.transforms.base import Transform, pixels_hwc
from ppdet.structures import Sample


class CropParams(NamedTuple):
    """The part that stays, in pixels."""

    x: int
    y: int
    width: int
    height: int


class RandomCrop(Transform[Optional[CropParams]]):
    """Crops so that some object overlaps the crop by a drawn threshold; objects whose centre is cut off go.

    Boxes and masks of the others are cut at the border. Images without objects stay as they are.

    Args:
        aspect_ratio: Smallest and largest width / height of the crop relative to the image's own.
        thresholds: IoU of crop and best object; one is drawn, another one if no crop reaches it.
        scaling: Smallest and largest side of the crop as a share of the image's, before the aspect ratio.
        num_attempts: Crops drawn per threshold.
        allow_no_crop: Let "no crop" be one more threshold.
        cover_all_box: Ask for the overlap with every object, not only the best.
        prob: Probability of cropping at all.
    """

    def __init__(
        self,
        *,
        aspect_ratio: Sequence[Positive] = (0.5, 2.0),
        thresholds: Sequence[Fraction] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9),
        scaling: Sequence[Fraction] = (0.3, 1.0),
        num_attempts: PositiveInt = 50,
        allow_no_crop: bool = True,
        cover_all_box: bool = False,
        prob: Fraction = 1.0,
    ) -> None:
        for name, pair in (("aspect_ratio", aspect_ratio), ("scaling", scaling)):
            if len(pair) != 2 or not 0 < pair[0] <= pair[1]:
                raise ArgumentError(name, f"expected [smallest, largest], both > 0, got {pair}")
        if not 0 <= prob <= 1:
            raise ArgumentError("prob", f"expected 0..1, got {prob}")
        self.prob = prob
        self.aspect_ratio = aspect_ratio
        self.thresholds: list[Optional[float]] = list(thresholds)
        if allow_no_crop:
            self.thresholds.append(None)
        self.scaling = scaling
        self.num_attempts = num_attempts
        self.cover_all_box = cover_all_box

    def draw(self, sample: Sample, rng: np.random.Generator) -> Optional[CropParams]:
        """Draw a crop; None to leave the image as it is."""
        if sample.target is None or len(sample.target) == 0:
            return None
        if self.prob < 1 and rng.random() >= self.prob:
            return None
        size = pixels_hwc(sample).shape[:2]
        boxes = sample.target.boxes
        for index in rng.permutation(len(self.thresholds)):
            threshold = self.thresholds[index]
            if threshold is None:
                return None
            for _ in range(self.num_attempts):
                crop = self._draw_one((size[0], size[1]), rng)
                overlap = iou_with_crop(boxes, crop)
                reached = overlap.min() if self.cover_all_box else overlap.max()
                if reached >= threshold and centres_inside(boxes, crop).any():
                    return crop
        return None

    def _draw_one(self, size: tuple[int, int], rng: np.random.Generator) -> CropParams:
        scale = rng.uniform(self.scaling[0], self.scaling[1])
        low, high = max(self.aspect_ratio[0], scale**2), min(self.aspect_ratio[1], scale**-2)
        aspect = math.sqrt(rng.uniform(low, high)) if low <= high else 1.0
        height = min(max(int(size[0] * scale / aspect), 1), size[0])
        width = min(max(int(size[1] * scale * aspect), 1), size[1])
        y = int(rng.integers(size[0] - height + 1))
        x = int(rng.integers(size[1] - width + 1))
        return CropParams(x, y, width, height)

    def apply(self, sample: Sample, params: Optional[CropParams]) -> Sample:
        """Cut image, boxes and masks; drop objects whose centre is outside."""
        return sample if params is None else crop(sample, params)


def crop(sample: Sample, part: CropParams) -> Sample:
    """The part of an image, with the objects whose centre is in it."""
    x, y, width, height = part
    target = sample.target
    if target is not None:
        target = crop_target(target.select(centres_inside(target.boxes, part)), (y, x), (height, width))
    return sample.replace(
        image=np.ascontiguousarray(pixels_hwc(sample)[y : y + height, x : x + width]),
        image_size=(float(height), float(width)),
        target=target,
    )


def _corners(crop: CropParams) -> np.ndarray:
    return np.array([crop.x, crop.y, crop.x + crop.width, crop.y + crop.height], np.float32)


def iou_with_crop(boxes: np.ndarray, crop: CropParams) -> np.ndarray:
    """IoU of boxes ``[G, 4]`` xyxy with the crop, ``[G]``."""
    corners = _corners(crop)
    sides = np.minimum(boxes[:, 2:], corners[2:]) - np.maximum(boxes[:, :2], corners[:2])
    common = np.maximum(sides, 0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    result: np.ndarray = common / (areas + crop.width * crop.height - common)
    return result


def centres_inside(boxes: np.ndarray, crop: CropParams) -> np.ndarray:
    """Whether the centre of each box ``[G, 4]`` xyxy is inside of the crop, ``[G]`` bool."""
    corners = _corners(crop)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside: np.ndarray = ((centres > corners[:2]) & (centres < corners[2:])).all(axis=1)
    return inside
