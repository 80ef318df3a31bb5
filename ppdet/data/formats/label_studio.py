"""Label Studio's JSON as a format of datasets: rectangles, polygons, ellipses, and brushes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Optional
from urllib.parse import parse_qs, quote, unquote, urlsplit

import numpy as np

from ppdet.data.annotation_files import read_text
from ppdet.data.formats.brush import decode_brush, encode_brush
from ppdet.data.formats.dataset import LabelledDataset, ReadOptions
from ppdet.data.formats.figures import ellipse, rectangle
from ppdet.data.formats.files import FileContent, FileImage, file_name, files_of, read_files, require_drawable
from ppdet.data.formats.fit import Part
from ppdet.data.formats.folders import write_plain
from ppdet.data.formats.labelled import Labelled, LabelledImage
from ppdet.data.formats.values import FARTHEST, number, side
from ppdet.data.geometry import decode_runs, encode_runs
from ppdet.data.image_files import IMAGE_SUFFIXES
from ppdet.utils.errors import DataError

#: Key of the class names in a region's value -> what has so many numbers.
_FIGURES = {"rectangle": ("x", "y", "width", "height"), "ellipse": ("x", "y", "radiusX", "radiusY")}
#: Where Label Studio serves files of its own machine.
_SERVED = "/".join(("", "data", "local-files", "?d="))
#: What Label Studio puts in front of the names of uploaded files.
_UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")


def recognise(source: Path) -> bool:
    """Whether a path is an export of Label Studio, or has some."""
    return bool(files_of(source, ".json", _is_export))


def read(source: Path, options: ReadOptions) -> dict[str, LabelledDataset]:
    """Read a file, or those of a folder, which are its parts.

    Raises:
        DataError: If one cannot be read; names file, task and region.
    """
    return read_files("label-studio", source, files_of(source, ".json", _is_export), options, _read_file)


def _is_export(start: bytes) -> bool:
    return start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[") and (
        b'"data"' in start and any(key in start for key in (b'"annotations"', b'"predictions"', b'"result"'))
    )


def _read_file(path: Path) -> FileContent:
    try:
        tasks = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON: {error}") from None
    content = FileContent()
    for index, task in enumerate(tasks if isinstance(tasks, list) else ()):
        where = f"{path}: task {task.get('id', index) if isinstance(task, dict) else index}"
        name = _image_name(task)
        if name is None:
            raise DataError(f"{where}: its data names no image")
        regions = _regions(task, content)
        sizes = (
            (side(region.get("original_height")) or 0, side(region.get("original_width")) or 0)
            for region in regions
        )
        image = content.image(name, next((size for size in sizes if 0 not in size), (0, 0)))
        _read_regions(regions, image, content, where)
    return content


def _image_name(task: Any) -> Optional[str]:
    """The file that a task is about: of the address, what is below its root."""
    data = task.get("data") if isinstance(task, dict) else None
    for value in data.values() if isinstance(data, dict) else ():
        if not isinstance(value, str):
            continue
        address = urlsplit(value)
        local = parse_qs(address.query).get("d")
        text = local[0] if local else value if not address.scheme or "\\" in value else address.path
        text = unquote(text) if address.scheme else text
        if Path(text).suffix.lower() not in IMAGE_SUFFIXES:
            continue
        uploaded = "/upload/" in text or address.scheme in ("s3", "gs", "http", "https", "azure-blob")
        return _UPLOADED.sub("", text.rsplit("/", 1)[-1]) if uploaded else text.lstrip("/")
    return None


def _regions(task: dict[str, Any], content: FileContent) -> list[dict[str, Any]]:
    """The regions of the first annotation that was not cancelled, or else of the first prediction."""
    made = [
        item for item in task.get("annotations") or task.get("completions") or () if isinstance(item, dict)
    ]
    kept = [item for item in made if not item.get("was_cancelled")]
    content.counts["cancelled annotations left out"] += len(made) - len(kept)
    content.counts["annotations of further people left out"] += max(0, len(kept) - 1)
    if not kept:
        kept = [item for item in task.get("predictions") or () if isinstance(item, dict)]
        content.counts["images with predictions of a model only, taken as annotations"] += bool(kept)
    return [row for item in kept[:1] for row in item.get("result") or () if isinstance(row, dict)]


def _read_regions(regions: list[dict[str, Any]], image: FileImage, content: FileContent, where: str) -> None:
    labels = {str(region.get("id")): label for region in regions if (label := _label(region))}
    for index, region in enumerate(regions):
        value = region.get("value")
        kind = str(region.get("type", "")).replace("labels", "")
        if not isinstance(value, dict) or kind not in ("rectangle", "polygon", "ellipse", "brush"):
            if kind:  # "labels" alone name the class of another region
                content.counts[f"regions of other kinds left out ({kind})"] += 1
            continue
        label = _label(region) or labels.get(str(region.get("id")))
        if label is None:
            content.counts["regions without label left out"] += 1
            continue
        score = number(region.get("score"))
        extra = {} if score is None else {"score": score}
        place = f"{where}: region {region.get('id', index)} ({label})"
        image.objects.append(partial(_labelled, kind, value, label, extra, place))


def _label(region: dict[str, Any]) -> Optional[str]:
    value = region.get("value")
    for key, names in value.items() if isinstance(value, dict) else ():
        if key.endswith("labels") and isinstance(names, list) and names and str(names[0]).strip():
            return str(names[0])
    return None


def _labelled(
    kind: str, value: dict[str, Any], label: str, extra: dict[str, Any], where: str, size: tuple[int, int]
) -> Labelled:
    """An object from percents of the image's sides."""
    height, width = size
    if kind == "brush":
        return Labelled.from_outlines(label, [encode_runs(_bitmap(value, size, where))], size, extra)
    scale = np.array([width, height]) / 100
    if kind == "polygon":
        try:
            points = np.array(value.get("points"), np.float64).reshape(-1, 2) * scale
        except (TypeError, ValueError, OverflowError):
            points = np.zeros((0, 2))
        if len(points) < 3 or not np.isfinite(points).all() or np.abs(points).max() > FARTHEST:
            raise DataError(f"{where}: points are not 3 or more x, y pairs")
        return Labelled.from_parts(label, [points], extra)
    numbers = [number(value.get(key)) for key in _FIGURES[kind]]
    x, y, across, along = (v or 0.0 for v in numbers)
    if None in numbers or max(abs(x), abs(y), abs(across), abs(along)) > FARTHEST:
        raise DataError(f"{where}: it needs {', '.join(_FIGURES[kind])} in percent")
    x, y, across, along = (v * s for v, s in zip((x, y, across, along), (*scale, *scale)))
    turn = number(value.get("rotation")) or 0.0
    if kind == "ellipse":
        return Labelled.from_parts(label, [ellipse((x, y), (across, along), turn)], extra)
    box = (min(x, x + across), min(y, y + along), max(x, x + across), max(y, y + along))
    return (
        Labelled.from_parts(label, [rectangle(box, turn, (x, y))], extra)
        if turn
        else Labelled(label, box, (), extra)
    )


