"""Figures of a dataset that decide about anchors, input size and schedule; and whether two sets are alike.

Letters: A objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
from scipy import stats as distributions

from ppdet.data.datasets.base import AnnotatedDataset
from ppdet.data.tools.input_size import InputSize, object_sides

#: COCO's limits between small, medium and large objects: areas in square pixels.
_AREAS = (32**2, 96**2)
#: Rows and columns of the map of centres.
_CELLS = 8
#: Where the bars of histograms begin: sides in pixels, heights by widths, numbers of objects.
_SIDES = tuple(float(2**k) for k in range(11))
_RATIOS = tuple(round(2 ** (k / 2), 3) for k in range(-6, 7))
_COUNTS = (0, 1, 2, 4, 8, 16, 32, 64)
#: IoU from which on two objects stand in front of each other.
_CROWDED = (0.3, 0.5)
#: Two sets differ where a difference of this size comes by chance in less than one of a hundred draws.
_DIFFERENCE, _CHANCE = 0.1, 0.01
#: Draws that tell the chance, and images of each set that they use.
_DRAWS, _IMAGES = 200, 10_000


def dataset_stats(dataset: AnnotatedDataset, size: Optional[InputSize] = None) -> dict[str, Any]:
    """Counts of images and objects, and quantiles of sizes: five numbers from the smallest to the largest.

    Args:
        dataset: The dataset.
        size: What a configuration resizes its images to; adds the objects' sides in its input.

    Returns:
        By name; sides in pixels, `box_side_share` the square root of an object's area by that of its image,
        `aspect_ratio` height by width, `centres` the share of objects in each of 8 x 8 cells of their images
        (rows from the top), `crowding` the share of objects whose IoU with another one is at least 0.3 and
        0.5, `histograms` the numbers of values from each start to the next.
    """
    packed = dataset.packed
    counts = packed.object_counts()
    boxes = packed.boxes[~packed.is_crowd].astype(float)
    sides = boxes[:, 2:] - boxes[:, :2]
    areas = sides.prod(axis=1)
    images = _image_sizes(dataset)
    per_class = np.bincount(packed.labels, minlength=len(dataset.categories))
    found = {
        "images": len(packed),
        "images_without_objects": int((counts == 0).sum()),
        "objects": len(packed.boxes),
        "crowd_regions": int(packed.is_crowd.sum()),
        "objects_per_image_max": int(counts.max()),
        "objects_per_image": quantiles(counts),
        "objects_by_size": {
            "small": int((areas < _AREAS[0]).sum()),
            "medium": int(((areas >= _AREAS[0]) & (areas < _AREAS[1])).sum()),
            "large": int((areas >= _AREAS[1]).sum()),
        },
        "image_height": quantiles(packed.sizes[:, 0]),
        "image_width": quantiles(packed.sizes[:, 1]),
        "box_height": quantiles(sides[:, 1]),
        "box_width": quantiles(sides[:, 0]),
        "box_side_share": quantiles(np.sqrt(areas / np.maximum(images.prod(axis=1), 1)), 4),
        "aspect_ratio": quantiles(sides[:, 1] / np.maximum(sides[:, 0], 1e-9), 2),
        "centres": _centres(boxes, images),
        "crowding": _crowding(dataset),
        "histograms": {
            "box_side": _histogram(np.sqrt(areas), _SIDES),
            "aspect_ratio": _histogram(sides[:, 1] / np.maximum(sides[:, 0], 1e-9), _RATIOS),
            "objects_per_image": _histogram(counts, _COUNTS),
        },
        "objects_by_class": dict(zip(dataset.categories.names, per_class.tolist())),
    }
    if size is not None:
        found["input_size"] = size.size
        found["box_side_in_input"] = quantiles(object_sides(dataset, size))
    return found


def quantiles(values: np.ndarray, digits: int = 1) -> list[float]:
    """Smallest, first quartile, median, third quartile and largest; empty for no values."""
    if len(values) == 0:
        return []
    return [round(float(value), digits) for value in np.quantile(values, [0, 0.25, 0.5, 0.75, 1])]


def _histogram(values: np.ndarray, starts: Sequence[float]) -> dict[str, Sequence[float]]:
    """How many values there are from each start to the next; the last has no end, the first no beginning."""
    bins = np.clip(np.searchsorted(starts, values, side="right") - 1, 0, len(starts) - 1)
    return {"from": list(starts), "count": np.bincount(bins, minlength=len(starts)).tolist()}


def compare_sets(train: AnnotatedDataset, val: AnnotatedDataset) -> dict[str, Any]:
    """Whether a validation set is like the training set, as far as its annotations say.

    Returns:
        For `classes` (half the sum of the differences of their shares), `sizes` (of objects, as shares of
        their images) and `objects_per_image` (the largest distance of the distribution functions) a
        `difference` from 0 to 1, the `chance` of as large a one if all images were drawn into the two sets at
        random (a permutation test; Kolmogorov-Smirnov tests), and `differs`: at least 0.1, and a chance below
        0.01. `missing` names classes of the training set that the validation set has no object of.
    """
    names = train.categories.names
    per_image = [_class_counts(one) for one in (train, val)]
    counts = np.stack([np.bincount(one.packed.labels, minlength=len(names)) for one in (train, val)])
    found = {"classes": _verdict(*_class_difference(*per_image))}
    pairs = {
        "sizes": [_relative_sides(one) for one in (train, val)],
        "objects_per_image": [one.packed.object_counts() for one in (train, val)],
    }
    for name, (first, second) in pairs.items():
        if len(first) and len(second):
            result = distributions.ks_2samp(first, second)
            found[name] = _verdict(float(result.statistic), float(result.pvalue))
    missing = [name for name, pair in zip(names, counts.T) if pair[0] and not pair[1]]
    return {**found, "missing": missing}


def _verdict(difference: float, chance: float) -> dict[str, Any]:
    differs = difference >= _DIFFERENCE and chance < _CHANCE
    return {"difference": round(difference, 4), "chance": round(chance, 6), "differs": differs}


def _class_counts(dataset: AnnotatedDataset) -> np.ndarray:
    """Objects of each class in each image, of at most `_IMAGES` drawn ones, ``[N, K]`` int64."""
    packed = dataset.packed
    rows = np.repeat(np.arange(len(packed)), np.diff(packed.object_offsets))
    counts = np.zeros((len(packed), len(dataset.categories)), np.int64)
    np.add.at(counts, (rows, packed.labels), 1)
    if len(counts) > _IMAGES:
        counts = counts[np.random.default_rng(0).choice(len(counts), _IMAGES, replace=False)]
    return counts


def _class_difference(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """The difference of two sets, and the chance of as large a one; objects of an image stay together."""
    together = np.concatenate([first, second])
    whole = together.sum(axis=0)
    rng = np.random.default_rng(0)

    def difference(part: np.ndarray) -> float:
        shares = [one / max(one.sum(), 1) for one in (part, whole - part)]
        return float(np.abs(shares[0] - shares[1]).sum() / 2)

    own = difference(first.sum(axis=0))
    drawn = [
        difference(together[rng.permutation(len(together))[: len(first)]].sum(axis=0)) for _ in range(_DRAWS)
    ]
    return own, (1 + sum(value >= own for value in drawn)) / (1 + _DRAWS)


def _relative_sides(dataset: AnnotatedDataset) -> np.ndarray:
    boxes = dataset.packed.boxes[~dataset.packed.is_crowd].astype(float)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    shares: np.ndarray = np.sqrt(areas / np.maximum(_image_sizes(dataset).prod(axis=1), 1))
    return shares


def _image_sizes(dataset: AnnotatedDataset) -> np.ndarray:
    """(height, width) of the image of each object that is no crowd region, ``[A, 2]``."""
    packed = dataset.packed
    rows = np.repeat(np.arange(len(packed)), np.diff(packed.object_offsets))
    sizes: np.ndarray = packed.sizes[rows[~packed.is_crowd]].astype(float)
    return sizes


def _centres(boxes: np.ndarray, images: np.ndarray) -> list[list[float]]:
    """Share of the objects in each cell, rows from the top."""
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2 / np.maximum(images[:, ::-1], 1)
    cells = np.clip((middles * _CELLS).astype(int), 0, _CELLS - 1)
    counts = np.zeros((_CELLS, _CELLS))
    np.add.at(counts, (cells[:, 1], cells[:, 0]), 1)
    shares: list[list[float]] = np.round(counts / max(len(boxes), 1), 4).tolist()
    return shares


def _crowding(dataset: AnnotatedDataset) -> dict[str, float]:
    """Share of the objects that have another one in front or behind, by IoU."""
    packed = dataset.packed
    most = []
    for start, stop in zip(packed.object_offsets[:-1], packed.object_offsets[1:]):
        kept = ~packed.is_crowd[start:stop]
        boxes = packed.boxes[start:stop][kept].astype(float)
        if len(boxes) < 2:
            most.append(np.zeros(len(boxes)))
            continue
        shared = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - np.maximum(
            boxes[:, None, :2], boxes[None, :, :2]
        )
        inner = np.maximum(shared, 0).prod(axis=2)
        areas = np.diagonal(inner)
        ious = inner / np.maximum(areas[:, None] + areas[None] - inner, 1e-9)
        np.fill_diagonal(ious, 0)
        most.append(ious.max(axis=1))
    values = np.concatenate(most) if most else np.zeros(0)
    return {
        f"iou_{limit}": round(float((values >= limit).mean()), 4) if len(values) else 0.0
        for limit in _CROWDED
    }
