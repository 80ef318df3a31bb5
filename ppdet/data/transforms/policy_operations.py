"""Operations of augmentation policies, each with a level of 0..10.

Zoph et al., "Learning Data Augmentation Strategies for Object Detection", arXiv:1906.11172, appendix A; sizes
in pixels are those of the published code, whose images are 640 pixels and more; smaller ones are changed in
proportion.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Callable, NamedTuple

import numpy as np

from ppdet.data.formats.masks import mask_area, to_runs
from ppdet.data.geometry import Moved, decode_runs, encode_runs, mask_outline, warp_pixels
from ppdet.data.transforms.affine import AffineParams, warp
from ppdet.data.transforms.base import pixels_hwc
from ppdet.structures import Sample, Target

MAX_LEVEL = 10.0
#: Colour of what an operation leaves empty.
GRAY = (128.0, 128.0, 128.0)
#: Ends of the levels: shear as a slope, angles in degrees, distances in pixels.
_SHEAR, _DEGREES, _SHIFT, _SHIFT_IN_BOX = 0.3, 30.0, 250.0, 120.0
#: Half sides of holes in pixels; of a hole in a drawn box, as a share of the box.
_HOLE, _HOLE_IN_BOX, _HOLE_SHARE = 100.0, 50.0, 0.75
_ADDED, _ADDED_BELOW = 110.0, 128
_LEVELS_OF_GRAY = 256.0
_BITS, _FEWER_BITS = 8, 4
#: Longest side in pixels from which on distances are as published.
_FULL_SIDE = 640.0
_IN_PIXELS = ("Translate", "Cutout")
_FACTOR, _FACTOR_RANGE = 0.1, 1.8

#: Operations whose amount is a factor, and those without one.
_FACTORS = ("Brightness", "Color", "Contrast", "Sharpness")
_PLAIN = ("AutoContrast", "Equalize", "Flip")

#: Changes an image ``[H, W, 3]`` uint8 by an amount.
ColourChange = Callable[[np.ndarray, float], np.ndarray]


class PlannedOperation(NamedTuple):
    """An operation with everything that is drawn for it.

    Attributes:
        name: One of `OPERATIONS`.
        amount: In the unit of the operation, with its sign; pixels are those of an image of 640.
        share: Of an operation on boxes: the probability of each box.
        seed: Of the places that depend on the objects at hand.
    """

    name: str
    amount: float
    share: float
    seed: int


def amount_of(name: str, level: float, rng: np.random.Generator) -> float:
    """The amount that a level stands for; of operations with a direction, with a drawn sign."""
    share = level / MAX_LEVEL
    for beginning, most in _DIRECTED.items():
        if name.startswith(beginning):
            only = beginning.startswith("Translate") and name.endswith("_Only_BBoxes")
            amount = share * (_SHIFT_IN_BOX if only else most)
            return amount if rng.random() < 0.5 else -amount
    return _AMOUNTS[name.replace("_Only_BBoxes", "")](share)


def run_operation(sample: Sample, planned: PlannedOperation) -> Sample:
    """Apply an operation to image, boxes and masks. Deterministic."""
    rng = np.random.default_rng(planned.seed)
    name = planned.name
    if name.startswith(_IN_PIXELS):
        smaller = min(1.0, max(pixels_hwc(sample).shape[:2]) / _FULL_SIDE)
        planned = planned._replace(amount=planned.amount * smaller)
    if name in COLOURS:
        return sample.replace(image=COLOURS[name](pixels_hwc(sample), planned.amount))
    if name == "Cutout":
        return _cutout(sample, planned.amount, rng)
    if name == "BBox_Cutout":
        return _cutout_of_box(sample, planned.amount, rng)
    if not name.endswith("_Only_BBoxes"):
        height, width = pixels_hwc(sample).shape[:2]
        matrix = _matrix(name, planned.amount, (height, width))
        return warp(sample, AffineParams(matrix, (height, width)), min_visible=0.0, fill_value=GRAY)
    return _in_boxes(sample, planned, rng)


def _colour(name: str) -> ColourChange:
    def change(image: np.ndarray, amount: float) -> np.ndarray:
        from PIL import Image, ImageEnhance, ImageOps

        picture = Image.fromarray(image)
        if name in _FACTORS:
            return np.asarray(getattr(ImageEnhance, name)(picture).enhance(amount))
        function = getattr(ImageOps, name.lower())
        return np.asarray(function(picture) if name in _PLAIN else function(picture, round(amount)))

    return change


def _solarize_add(image: np.ndarray, amount: float) -> np.ndarray:
    """Make dark pixels brighter."""
    values = np.arange(256)
    table = np.where(values < _ADDED_BELOW, np.clip(values + round(amount), 0, 255), values).astype(np.uint8)
    return table[image]


COLOURS: Mapping[str, ColourChange] = {
    **{
        name: _colour(name)
        for name in (
            "AutoContrast",
            "Brightness",
            "Color",
            "Contrast",
            "Equalize",
            "Posterize",
            "Sharpness",
            "Solarize",
        )
    },
    "SolarizeAdd": _solarize_add,
}
#: Operations with a direction: beginning of the name -> largest amount.
_DIRECTED = {"Shear": _SHEAR, "Rotate": _DEGREES, "Translate": _SHIFT}
#: The others: share of the highest level -> amount.
_AMOUNTS: Mapping[str, Callable[[float], float]] = {
    **dict.fromkeys(_FACTORS, lambda share: _FACTOR + _FACTOR_RANGE * share),
    **dict.fromkeys(_PLAIN, lambda share: share),
    "Posterize": lambda share: _BITS - _FEWER_BITS * share,
    "Solarize": lambda share: _LEVELS_OF_GRAY * share,
    "SolarizeAdd": lambda share: _ADDED * share,
    "Cutout": lambda share: _HOLE * share,
    "BBox_Cutout": lambda share: _HOLE_SHARE * share,
}


def _matrix(name: str, amount: float, size: tuple[int, int]) -> np.ndarray:
    """The affine map ``[2, 3]`` of an operation about the centre of an image of `size` (height, width)."""
    linear, shift = np.eye(2), np.zeros(2)
    if name.startswith("Flip"):
        linear = np.diag([-1.0, 1.0])
    elif name.startswith("Rotate"):
        cosine, sine = math.cos(math.radians(amount)), math.sin(math.radians(amount))
        linear = np.array([[cosine, sine], [-sine, cosine]])
    elif name.startswith("Shear"):
        linear[(0, 1) if name.startswith("ShearX") else (1, 0)] = amount
    else:
        shift[0 if name.startswith("TranslateX") else 1] = amount
    centre = np.array([size[1], size[0]]) / 2
    return np.hstack([linear, (centre + shift - linear @ centre)[:, None]])


def _hole(image: np.ndarray, centre: tuple[float, float], half: tuple[float, float]) -> np.ndarray:
    """A copy with a gray rectangle; `centre` and half sides `half` are (y, x)."""
    spans = [slice(max(round(c - h), 0), max(round(c + h), 0)) for c, h in zip(centre, half)]
    holed = image.copy()
    holed[spans[0], spans[1]] = np.array(GRAY).astype(image.dtype)
    return holed


def _cutout(sample: Sample, half: float, rng: np.random.Generator) -> Sample:
    image = pixels_hwc(sample)
    centre = (float(rng.uniform(0, image.shape[0])), float(rng.uniform(0, image.shape[1])))
    return sample.replace(image=_hole(image, centre, (half, half)))


def _cutout_of_box(sample: Sample, share: float, rng: np.random.Generator) -> Sample:
    """A hole in one box, whose sides are up to this share of the box's."""
    if sample.target is None or sample.target.is_crowd.all():
        return sample
    rows = np.flatnonzero(~sample.target.is_crowd)
    x1, y1, x2, y2 = sample.target.boxes[int(rng.choice(rows))].tolist()
    centre = (float(rng.uniform(y1, y2)), float(rng.uniform(x1, x2)))
    return sample.replace(
        image=_hole(pixels_hwc(sample), centre, (share * (y2 - y1) / 2, share * (x2 - x1) / 2))
    )


