"""Keeps or drops objects and images."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Optional

from ppdet.utils.errors import DataError


@dataclass(frozen=True)
class FilterOptions:
    """What stays. A condition that is not given keeps everything; all that are given must hold.

    Attributes:
        classes: Classes to keep.
        drop_classes: Classes to drop.
        min_side: Least pixels of a box's shorter side.
        max_side: Most pixels of its longer side.
        min_area: Least pixels of its area.
        max_area: Most pixels of its area.
        files: Pattern of image names to keep, as of a shell (``*`` crosses folders).
        drop_files: Pattern of image names to drop.
        drop_empty: Drop images without an object that is left, and not only their objects.
    """

    classes: Optional[tuple[str, ...]] = None
    drop_classes: tuple[str, ...] = ()
    min_side: float = 0.0
    max_side: float = math.inf
    min_area: float = 0.0
    max_area: float = math.inf
    files: str = "*"
    drop_files: str = ""
    drop_empty: bool = False


def filter_dataset(content: Mapping[str, Any], options: FilterOptions) -> dict[str, Any]:
    """Objects and images that fulfil conditions.

    Args:
        content: The content of a COCO annotation file.
        options: The conditions.

    Returns:
        The content; classes that are dropped leave the table, the others keep their ids.

    Raises:
        DataError: If a class is not in the table, or no object is left.
    """
    names = [row["name"] for row in content["categories"]]
    for name in (*(options.classes or ()), *options.drop_classes):
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise DataError(f"class {name!r} is not in the dataset{hint} (it has {', '.join(names)})")
    kept_names = set(options.classes or names) - set(options.drop_classes)
    categories = [row for row in content["categories"] if row["name"] in kept_names]
    ids = {row["id"] for row in categories}
    images = {row["id"]: row for row in content["images"] if _is_named(row["file_name"], options)}
    rows = [
        row
        for row in content["annotations"]
        if row["category_id"] in ids and row["image_id"] in images and _fits(row["bbox"], options)
    ]
    if not rows:
        raise DataError(f"no object is left of {len(content['annotations'])}")
    if options.drop_empty:
        used = {row["image_id"] for row in rows}
        images = {number: row for number, row in images.items() if number in used}
    return {**content, "images": list(images.values()), "annotations": rows, "categories": categories}


def _is_named(name: str, options: FilterOptions) -> bool:
    return fnmatchcase(name, options.files) and not (
        options.drop_files and fnmatchcase(name, options.drop_files)
    )


def _fits(box: tuple[float, float, float, float], options: FilterOptions) -> bool:
    width, height = box[2:]
    return (
        options.min_side <= min(width, height)
        and max(width, height) <= options.max_side
        and options.min_area <= width * height <= options.max_area
    )