def _bitmap(value: dict[str, Any], size: tuple[int, int], where: str) -> np.ndarray:
    require_drawable(size, where)
    try:
        data = bytes(value.get("rle") or ())
    except (TypeError, ValueError):
        data = b""
    bitmap = decode_brush(data, size)
    if bitmap is None or not bitmap.any():
        raise DataError(f"{where}: its rle is no mask of {size[1]} x {size[0]} pixels with pixels set")
    return bitmap


def write(parts: Mapping[str, Part], folder: Path) -> None:
    """Write ``<part>.json``; images are addressed as files that Label Studio serves from the folder."""
    for name, part in parts.items():
        tasks = [_task(image, part.folder, number_) for number_, image in enumerate(part.images, start=1)]
        write_plain(folder / file_name(name, ".json"), json.dumps(tasks, ensure_ascii=False))


def _task(image: LabelledImage, folder: str, number_: int) -> dict[str, Any]:
    place = f"{folder}/{image.file_name}" if folder else image.file_name
    regions = [_region(item, image.size, f"{number_}-{k}") for k, item in enumerate(image.objects)]
    return {
        "id": number_,
        "data": {"image": _SERVED + quote(place, safe="/")},
        "annotations": [{"id": number_, "was_cancelled": False, "result": regions}],
    }


def _region(item: Labelled, size: tuple[int, int], id_: str) -> dict[str, Any]:
    height, width = size
    x1, y1, x2, y2 = item.box
    value: dict[str, Any] = {
        "x": 100 * x1 / width,
        "y": 100 * y1 / height,
        "width": 100 * (x2 - x1) / width,
        "height": 100 * (y2 - y1) / height,
        "rotation": 0,
    }
    kind = "rectangle"
    if isinstance(item.mask, dict):
        bitmap = decode_runs(item.mask)
        if bitmap.any():
            kind, value = "brush", {"format": "rle", "rle": list(encode_brush(bitmap))}
    elif item.mask:
        kind, value = "polygon", {"points": (item.mask[0] * 100 / np.array([width, height])).tolist()}
    score = {"score": item.extra["score"]} if "score" in item.extra else {}
    return {
        "id": id_,
        "type": f"{kind}labels",
        "from_name": "label",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {**value, f"{kind}labels": [item.name]},
        **score,
    }
