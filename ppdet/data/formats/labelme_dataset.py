"""labelme as a format of datasets: JSON files beside their images, or in a folder of their own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppdet.data.annotation_files import open_bytes
from ppdet.data.formats.attributes import attributes_of
from ppdet.data.formats.dataset import (
    LabelledDataset,
    ReadOptions,
    by_part,
    folders_of_parts,
    from_images,
    image_folder,
    places_near,
)
from ppdet.data.formats.fit import Part
from ppdet.data.formats.folders import read_folder, write_plain
from ppdet.data.formats.labelled import Labelled
from ppdet.data.formats.labelme import read_labelme_file
from ppdet.data.geometry import decode_runs
from ppdet.structures.detections import labelme_mask
from ppdet.utils.errors import DataError

#: Version of labelme whose files these are.
_VERSION = "5.4.1"
#: Bytes at the start and at the end of a file that tell what it is; the picture in it may be between.
_SNIFFED = 1 << 16


def recognise(source: Path) -> bool:
    """Whether a folder, or those of its parts, has labelme's files."""
    return bool(_folders(source))


def read(source: Path, options: ReadOptions) -> dict[str, LabelledDataset]:
    """Read a folder and those below it; folders named train, valid, test are its parts.

    Raises:
        DataError: If a file cannot be read; names it.
    """
    folders = _folders(source)
    if not folders:
        raise DataError(f"{source}: no JSON files of labelme")
    return by_part([(folder.name, _read_folder(folder, options)) for folder in folders])


def write(parts: Mapping[str, Part], folder: Path) -> None:
    """Write a JSON file beside the place of each image."""
    for name, part in parts.items():
        for image in part.images:
            path = folder / name / image.file_name
            content: dict[str, Any] = {
                "version": _VERSION,
                "flags": {},
                "shapes": [shape for k, item in enumerate(image.objects) for shape in _shapes(item, k)],
                "imagePath": path.name,
                "imageData": None,
                "imageHeight": image.size[0],
                "imageWidth": image.size[1],
            }
            write_plain(path.with_suffix(".json"), json.dumps(content, ensure_ascii=False, indent=1))


def _shapes(item: Labelled, number: int) -> list[dict[str, Any]]:
    """The shapes of an object; those of several parts share its number as group_id."""
    attributes = attributes_of(item.extra, ("score",))
    flags = {name: value for name, value in attributes.items() if isinstance(value, bool)}
    score = {"score": item.extra["score"]} if "score" in item.extra else {}
    common = {"label": item.name, **score, "group_id": None, "description": "", "flags": flags}
    x1, y1, x2, y2 = item.box
    rectangle = {**common, "shape_type": "rectangle", "points": [[x1, y1], [x2, y2]]}
    if isinstance(item.mask, dict):
        bitmap = decode_runs(item.mask)
        return [{**common, **labelme_mask(bitmap)}] if bitmap.any() else [rectangle]
    group = number if len(item.mask) > 1 else None
    outlines = ({"shape_type": "polygon", "points": part.tolist()} for part in item.mask)
    return [{**common, "group_id": group, **outline} for outline in outlines] or [rectangle]


def _read_folder(folder: Path, options: ReadOptions) -> LabelledDataset:
    image_dir = options.image_dir
    if image_dir is None:
        first = next(path for path in sorted(folder.glob("**/*.json")) if is_labelme_file(path))
        image_dir = image_folder([Path(read_labelme_file(first).image_path).name], places_near(folder))
    images, counts = read_folder("labelme", folder, image_dir or folder, None, negatives=True)
    return from_images(images, image_dir or folder, "labelme", counts, options.names or ())


def is_labelme_file(path: Path) -> bool:
    """Whether a JSON file looks like labelme's."""
    with open_bytes(path) as file:
        data = file.read(_SNIFFED)
        if path.stat().st_size > 2 * _SNIFFED:
            file.seek(-_SNIFFED, 2)
        data += file.read(_SNIFFED)
    return b'"shapes"' in data and b'"imagePath"' in data


def _folders(source: Path) -> list[Path]:
    parts = [folder for folder in folders_of_parts(source) if _has_files(folder)]
    return parts or ([source] if source.is_dir() and _has_files(source) else [])


def _has_files(folder: Path) -> bool:
    first = next(iter(sorted(folder.glob("*.json"))), None) or next(folder.glob("**/*.json"), None)
    return first is not None and is_labelme_file(first)