def _in_boxes(sample: Sample, planned: PlannedOperation, rng: np.random.Generator) -> Sample:
    """Change what is inside of some boxes, one after the other.

    Masks move with the pixels, and boxes follow their masks. Boxes without masks stay, as published, but
    those out of which the object is moved go.
    """
    target = sample.target
    if target is None:
        return sample
    image, name = pixels_hwc(sample).copy(), planned.name.replace("_Only_BBoxes", "")
    visible = np.ones(len(target))
    for row in np.flatnonzero(~target.is_crowd):
        if rng.random() >= planned.share:
            continue
        box = np.clip(target.boxes[row], 0, [image.shape[1], image.shape[0]] * 2)
        x1, y1 = np.floor(box[:2]).astype(int)
        x2, y2 = np.ceil(box[2:]).astype(int)
        region = (slice(y1, y2), slice(x1, x2))
        inside = image[region]
        if inside.size == 0:
            continue
        if name in COLOURS:
            image[region] = COLOURS[name](np.ascontiguousarray(inside), planned.amount)
        elif name == "Cutout":
            centre = (float(rng.uniform(0, y2 - y1)), float(rng.uniform(0, x2 - x1)))
            half = planned.amount * _HOLE_IN_BOX / _HOLE
            image[region] = _hole(inside, centre, (half, half))
        else:
            size = (int(y2 - y1), int(x2 - x1))
            matrix = _matrix(name, planned.amount, size)
            image[region] = warp_pixels(inside, matrix, size, fill=GRAY)
            target, left = _move_masks(target, region, matrix, (image.shape[0], image.shape[1]))
            visible *= left
            if target.masks is None and (np.abs(matrix[:, :2] - np.eye(2)) < 1e-9).all():
                visible[row] *= (np.abs(matrix[:, 2]) < size[::-1]).all()
    return sample.replace(image=image, target=Moved(target, visible).kept(0.0))


def _move_masks(
    target: Target, region: tuple[slice, slice], matrix: np.ndarray, size: tuple[int, int]
) -> tuple[Target, np.ndarray]:
    """Map the masks in a part of the image; and whether anything is left of each object, ``[G]``."""
    boxes, masks, left = target.boxes.copy(), list(target.masks or ()), np.ones(len(target))
    for row, mask in enumerate(masks):
        if mask_area(mask) == 0:
            continue
        bitmap = decode_runs(to_runs(mask, size))
        inside = bitmap[region]
        if not inside.any():
            continue
        bitmap[region] = warp_pixels(inside, matrix, (inside.shape[0], inside.shape[1]), linear=False)
        masks[row] = moved = encode_runs(bitmap)
        points = mask_outline(moved)
        left[row] = len(points) > 0
        if len(points):
            boxes[row] = [*points.min(axis=0), *points.max(axis=0)]
    return target.replace(boxes=boxes, masks=None if target.masks is None else tuple(masks)), left
