"""What is often a mistake in a dataset, though a training could live with it.

Letters: A objects.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np

from ppdet.data.datasets.base import AnnotatedDataset
from ppdet.data.image_files import image_header
from ppdet.data.problems import DatasetProblem

#: Sides up to this many pixels are a click or a line, and no object.
_CLICK = 1.0
#: Share of its image that a box covers which covers all of it.
_WHOLE = 0.995
#: IoU from which two boxes of one class in one image are one object drawn twice, and from which they may be.
_REPEATED, _OVERLAPPING = 0.95, 0.85
#: IoU from which two boxes of a class in one image are one object drawn twice, and from which they may be.
_USUAL, _FEWEST = 0.9, 10


def suspects(dataset: AnnotatedDataset, *, min_objects: int = 0) -> list[DatasetProblem]:
    """What is odd about boxes, classes and images.

    Boxes with a side of a pixel, of the whole image, drawn twice, or on another of their class; classes that
    are rare or alike; images with another size or other channels than nearly all others, or with an
    orientation tag.

    Args:
        dataset: The dataset.
        min_objects: Classes with fewer objects are named; 0 for none.
    """
    return [*_boxes(dataset), *_classes(dataset, min_objects), *_images(dataset)]


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
            kind = "box-repeated" if iou >= _REPEATED else "box-overlapping"
            yield DatasetProblem(kind, f"{_of(dataset, row, first)} and [{other}], IoU {iou:.2f}")


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
    for first, second in zip(*np.nonzero(np.triu(ious >= _OVERLAPPING, 1))):
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


def _images(dataset: AnnotatedDataset) -> Iterator[DatasetProblem]:
    """What the headers say that is unlike the rest."""
    kinds: list[tuple[str, tuple[str, ...]]] = []
    for row in range(len(dataset.packed)):
        sample = dataset[row]
        header = image_header(sample.path)
        if header is None:  # a problem of its own
            continue
        own = sample.image_id if sample.given_id is None else sample.given_id
        who = f"image id {own}: {sample.path}"
        if header.turned:
            yield DatasetProblem(
                "image-turned", f"{who} has orientation {header.orientation} in its EXIF tags"
            )
        height, width = header.size
        kinds.append((who, (f"{width} x {height} pixels", f"channels {header.mode}")))
    for aspect in (0, 1):
        counts = Counter(kind[aspect] for _, kind in kinds)
        usual, count = counts.most_common(1)[0] if counts else ("", 0)
        if len(kinds) < _FEWEST or count < _USUAL * len(kinds):
            continue
        for who, kind in kinds:
            if kind[aspect] != usual:
                yield DatasetProblem("image-unlike", f"{who} has {kind[aspect]}, {count} others have {usual}")


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
