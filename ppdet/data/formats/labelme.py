"""Reads labelme's JSON files: one per image, with polygons, rectangles, circles and masks."""

from __future__ import annotations

import base64
import binascii
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, Union

import numpy as np

from ppdet.data.annotation_files import read_json
from ppdet.data.formats.attributes import with_attributes
from ppdet.data.formats.figures import ellipse
from ppdet.data.formats.labelled import Labelled
from ppdet.data.formats.values import FARTHEST, number, side
from ppdet.data.geometry import encode_runs
from ppdet.structures import Rle
from ppdet.utils.errors import DataError

#: Labels that labelme's own tools leave out.
_NO_CLASSES = frozenset({"__ignore__", "_background_"})
#: Shapes that are no objects.
_NO_AREA = frozenset({"point", "points", "line", "linestrip"})


class LabelmeFile(NamedTuple):
    """One JSON file.

    Attributes:
        image_path: Of its image as written, with slashes; relative to the JSON file.
        size: (height, width) as written; 0 where unknown.
        shapes: Its shapes, not parsed yet.
    """

    image_path: str
    size: tuple[int, int]
    shapes: list[Any]


def read_labelme_file(path: Path) -> LabelmeFile:
    """Read one JSON file.

    Raises:
        DataError: If it is no labelme file.
    """
    content = read_json(path)
    shapes, image_path = content.get("shapes") or [], content.get("imagePath")
    if not isinstance(shapes, list) or not isinstance(image_path, str) or not image_path:
        raise DataError(f"{path}: not a file of labelme: it needs imagePath and a list of shapes")
    height, width = side(content.get("imageHeight")), side(content.get("imageWidth"))
    return LabelmeFile(image_path.replace("\\", "/"), (height or 0, width or 0), shapes)


class Shapes(NamedTuple):
    """Objects of a file, and the shapes that were left out by their kind."""

    objects: tuple[Labelled, ...]
    left_out: Counter[str]


def objects_of(shapes: Iterable[Any], size: tuple[int, int], path: Path) -> Shapes:
    """The objects that shapes are parts of: those of one label and `group_id` are one object.

    Args:
        shapes: As the file has them.
        size: (height, width) of the image.
        path: The file, for errors.

    Raises:
        DataError: If a shape cannot be read; names it.
    """
    groups: dict[Any, list[Union[np.ndarray, Rle]]] = {}
    said: dict[Any, dict[str, Any]] = {}
    left_out: Counter[str] = Counter()
    for index, shape in enumerate(shapes):
        where = f"{path}: shape {index}"
        label = shape.get("label") if isinstance(shape, dict) else None
        if not isinstance(label, (str, int, float)) or not str(label).strip():
            raise DataError(f"{where}: it needs a label")
        if str(label) in _NO_CLASSES:
            left_out["shapes labelled __ignore__ or _background_ left out"] += 1
            continue
        if str(shape.get("shape_type")) in _NO_AREA:
            left_out[f"shapes without area left out ({shape['shape_type']})"] += 1
            continue
        group = shape.get("group_id")
        key = (str(label), index if group is None else f"group {group}")
        groups.setdefault(key, []).append(_outline(shape, size, where))
        said.setdefault(key, {}).update(_said(shape))
    return Shapes(
        tuple(Labelled.from_outlines(key[0], parts, size, said[key]) for key, parts in groups.items()),
        left_out,
    )


def _said(shape: dict[str, Any]) -> dict[str, Any]:
    """Flags, and what AnyLabeling adds to shapes."""
    flags = shape.get("flags")
    attributes = {str(name): value for name, value in flags.items()} if isinstance(flags, dict) else {}
    attributes |= {name: True for name in ("difficult",) if shape.get(name) is True}
    score = number(shape.get("score"))
    return with_attributes({} if score is None else {"score": score}, attributes)


def _outline(shape: dict[str, Any], size: tuple[int, int], where: str) -> Union[np.ndarray, Rle]:
    kind = shape.get("shape_type") or "polygon"
    try:
        points = np.array(shape.get("points"), np.float64).reshape(-1, 2)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{where}: points are not x, y pairs") from None
    if not len(points) or not np.isfinite(points).all() or np.abs(points).max() > FARTHEST:
        raise DataError(f"{where}: it needs finite points near its image")
    if kind == "mask":
        return _bitmap(shape.get("mask"), points, size, where)
    if kind == "rectangle" and len(points) >= 2:
        low, high = points.min(axis=0), points.max(axis=0)
        return np.array([low, [high[0], low[1]], high, [low[0], high[1]]])
    if kind == "circle" and len(points) == 2:
        radius = math.dist(points[0], points[1])
        return ellipse((float(points[0][0]), float(points[0][1])), (radius, radius))
    if kind in ("polygon", "oriented_rectangle", "rotation") and len(points) >= 3:
        return points
    raise DataError(
        f"{where}: a {kind} of {len(points)} points has no area; use polygons, rectangles, circles or masks"
    )


def _bitmap(mask: Any, points: np.ndarray, size: tuple[int, int], where: str) -> Rle:
    """A mask: a PNG in base64 whose upper left pixel is at the first point."""
    import cv2

    try:
        data = np.frombuffer(base64.b64decode(mask, validate=True), np.uint8)
        picture = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except (TypeError, ValueError, binascii.Error, cv2.error):
        picture = None
    if picture is None or picture.ndim != 2 or not picture.any():
        raise DataError(f"{where}: its mask is no PNG in base64 with pixels set")
    x, y = (round(value) for value in points.min(axis=0).tolist())
    height, width = picture.shape
    if x < 0 or y < 0 or x + width > size[1] or y + height > size[0]:
        raise DataError(f"{where}: its mask leaves the image of {size[1]} x {size[0]} pixels")
    whole = np.zeros(size, np.uint8)
    whole[y : y + height, x : x + width] = picture > 0
    return encode_runs(whole)
