"""What is often a mistake in a dataset, though a training could live with it.

Letters: A objects.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from ppdet.data.datasets.base import AnnotatedDataset
from ppdet.data.problems import DatasetProblem

#: Sides up to this many pixels are a click or a line, and no object.
_CLICK = 1.0
#: Share of its image that a box covers which covers all of it.
_WHOLE = 0.995
#: IoU from which two boxes of one class in one image are one object, drawn twice.
_REPEATED = 0.95


def suspects(dataset: AnnotatedDataset, *, min_objects: int = 0) -> list[DatasetProblem]:
    """Boxes with a side of a pixel, of the whole image, or drawn twice; classes that are rare or alike.

    Args:
        dataset: The dataset.
        min_objects: Classes with fewer objects are named; 0 for none.
    """
    return [*_boxes(dataset), *_classes(dataset, min_objects)]


def _boxes(dataset: AnnotatedDataset) -> Iterator[DatasetProblem]:
    packed = dataset.packed
    rows = np.repeat(np.arange(len(packed)), np.diff(packed.object_offsets))
    sides = packed.boxes[:, 2:] - packed.boxes[:, :2]
    image_areas = packed.sizes.astype(float).prod(axis=1)[rows]
    small = sides.min(axis=1, initial=np.inf) <= _CLICK
    whole = (sides.astype(float).prod(axis=1) >= _WHOLE * image_areas) & (image_areas > 0)
    for kind, found in (("box-tiny", small), ("box-whole", whole)):
        for index in np.flatnonzero(found):
            yield DatasetProblem(kind, _of(dataset, int(rows[index]), int(index)))
    for row, (start, stop) in enumerate(zip(packed.object_offsets[:-1], packed.object_offsets[1:])):
        for first, second, iou in _repeated(dataset, int(start), int(stop)):
            other = ", ".join(f"{value:g}" for value in packed.boxes[second])
            yield DatasetProblem("box-repeated", f"{_of(dataset, row, first)} and [{other}], IoU {iou:.2f}")


def _repeated(dataset: AnnotatedDataset, start: int, stop: int) -> Iterator[tuple[int, int, float]]:
    """Pairs of objects of one image and class whose boxes are nearly the same."""
    if stop - start < 2:
        return
    packed = dataset.packed
    boxes = packed.boxes[start:stop].astype(float)
    labels = np.where(packed.is_crowd[start:stop], -1, packed.labels[start:stop])
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    union = np.maximum(areas[:, None] + areas[None] - shared, 1e-9)
    ious = np.where((labels[:, None] == labels[None]) & (labels >= 0)[:, None], shared / union, 0.0)
    for first, second in zip(*np.nonzero(np.triu(ious >= _REPEATED, 1))):
        yield start + int(first), start + int(second), float(ious[first, second])


def _classes(dataset: AnnotatedDataset, min_objects: int) -> Iterator[DatasetProblem]:
    names = dataset.categories.names
    counts = np.bincount(dataset.packed.labels, minlength=len(names))
    for name, count in zip(names, counts):
        if count < min_objects:
            yield DatasetProblem(
                "class-rare", f"class {name!r} has {count} objects, fewer than {min_objects}"
            )
    alike: dict[str, list[str]] = defaultdict(list)
    for name in names:
        alike[_plain(name)].append(name)
    for group in alike.values():
        if len(group) > 1:
            text = " and ".join(f"{name!r} ({counts[names.index(name)]} objects)" for name in group)
            yield DatasetProblem("class-alike", f"classes {text} differ by case, blanks or a plural only")


def _plain(name: str) -> str:
    """A name without what people write in two ways: case, blanks and their stand-ins, the plural."""
    text = re.sub(r"[\s_\-.]+", "", name.casefold())
    if len(text) > 4 and text.endswith(("ses", "xes", "ches", "shes")):
        return text[:-2]
    return text[:-1] if len(text) > 3 and text.endswith("s") and not text.endswith("ss") else text


def _of(dataset: AnnotatedDataset, row: int, index: int) -> str:
    sample = dataset[row]
    own = sample.image_id if sample.given_id is None else sample.given_id
    packed = dataset.packed
    box = ", ".join(f"{value:g}" for value in packed.boxes[index])
    return f"image id {own}: {sample.path}: {dataset.categories.names[packed.labels[index]]} [{box}]"
