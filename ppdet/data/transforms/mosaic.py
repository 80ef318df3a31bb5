"""Joins four images (Bochkovskiy et al., "YOLOv4", arXiv:2004.10934, section 3.3).

With the affine map and the mixup that Ge et al., "YOLOX", arXiv:2107.08430, section 2.1, put after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import AnyFloat, Colour, Fraction, Positive
from ppdet.data.geometry import (
    Moved,
    crop_visible,
    flip_target,
    join_targets,
    paste_target,
    warp_pixels,
    warp_target,
)
from ppdet.data.transforms.affine import AffineParams, AffineRanges
from ppdet.data.transforms.base import Transform, filled, pixels_hwc
from ppdet.data.transforms.resize import ResizeParams, Size, as_size, resize
from ppdet.data.transforms.scaled_crop import RandomScaledCrop, ScaledCropParams
from ppdet.structures import Sample, Target

#: Where the four images meet, as a share of the canvas.
_CENTRE = (0.25, 0.75)
_SHARE = 0.5


class MixupParams(NamedTuple):
    """Whether the fifth image is mirrored, and how it is scaled and cut."""

    mirrored: bool
    crop: ScaledCropParams


class MosaicParams(NamedTuple):
    """How images are joined.

    Attributes:
        centre: (y, x) in pixels of the canvas, where the four images meet.
        affine: Map of the canvas to the result.
        mixup: What happens to the fifth image; None to leave it out.
    """

    centre: tuple[int, int]
    affine: AffineParams
    mixup: Optional[MixupParams]


class Mosaic(Transform[Optional[MosaicParams]]):
    """Puts an image and three others around a point, and maps the canvas to one size.

    The canvas is twice as high and wide as `input_dim`. Each image is resized to fit into `input_dim` and
    touches the point with a corner; what leaves the canvas is cut off. Then the canvas is rotated, scaled,
    sheared and shifted, and the result blended half and half with a fifth image. A `TrainReader` supplies the
    other images, as long as its `mosaic_epoch` or the key `epochs` here says; without them an image stays as
    it is.

    Args:
        prob: Probability of doing it.
        input_dim: (height, width) of the result, or one number for both.
        degrees: [low, high] angle of the rotation, counter-clockwise.
        translate: [low, high] shift as a share of height and width.
        scale: [low, high] factor on the canvas.
        shear: [low, high] angles of the shear along x and along y, in degrees.
        enable_mixup: Blend with a fifth image. Objects of both images count fully, as in YOLOX.
        mixup_prob: Probability of blending.
        mixup_scale: [low, high] size of the fifth image, as a share of the largest one that fits.
        min_visible: Objects of which a smaller share of the box stays in the image go.
        fill_value: R, G, B where there is no image, 0..255.
    """

    def __init__(
        self,
        *,
        prob: Fraction = 1.0,
        input_dim: Size = 640,
        degrees: Sequence[AnyFloat] = (-10.0, 10.0),
        translate: Sequence[AnyFloat] = (-0.1, 0.1),
        scale: Sequence[Positive] = (0.1, 2.0),
        shear: Sequence[AnyFloat] = (-2.0, 2.0),
        enable_mixup: bool = True,
        mixup_prob: Fraction = 1.0,
        mixup_scale: Sequence[Positive] = (0.5, 1.5),
        min_visible: Fraction = 0.1,
        fill_value: Sequence[Colour] = (114, 114, 114),
    ) -> None:
        if len(mixup_scale) != 2 or not 0 < mixup_scale[0] <= mixup_scale[1]:
            raise ArgumentError("mixup_scale", f"expected [low, high], both > 0, got {list(mixup_scale)}")
        if len(fill_value) != 3:
            raise ArgumentError("fill_value", f"expected a colour (R, G, B), got {list(fill_value)}")
        self.prob = prob
        self.size = as_size(input_dim, "input_dim")
        self.ranges = AffineRanges(degrees=degrees, translate=translate, scale=scale, shear=shear)
        self.mixup_prob = mixup_prob if enable_mixup else 0.0
        self.min_visible = min_visible
        self.fill_value = fill_value
        self._jitter = RandomScaledCrop(
            target_dim=self.size, scale_range=mixup_scale, min_visible=min_visible, fill_value=fill_value
        )
        self.needs_partners = 4 if self.mixup_prob > 0 else 3

    def draw(self, sample: Sample, rng: np.random.Generator) -> Optional[MosaicParams]:
        """Draw where the images meet, the map, and the fifth image; None to leave the image as it is."""
        if len(sample.partners) < self.needs_partners or rng.random() >= self.prob:
            return None
        canvas = (2 * self.size[0], 2 * self.size[1])
        y, x = (int(side * rng.uniform(*_CENTRE)) for side in canvas)
        affine = self.ranges.draw(canvas, self.size, rng)
        mixup = None
        if rng.random() < self.mixup_prob:
            mixup = MixupParams(bool(rng.random() < _SHARE), self._jitter.draw(sample.partners[3], rng))
        return MosaicParams((y, x), affine, mixup)

    def apply(self, sample: Sample, params: Optional[MosaicParams]) -> Sample:
        """Join images, boxes and masks. The result has the id and the file of the first image."""
        own, others = sample.partners[: self.needs_partners], sample.partners[self.needs_partners :]
        if params is None:
            return sample.replace(partners=others)
        joined = self._joined([sample, *own[:3]], params)
        if params.mixup is not None:
            joined = self._blended(joined, own[3], params.mixup)
        return joined.replace(partners=others)

    def _joined(self, samples: Sequence[Sample], params: MosaicParams) -> Sample:
        size = (2 * self.size[0], 2 * self.size[1])
        dtype = np.result_type(*(pixels_hwc(sample) for sample in samples))
        canvas = filled(size, self.fill_value, dtype)
        cells = []
        for sample, right, below in zip(samples, (0, 1, 0, 1), (0, 0, 1, 1)):
            cells.append(_paste(sample, canvas, params.centre, (below, right), self.size))
        target = None
        if all(sample.target is not None for sample in samples):
            visible = np.concatenate([cell.visible for cell in cells])
            moved = warp_target(
                join_targets([cell.target for cell in cells]), params.affine.matrix, params.affine.size
            )
            target = Moved(moved.target, visible * moved.visible).kept(self.min_visible)
        height, width = params.affine.size
        return samples[0].replace(
            image=warp_pixels(canvas, params.affine.matrix, params.affine.size, fill=self.fill_value),
            image_size=(float(height), float(width)),
            target=target,
        )

    def _blended(self, sample: Sample, partner: Sample, params: MixupParams) -> Sample:
        import cv2

        other = self._jitter.apply(partner, params.crop)
        first, second = pixels_hwc(sample), pixels_hwc(other)
        target = None
        if sample.target is not None and other.target is not None:
            added = flip_target(other.target, self.size[1]) if params.mirrored else other.target
            target = join_targets([sample.target, added])
        second = cv2.flip(second, 1) if params.mirrored else second
        dtype = np.result_type(first, second)
        blended = cv2.addWeighted(first.astype(dtype), _SHARE, second.astype(dtype), 1 - _SHARE, 0)
        return sample.replace(image=blended, target=target)


def _paste(
    sample: Sample,
    canvas: np.ndarray,
    centre: tuple[int, int],
    side: tuple[int, int],
    limits: tuple[int, int],
) -> Moved:
    """Resize an image to fit and put it on one side of the centre.

    Args:
        sample: The image.
        canvas: ``[H, W, 3]``; receives the pixels.
        centre: (y, x) where the images meet.
        side: (1 below, 1 right of it); 0 is above and left.
        limits: (height, width) that the image fits into.

    Returns:
        Its objects in pixels of the canvas.
    """
    old = pixels_hwc(sample).shape[:2]
    scale = min(limits[0] / old[0], limits[1] / old[1])
    fitted = (max(1, round(old[0] * scale)), max(1, round(old[1] * scale)))
    resized = resize(sample, ResizeParams(fitted, False, 1))
    starts = [c if s else c - new for c, s, new in zip(centre, side, fitted)]
    firsts = [max(start, 0) for start in starts]
    ends = [min(start + new, full) for start, new, full in zip(starts, fitted, canvas.shape)]
    cut = [first - start for first, start in zip(firsts, starts)]
    size = (ends[0] - firsts[0], ends[1] - firsts[1])
    part = pixels_hwc(resized)[cut[0] : cut[0] + size[0], cut[1] : cut[1] + size[1]]
    canvas[firsts[0] : ends[0], firsts[1] : ends[1]] = part
    target = resized.target if resized.target is not None else Target.empty()
    moved = crop_visible(target, (cut[0], cut[1]), size)
    placed = paste_target(moved.target, (firsts[0], firsts[1]), (canvas.shape[0], canvas.shape[1]))
    return Moved(placed, moved.visible)
