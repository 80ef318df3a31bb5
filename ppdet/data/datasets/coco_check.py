"""Looks through a parsed COCO annotation file for everything that is wrong with it, not just the first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ppdet.data.problems import Problem

#: Pixels that a box may leave its image by before that is a sign of corners in place of sizes.
_TOLERANCE = 2.0

#: Run lengths of this many pixels take more characters than pycocotools sets aside for them: it would write
#: beyond its memory.
_MASK_PIXELS = 2**29


def problems_of(content: Mapping[str, Any], *, with_masks: bool) -> list[Problem]:
    """Everything wrong with an annotation file.

    Args:
        content: The parsed file.
        with_masks: Whether objects must have masks.

    Returns:
        Problems in the order: categories, images, annotations. Objects without area are none; they are
        dropped.
    """
    images, categories = _rows(content, "images"), _rows(content, "categories")
    problems = [*_category_problems(categories), *_image_problems(images)]
    known = {image.get("id"): image for image in images}
    ids = {category.get("id") for category in categories}
    seen: Counter[Any] = Counter()
    beyond = boxes = 0
    for annotation in _rows(content, "annotations"):
        number = annotation.get("id")
        seen[number] += 1
        image = known.get(annotation.get("image_id"))
        name = f"annotation {number}"
        if number is not None and seen[number] == 2:
            problems.append(Problem("annotation-repeated", f"{name} occurs more than once"))
        if image is None:
            problems.append(
                Problem("annotation-image", f"{name} has image_id {annotation.get('image_id')!r}")
            )
            continue
        name += f" of {image.get('file_name')}"
        if annotation.get("category_id") not in ids:
            problems.append(
                Problem("annotation-category", f"{name} has category_id {annotation.get('category_id')!r}")
            )
        box = list(_box_problems(annotation.get("bbox"), name))
        problems += box
        if not box:
            boxes += 1
            beyond += _leaves(annotation["bbox"], image)
        segmentation = annotation.get("segmentation")
        if with_masks and (segmentation or not annotation.get("iscrowd")):
            problems += _mask_problems(segmentation, image, name)
    if beyond * 2 > boxes:
        problems.append(Problem("box-corners", f"{beyond} of {boxes} boxes end outside of their image"))
    return problems


def _rows(content: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    rows = content.get(key)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _category_problems(categories: list[dict[str, Any]]) -> Iterator[Problem]:
    if not categories:
        yield Problem("no-categories", '"categories" is missing or empty')
    for key in ("id", "name"):
        counts = Counter(category.get(key) for category in categories)
        for value, count in counts.items():
            if value is None:
                yield Problem("no-categories", f"{count} categories have no {key}")
            elif count > 1:
                yield Problem("category-repeated", f"{count} categories have the {key} {value!r}")


def _image_problems(images: list[dict[str, Any]]) -> Iterator[Problem]:
    if not images:
        yield Problem("no-images", '"images" is missing or empty')
    counts = Counter(image.get("id") for image in images)
    for image in images:
        if not isinstance(image.get("id"), int) or not image.get("file_name"):
            yield Problem("image-incomplete", f"image {str(image)[:100]}")
    for value, count in counts.items():
        if value is not None and count > 1:
            names = [str(image.get("file_name")) for image in images if image.get("id") == value][:3]
            yield Problem("image-repeated", f"image id {value}: {', '.join(names)}")


def _box_problems(bbox: Any, name: str) -> Iterator[Problem]:
    numbers = isinstance(bbox, (list, tuple)) and len(bbox) == 4 and all(map(_is_finite, bbox))
    if not numbers:
        yield Problem("box-invalid", f"{name} has bbox {str(bbox)[:80]}")
    elif bbox[2] < 0 or bbox[3] < 0:
        yield Problem("box-inverted", f"{name} has bbox {bbox}")


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _leaves(bbox: list[float], image: Mapping[str, Any]) -> bool:
    width, height = image.get("width") or math.inf, image.get("height") or math.inf
    return bbox[0] + bbox[2] > width + _TOLERANCE or bbox[1] + bbox[3] > height + _TOLERANCE


def _fill(counts: list[Any], pixels: int) -> bool:
    """Whether run lengths fill an image, and pycocotools can take them."""
    return (
        pixels < _MASK_PIXELS
        and all(isinstance(count, int) and count >= 0 for count in counts)
        and sum(counts) == pixels
    )


def _mask_problems(segmentation: Any, image: Mapping[str, Any], name: str) -> Iterator[Problem]:
    if not segmentation:
        yield Problem("mask-missing", f"{name} has no segmentation")
    elif isinstance(segmentation, dict):
        size, counts = segmentation.get("size"), segmentation.get("counts")
        expected = [image.get("height"), image.get("width")]
        if not isinstance(size, list) or size != expected:
            yield Problem("mask-invalid", f"{name} has run lengths of size {size}, its image has {expected}")
        elif not isinstance(counts, (list, str, bytes)) or (
            isinstance(counts, list) and not _fill(counts, size[0] * size[1])
        ):
            yield Problem("mask-invalid", f"{name} has run lengths that do not add up to its image")
    else:
        for polygon in segmentation:
            good = isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0
            if not good or not np.isfinite(np.asarray(polygon, np.float64)).all():
                yield Problem("mask-invalid", f"{name} has the polygon {str(polygon)[:60]}")
