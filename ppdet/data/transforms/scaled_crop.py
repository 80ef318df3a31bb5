"""Resizing by a drawn factor and cutting from the result: large-scale jitter, and the crops of DETR.

Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation",
arXiv:2012.07177, section 3; Carion et al., "End-to-End Object Detection with Transformers", arXiv:2005.12872,
appendix A.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Optional

import numpy as np

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import Colour, Fraction, Interpolation, Positive, PositiveInt
from ppdet.data.geometry import crop_visible, paste_target
from ppdet.data.transforms.base import Transform, filled, pixels_hwc
from ppdet.data.transforms.crop import CropParams, centres_inside, crop, iou_with_crop
from ppdet.data.transforms.resize import ResizeParams, Size, as_size, check_interp, resize
from ppdet.structures import Sample


class ScaledCropParams(NamedTuple):
    """Size (height, width) that the image gets, and the part of it (y, x) that is cut out."""

    resized: tuple[int, int]
    offset: tuple[int, int]


class RandomScaledCrop(Transform[ScaledCropParams]):
    """Large-scale jitter: scales by a drawn factor, then cuts or pads to one size.

    The image is at the top left, where it is smaller than the result.

    Args:
        target_dim: (height, width) of the result in pixels, or one number for both.
        scale_range: Smallest and largest size of the image, as a share of the largest one that fits into the
            result.
        interp: OpenCV interpolation: 0 nearest, 1 linear, 2 cubic, 3 area, 4 Lanczos.
        min_visible: Objects of which a smaller share of the box stays in the image go.
        fill_value: R, G, B of the padding, 0..255.
    """

    def __init__(
        self,
        *,
        target_dim: Size = 512,
        scale_range: Sequence[Positive] = (0.1, 2.0),
        interp: Interpolation = 1,
        min_visible: Fraction = 0.0,
        fill_value: Sequence[Colour] = (127.5, 127.5, 127.5),
    ) -> None:
        if len(scale_range) != 2 or not 0 < scale_range[0] <= scale_range[1]:
            raise ArgumentError(
                "scale_range", f"expected [smallest, largest], both > 0, got {list(scale_range)}"
            )
        if len(fill_value) != 3:
            raise ArgumentError("fill_value", f"expected a colour (R, G, B), got {list(fill_value)}")
        self.size = as_size(target_dim, "target_dim")
        self.scale_range = scale_range
        self.interp = check_interp(interp)
        self.min_visible = min_visible
        self.fill_value = fill_value

    def draw(self, sample: Sample, rng: np.random.Generator) -> ScaledCropParams:
        """Draw the factor and the place."""
        old = pixels_hwc(sample).shape[:2]
        fits = min(new / side for new, side in zip(self.size, old))
        scale = fits * rng.uniform(self.scale_range[0], self.scale_range[1])
        resized = [max(1, round(side * scale)) for side in old]
        y, x = (int(rng.integers(max(side - new, 0) + 1)) for side, new in zip(resized, self.size))
        return ScaledCropParams((resized[0], resized[1]), (y, x))

    def apply(self, sample: Sample, params: ScaledCropParams) -> Sample:
        """Resize, cut and pad image, boxes and masks; the padding counts as image."""
        resized = resize(sample, ResizeParams(params.resized, False, self.interp))
        (y, x), (height, width) = params.offset, self.size
        image = pixels_hwc(resized)[y : y + height, x : x + width]
        canvas = filled(self.size, self.fill_value, image.dtype)
        rows, columns = image.shape[0], image.shape[1]
        canvas[:rows, :columns] = image
        target = resized.target
        if target is not None:
            target = crop_visible(target, params.offset, (rows, columns)).kept(self.min_visible)
            target = paste_target(target, (0, 0), self.size)
        return resized.replace(image=canvas, image_size=(float(height), float(width)), target=target)


class ResizeCropParams(NamedTuple):
    """The resize, and the part of its result that stays; None for all of it."""

    resized: tuple[int, int]
    part: Optional[CropParams]


class RandomResizeCrop(Transform[Optional[ResizeCropParams]]):
    """Resizes to a drawn size, then cuts out a part of a drawn size; objects whose centre is cut off go.

    Args:
        resizes: Sizes to draw from, each one number or (height, width).
        cropsizes: Ranges [smallest, largest] of the sides of the part, in pixels; one of them is drawn.
        prob: Probability of doing it.
        mode: With `keep_ratio`, whether the ``short`` side becomes the smaller number of the size, or the
            ``long`` side the larger one.
        keep_ratio: Scale both sides by the same factor.
        interp: OpenCV interpolation: 0 nearest, 1 linear, 2 cubic, 3 area, 4 Lanczos.
        thresholds: IoU of the part and the best object; one is drawn, another one if no part reaches it.
        num_attempts: Parts drawn per threshold.
        cover_all_box: Ask for the overlap with every object, not only the best.
        allow_no_crop: Let "no crop" be one more threshold.
    """

    def __init__(
        self,
        *,
        resizes: Sequence[Size],
        cropsizes: Sequence[Sequence[PositiveInt]],
        prob: Fraction = 0.5,
        mode: Literal["short", "long"] = "short",
        keep_ratio: bool = True,
        interp: Interpolation = 1,
        thresholds: Sequence[Fraction] = (0.3, 0.5, 0.7),
        num_attempts: PositiveInt = 3,
        cover_all_box: bool = False,
        allow_no_crop: bool = False,
    ) -> None:
        if not resizes:
            raise ArgumentError("resizes", "expected a list of sizes to draw from, got none")
        if not cropsizes or any(len(pair) != 2 or pair[0] > pair[1] for pair in cropsizes):
            raise ArgumentError("cropsizes", f"expected a list of [smallest, largest], got {list(cropsizes)}")
        self.sizes = [as_size(size, "resizes") for size in resizes]
        self.cropsizes = cropsizes
        self.prob = prob
        self.mode = mode
        self.keep_ratio = keep_ratio
        self.interp = check_interp(interp)
        self.thresholds: list[Optional[float]] = [*thresholds, *([None] if allow_no_crop else [])]
        self.num_attempts = num_attempts
        self.cover_all_box = cover_all_box

    def draw(self, sample: Sample, rng: np.random.Generator) -> Optional[ResizeCropParams]:
        """Draw size and part; None to leave the image as it is."""
        if rng.random() >= self.prob:
            return None
        height, width = pixels_hwc(sample).shape[:2]
        size = self._resized((height, width), self.sizes[int(rng.integers(len(self.sizes)))])
        target = sample.target
        if target is None or len(target) == 0:
            return ResizeCropParams(size, self._draw_one(size, rng))
        scale = np.array([size[1] / width, size[0] / height] * 2)
        return ResizeCropParams(size, self._draw_around(target.boxes * scale, size, rng))

    def _resized(self, size: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
        if not self.keep_ratio:
            return wanted
        short = self.mode == "short"
        scale = min(wanted) / min(size) if short else max(wanted) / max(size)
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))

    def _draw_around(
        self, boxes: np.ndarray, size: tuple[int, int], rng: np.random.Generator
    ) -> Optional[CropParams]:
        for index in rng.permutation(len(self.thresholds)):
            threshold = self.thresholds[index]
            if threshold is None:
                return None
            for _ in range(self.num_attempts):
                part = self._draw_one(size, rng)
                overlap = iou_with_crop(boxes, part)
                reached = overlap.min() if self.cover_all_box else overlap.max()
                if reached >= threshold and centres_inside(boxes, part).any():
                    return part
        return None

    def _draw_one(self, size: tuple[int, int], rng: np.random.Generator) -> CropParams:
        low, high = self.cropsizes[int(rng.integers(len(self.cropsizes)))]
        height, width = (min(side, int(rng.integers(low, high + 1))) for side in size)
        y, x = int(rng.integers(size[0] - height + 1)), int(rng.integers(size[1] - width + 1))
        return CropParams(x, y, width, height)

    def apply(self, sample: Sample, params: Optional[ResizeCropParams]) -> Sample:
        """Resize and cut image, boxes and masks."""
        if params is None:
            return sample
        resized = resize(sample, ResizeParams(params.resized, False, self.interp))
        return resized if params.part is None else crop(resized, params.part)
