"""Other annotation formats to COCO's. Nothing is dropped: what cannot be read is an error by file and line.

Corners in the wrong order are put right. Boxes keep their values; VOC's are taken as written (see
`VOCDataSet`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np

from ppdet.data.annotation_files import read_json, read_lines, require_folder
from ppdet.data.datasets.image_folder import find_images
from ppdet.data.datasets.voc import parse_voc
from ppdet.data.transforms.decode import read_image
from ppdet.structures import Polygons
from ppdet.utils.errors import DataError

#: Corners of the polygon that stands for a circle of labelme.
_CIRCLE_CORNERS = 48


@dataclass(frozen=True)
class Labelled:
    """One object: class name, x1 y1 x2 y2 in pixels, and polygons if it has a mask."""

    name: str
    box: tuple[float, float, float, float]
    polygons: Polygons = ()


@dataclass(frozen=True)
class LabelledImage:
    """One image: its path inside the image folder, (height, width), and its objects."""

    file_name: str
    size: tuple[int, int]
    objects: tuple[Labelled, ...]


def to_coco(images: Iterable[LabelledImage], names: Sequence[str] = ()) -> dict[str, Any]:
    """The content of a COCO annotation file.

    Args:
        images: Images in the order of their ids, from 1.
        names: Classes in the order of their ids, from 1; none: the names that occur, sorted.

    Raises:
        DataError: If an object has a name that `names` has not.
    """
    listed = list(images)
    found = {item.name for image in listed for item in image.objects}
    table = {name: number for number, name in enumerate(names or sorted(found), start=1)}
    unknown = sorted(found - set(table))
    if unknown:
        raise DataError(
            f"classes that are not in the list: {', '.join(unknown)}; there are {', '.join(table)}"
        )
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(listed, start=1):
        for item in image.objects:
            annotation = _annotation(item, table[item.name])
            annotations.append({"id": len(annotations) + 1, "image_id": number, **annotation})
    return {
        "images": [
            {"id": number, "file_name": image.file_name, "height": image.size[0], "width": image.size[1]}
            for number, image in enumerate(listed, start=1)
        ],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in table.items()],
    }


def _annotation(item: Labelled, category: int) -> dict[str, Any]:
    x1, y1, x2, y2 = item.box
    area = sum(polygon_area(part) for part in item.polygons) if item.polygons else (x2 - x1) * (y2 - y1)
    return {
        "category_id": category,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": area,
        "iscrowd": 0,
        "segmentation": [[float(v) for v in part.reshape(-1)] for part in item.polygons],
    }


def polygon_area(points: np.ndarray) -> float:
    """Area of a polygon ``[V, 2]`` in square pixels (shoelace formula)."""
    x, y = points.astype(np.float64).T
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2


def read_voc(annotation_dir: Path, image_dir: Path) -> list[LabelledImage]:
    """VOC: an XML file per image, of the same name. Images without one have no objects."""
    require_folder(annotation_dir, "annotation folder")
    images = []
    for path in find_images(image_dir):
        name = Path(path).relative_to(image_dir)
        xml = annotation_dir / name.with_suffix(".xml")
        objects: list[Labelled] = []
        size = (0, 0)
        if xml.is_file():
            parsed = parse_voc(xml)
            size = parsed.size
            objects = [Labelled(item.name, ordered(item.box)) for item in parsed.objects]
        images.append(LabelledImage(name.as_posix(), _size(path, size), tuple(objects)))
    _require_all_used(annotation_dir, ".xml", {Path(image.file_name).stem for image in images})
    return images


def read_yolo(label_dir: Path, image_dir: Path, names: Sequence[str]) -> list[LabelledImage]:
    """YOLO: a text file per image, of the same name; a line is a class number and a box or a polygon.

    Numbers are shares of the image's width and height: centre x, centre y, width, height, or x, y pairs.
    """
    require_folder(label_dir, "label folder")
    images = []
    for path in find_images(image_dir):
        name = Path(path).relative_to(image_dir)
        size = _size(path, (0, 0))
        labels = label_dir / name.with_suffix(".txt")
        lines = read_lines(labels) if labels.is_file() else []
        objects = tuple(
            _yolo_object(line, size, names, f"{labels}:{number}")
            for number, line in enumerate(lines, start=1)
            if line.strip()
        )
        images.append(LabelledImage(name.as_posix(), size, objects))
    _require_all_used(label_dir, ".txt", {Path(i.file_name).stem for i in images} | {"classes"})
    return images


def _yolo_object(line: str, size: tuple[int, int], names: Sequence[str], where: str) -> Labelled:
    words = line.split()
    try:
        label, values = int(words[0]), np.array([float(word) for word in words[1:]])
    except ValueError as error:
        raise DataError(f"{where}: {error}: a line is a class number and numbers") from None
    if not 0 <= label < len(names):
        raise DataError(f"{where}: class number {label}, the list has {len(names)} classes")
    if not np.isfinite(values).all():
        raise DataError(f"{where}: {line.strip()!r} has numbers that are not finite")
    height, width = size
    if len(values) == 4:
        x, y, w, h = values * [width, height, width, height]
        return Labelled(names[label], ordered((x - w / 2, y - h / 2, x + w / 2, y + h / 2)))
    if len(values) < 6 or len(values) % 2:
        raise DataError(f"{where}: 4 numbers for a box or 3 or more pairs for a polygon, not {len(values)}")
    return _from_polygon(names[label], values.reshape(-1, 2) * [width, height])


def read_labelme(annotation_dir: Path, image_dir: Path) -> list[LabelledImage]:
    """labelme: a JSON file per image, with polygons, rectangles and circles."""
    require_folder(annotation_dir, "annotation folder")
    images = []
    for path in sorted(annotation_dir.rglob("*.json")):
        content = read_json(path)
        name = str(content.get("imagePath") or "").replace("\\", "/").rpartition("/")[2]
        if not (image_dir / name).is_file():
            raise DataError(f"{path}: its image {name!r} is not in {image_dir}")
        size = (int(content.get("imageHeight") or 0), int(content.get("imageWidth") or 0))
        objects = tuple(
            _labelme_object(shape, f"{path}: shape {number}")
            for number, shape in enumerate(content.get("shapes") or [])
        )
        images.append(LabelledImage(name, _size(str(image_dir / name), size), objects))
    if not images:
        raise DataError(f"{annotation_dir}: no JSON files in it or below")
    return images


def _labelme_object(shape: dict[str, Any], where: str) -> Labelled:
    kind, name = shape.get("shape_type", "polygon"), str(shape.get("label", ""))
    try:
        points = np.array(shape.get("points"), np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        raise DataError(f"{where}: points are not x, y pairs") from None
    if not name or not np.isfinite(points).all():
        raise DataError(f"{where}: it needs a label and finite points")
    if kind == "rectangle" and len(points) >= 2:
        low, high = points.min(axis=0), points.max(axis=0)
        return _from_polygon(name, np.array([low, [high[0], low[1]], high, [low[0], high[1]]]))
    if kind == "circle" and len(points) == 2:
        angles = np.linspace(0, 2 * np.pi, _CIRCLE_CORNERS, endpoint=False)
        radius = math.dist(points[0], points[1])
        return _from_polygon(name, points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1))
    if kind == "polygon" and len(points) >= 3:
        return _from_polygon(name, points)
    raise DataError(
        f"{where}: a {kind} of {len(points)} points has no area; use polygons, rectangles or circles"
    )


def _from_polygon(name: str, points: np.ndarray) -> Labelled:
    low, high = points.min(axis=0), points.max(axis=0)
    return Labelled(name, (float(low[0]), float(low[1]), float(high[0]), float(high[1])), (points,))


def ordered(box: Sequence[float]) -> tuple[float, float, float, float]:
    """A box with its corners in the right order."""
    (x1, x2), (y1, y2) = sorted(box[::2]), sorted(box[1::2])
    return float(x1), float(y1), float(x2), float(y2)


def _size(path: str, known: tuple[int, int]) -> tuple[int, int]:
    if 0 not in known:
        return known
    image = read_image(path)
    return image.shape[0], image.shape[1]


def _require_all_used(folder: Path, suffix: str, stems: set[str]) -> None:
    """An annotation without image is a mistake in the folders, not one to pass over."""
    lost = sorted(path.name for path in folder.rglob(f"*{suffix}") if path.stem not in stems)
    if lost:
        raise DataError(f"{folder}: {len(lost)} files belong to no image, first {lost[0]}")


def write_coco(path: Path, content: dict[str, Any]) -> None:
    """Write an annotation file; makes its folder.

    Raises:
        DataError: If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from None


def convert(
    kind: str, annotation_dir: Path, image_dir: Path, names: Optional[Sequence[str]]
) -> dict[str, Any]:
    """Read a dataset of another format as the content of a COCO annotation file.

    Args:
        kind: ``voc``, ``yolo`` or ``labelme``.
        annotation_dir: Folder of its annotation files.
        image_dir: Folder of its images.
        names: Classes in order; needed for YOLO, whose files have numbers only.

    Raises:
        DataError: If anything cannot be read; names file and line or object.
    """
    if kind == "yolo":
        if not names:
            raise DataError("YOLO files have class numbers only: give a list of class names (--label_list)")
        return to_coco(read_yolo(annotation_dir, image_dir, names), names)
    read = {"voc": read_voc, "labelme": read_labelme}[kind]
    return to_coco(read(annotation_dir, image_dir), names or ())
