"""Copies objects of one image into another (Ghiasi et al., "Simple Copy-Paste", arXiv:2012.07177)."""

from __future__ import annotations

import numpy as np

from ppdet.config.ranges import Fraction, PositiveInt
from ppdet.data.formats.masks import mask_area, to_runs
from ppdet.data.geometry import (
    Moved,
    crop_visible,
    decode_runs,
    encode_runs,
    join_targets,
    mask_outline,
    paste_target,
)
from ppdet.data.transforms.base import Transform, pixels_hwc
from ppdet.structures import Mask, Sample, Target
from ppdet.utils.errors import DataError


class CopyPaste(Transform[tuple[int, ...]]):
    """Copies a drawn part of another image's objects, cut out by their masks, to the same place of an image.

    What they cover of the objects below is taken off their masks and boxes. The other image comes from the
    `TrainReader`, and has been through the same transforms before: `RandomScaledCrop` gives both one size,
    and the objects another scale. Crowd regions are not copied.

    Args:
        max_objects: Most objects that are copied.
        min_visible: Objects of which a smaller share of the mask stays visible go.
        prob: Probability of doing it.
    """

    needs_partners = 1

    def __init__(
        self, *, max_objects: PositiveInt = 100, min_visible: Fraction = 0.1, prob: Fraction = 1.0
    ) -> None:
        self.max_objects = max_objects
        self.min_visible = min_visible
        self.prob = prob

    def draw(self, sample: Sample, rng: np.random.Generator) -> tuple[int, ...]:
        """Draw which objects of the partner are copied; none to leave the image as it is."""
        if not sample.partners or rng.random() >= self.prob:
            return ()
        target = sample.partners[0].target
        if target is None or sample.target is None:
            return ()
        for one in (sample.target, target):
            if len(one) and one.masks is None:
                raise DataError(
                    f"{sample.path}: CopyPaste cuts objects out by their masks, and there are none. Add "
                    "gt_poly to data_fields of the dataset, or remove CopyPaste from the reader"
                )
        with_mask = np.array([mask_area(mask) > 0 for mask in target.masks or ()], bool)
        candidates = np.flatnonzero(with_mask & ~target.is_crowd)
        if len(candidates) == 0:
            return ()
        count = min(int(rng.integers(1, len(candidates) + 1)), self.max_objects)
        return tuple(sorted(int(row) for row in rng.permutation(candidates)[:count]))

    def apply(self, sample: Sample, params: tuple[int, ...]) -> Sample:
        """Copy pixels, boxes and masks."""
        if not params:
            return sample.replace(partners=sample.partners[1:])
        partner, *others = sample.partners
        image, source = pixels_hwc(sample), pixels_hwc(partner)
        size = (image.shape[0], image.shape[1])
        common = (min(size[0], source.shape[0]), min(size[1], source.shape[1]))
        assert partner.target is not None  # drawn from
        assert sample.target is not None
        copied = crop_visible(partner.target.select(np.array(params)), (0, 0), common).kept(self.min_visible)
        copied = paste_target(copied, (0, 0), size)
        covered = np.zeros(size, bool)
        for mask in copied.masks or ():
            covered |= _bitmap(mask, size)
        pasted = image.astype(np.result_type(image, source))
        inside = covered[: common[0], : common[1]]
        pasted[: common[0], : common[1]][inside] = source[: common[0], : common[1]][inside]
        below = _uncovered(sample.target, covered).kept(self.min_visible)
        return sample.replace(image=pasted, target=join_targets([below, copied]), partners=tuple(others))


def _uncovered(target: Target, covered: np.ndarray) -> Moved:
    """The objects of an image of which a part ``[H, W]`` is covered; what is not touched stays as it is."""
    size = (covered.shape[0], covered.shape[1])
    boxes, masks, visible = target.boxes.copy(), list(target.masks or ()), np.ones(len(target))
    for row, mask in enumerate(masks):
        bitmap = _bitmap(mask, size)
        if not (bitmap & covered).any():
            continue
        left = encode_runs(bitmap & ~covered)
        masks[row] = left
        points = mask_outline(left)
        visible[row] = (bitmap & ~covered).sum() / bitmap.sum()
        if len(points):
            boxes[row] = [*points.min(axis=0), *points.max(axis=0)]
    return Moved(target.replace(boxes=boxes, masks=tuple(masks)), visible)


def _bitmap(mask: Mask, size: tuple[int, int]) -> np.ndarray:
    if not mask:
        return np.zeros(size, bool)
    bitmap: np.ndarray = decode_runs(to_runs(mask, size)).astype(bool)
    return bitmap
