"""VGG Image Annotator's files as a format of datasets: JSON of version 2 and 3, and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np

from ppdet.data.annotation_files import read_json, read_text
from ppdet.data.formats.attributes import as_text, attributes_of, typed, with_attributes
from ppdet.data.formats.dataset import LabelledDataset, ReadOptions
from ppdet.data.formats.figures import ellipse
from ppdet.data.formats.files import FileContent, corners, file_name, files_of, read_files
from ppdet.data.formats.fit import Part
from ppdet.data.formats.folders import write_plain
from ppdet.data.formats.labelled import Labelled, LabelledImage
from ppdet.data.formats.values import FARTHEST, number, shown
from ppdet.utils.errors import DataError

#: Attributes that hold the class, the first that occurs.
_CLASS_NAMES = ("label", "class", "name", "type", "category", "object", "species")
#: Figures by their numbers in version 3.
_FIGURES = {1: "point", 2: "rect", 3: "circle", 4: "ellipse", 5: "line", 6: "polyline", 7: "polygon"}
#: Numbers of the figures that are no lists of points.
_NUMBERS = {
    "rect": ("x", "y", "width", "height"),
    "circle": ("cx", "cy", "r"),
    "ellipse": ("cx", "cy", "rx", "ry"),
}
_CSV = ["#filename", "file_size", "file_attributes", "region_count", "region_id"]
_CSV += ["region_shape_attributes", "region_attributes"]


class Region(NamedTuple):
    """A region: its image, its number for messages, its figure, and what is said of it."""

    image: str
    number: int
    shape: Mapping[str, Any]
    attributes: Mapping[str, Any]


def recognise(source: Path) -> bool:
    """Whether a path is a JSON file of VIA, or has some."""
    return bool(files_of(source, ".json", _is_json))


def recognise_third(source: Path) -> bool:
    """Whether a path is a JSON file of VIA 3, or has some."""
    return bool(files_of(source, ".json", _is_third))


def recognise_csv(source: Path) -> bool:
    """Whether a path is a CSV file of VIA, or has some."""
    return bool(files_of(source, ".csv", _is_csv))


def read(source: Path, options: ReadOptions) -> dict[str, LabelledDataset]:
    """Read a JSON file, or those of a folder, which are its parts.

    Raises:
        DataError: If one cannot be read; names file, image and region.
    """
    return read_files("via", source, files_of(source, ".json", _is_json), options, _read_json)


def read_third(source: Path, options: ReadOptions) -> dict[str, LabelledDataset]:
    """Read a JSON file of VIA 3, or those of a folder; as `read`."""
    return read_files("via3", source, files_of(source, ".json", _is_third), options, _read_json)


def read_csv(source: Path, options: ReadOptions) -> dict[str, LabelledDataset]:
    """Read a CSV file, or those of a folder; as `read`."""
    return read_files("via-csv", source, files_of(source, ".csv", _is_csv), options, _read_csv)


def _is_json(start: bytes) -> bool:
    return b'"_via_' in start or b'"shape_attributes"' in start


def _is_third(start: bytes) -> bool:
    return b'"data_format_version"' in start and b'"vid_list"' in start


def _is_csv(start: bytes) -> bool:
    return b"region_shape_attributes" in start


def _read_json(path: Path) -> FileContent:
    content = FileContent()
    whole = read_json(path)
    if "_via_img_metadata" not in whole and "view" in whole and "metadata" in whole:
        regions = _third_version(whole, content, path)
    else:
        regions = _second_version(whole.get("_via_img_metadata", whole), content, path)
        settings = _members(whole.get("_via_attributes"), path, "_via_attributes")
        table = _members(settings.get("region"), path, "region")
        content.names = _options(
            {name: _members(row.get("options"), path, name) for name, row in table.items()}
        )
    _add(list(regions), content, path)
    return content


def _members(value: Any, path: Path, what: str) -> dict[str, dict[str, Any]]:
    """The members of an object or a list, by key; those that are no objects are taken as empty ones.

    Raises:
        DataError: If the value is neither, nor left out.
    """
    if value is None:
        return {}
    if not isinstance(value, (dict, list)):
        raise DataError(f"{path}: {what!r} is {shown(value)}; it is an object")
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    return {str(key): row if isinstance(row, dict) else {} for key, row in pairs}


def _second_version(files: Any, content: FileContent, path: Path) -> Iterator[Region]:
    for entry in _members(files, path, "_via_img_metadata").values():
        name = entry.get("filename")
        if not isinstance(name, str) or not name:
            continue
        content.image(name)
        for index, region in enumerate(_members(entry.get("regions"), path, f"regions of {name}").values()):
            said = (region.get("shape_attributes"), region.get("region_attributes"))
            shape, attributes = (value if isinstance(value, dict) else {} for value in said)
            yield Region(name, index, shape, attributes)


def _third_version(whole: dict[str, Any], content: FileContent, path: Path) -> Iterator[Region]:
    tables = {key: _members(whole.get(key), path, key) for key in ("file", "view", "attribute", "metadata")}
    files = {key: row.get("fname") for key, row in tables["file"].items()}
    views = {}
    for key, row in tables["view"].items():
        listed = row.get("fid_list")
        name = files.get(str(listed[0])) if isinstance(listed, list) and listed else None
        if isinstance(name, str) and name:
            views[key] = name
            content.image(name)
    titles = {key: str(row.get("aname", key)) for key, row in tables["attribute"].items()}
    options = {
        key: row["options"]
        for key, row in tables["attribute"].items()
        if isinstance(row.get("options"), dict)
    }
    content.names = _options({titles[key]: values.values() for key, values in options.items()})
    for index, row in enumerate(tables["metadata"].values()):
        name, xy, values = views.get(str(row.get("vid"))), row.get("xy"), row.get("av")
        if name is None or not isinstance(xy, list) or not xy:
            continue  # what is said of a file or of a time, not of a region
        said = {
            titles.get(str(key), str(key)): options.get(str(key), {}).get(str(value), value)
            for key, value in (values.items() if isinstance(values, dict) else ())
        }
        yield Region(name, index, _third_figure(xy), said)


def _third_figure(xy: Sequence[Any]) -> dict[str, Any]:
    """A figure of version 3 with the keys of version 2."""
    kind = _FIGURES.get(xy[0] if isinstance(xy[0], int) else 0, "unknown")
    values = list(xy[1:])
    if kind in _NUMBERS:
        return {"name": kind, **dict(zip(_NUMBERS[kind], values))}
    return {"name": kind, "all_points_x": values[::2], "all_points_y": values[1::2]}


def _read_csv(path: Path) -> FileContent:
    content = FileContent()
    regions = []
    for number_, row in enumerate(csv.DictReader(io.StringIO(read_text(path))), start=2):
        name = row.get("filename") or row.get("#filename") or ""
        if not name:
            continue
        content.image(name)
        try:
            shape, attributes = (
                json.loads(row.get(key) or "{}") for key in ("region_shape_attributes", "region_attributes")
            )
        except ValueError as error:
            raise DataError(f"{path}:{number_}: not valid JSON in it: {error}") from None
        if isinstance(shape, dict) and isinstance(attributes, dict) and shape:
            regions.append(Region(name, number_, shape, attributes))
    _add(regions, content, path)
    return content


def _options(options: Mapping[str, Iterable[Any]]) -> Sequence[str]:
    """The classes: what may be chosen for the attribute that holds them."""
    found = next((options[name] for name in _CLASS_NAMES if name in options), ())
    return tuple(str(option) for option in found if str(option).strip())


def _add(regions: Sequence[Region], content: FileContent, path: Path) -> None:
    key = _class_key(regions, path)
    for region in regions:
        where = f"{path}: image {region.image}, region {region.number}"
        kind = region.shape.get("name")
        if kind in ("point", "line", "polyline"):
            content.counts[f"shapes without area left out ({kind})"] += 1
            continue
        label = _text(region.attributes.get(key))
        if not label.strip():
            raise DataError(f"{where}: its {key!r}, which holds the class, is empty")
        others = {
            str(name): typed(_text(value))
            for name, value in region.attributes.items()
            if name != key and _text(value) != ""
        }
        content.image(region.image).add(_labelled(region.shape, label, with_attributes({}, others), where))


def _class_key(regions: Sequence[Region], path: Path) -> str:
    """The attribute that holds the class."""
    known = {name.lower(): name for region in regions for name in region.attributes}
    for name in _CLASS_NAMES:
        if name in known:
            return known[name]
    if len(known) > 1 or (regions and not known):
        raise DataError(
            f"{path}: regions have the attributes {', '.join(sorted(known)) or '(none)'}; call the one with "
            "the class label"
        )
    return next(iter(known.values()), "")


def _text(value: Any) -> str:
    """A value as text; of check boxes, the one that is set."""
    if isinstance(value, dict):
        return ", ".join(str(key) for key, is_set in value.items() if is_set)
    return as_text(value) if isinstance(value, (bool, int, float, str)) else ""


def _labelled(shape: Mapping[str, Any], label: str, extra: dict[str, Any], where: str) -> Labelled:
    kind = shape.get("name")
    if kind in ("polygon", "polyline"):
        x, y = shape.get("all_points_x"), shape.get("all_points_y")
        try:
            points = np.stack([np.array(x, np.float64), np.array(y, np.float64)], axis=1)
        except (TypeError, ValueError, OverflowError):
            points = np.zeros((0, 2))
        if points.ndim != 2 or len(points) < 3 or not np.abs(points).max() <= FARTHEST:
            raise DataError(f"{where}: a polygon needs 3 or more x, y pairs")
        return Labelled.from_parts(label, [points], extra)
    values = {key: number(value) for key, value in shape.items() if key not in ("name", "theta")}
    if any(value is not None and abs(value) > FARTHEST for value in values.values()):
        raise DataError(f"{where}: numbers far outside of any image")
    if kind == "rect":
        x1, y1, width, height = (values.get(key) for key in ("x", "y", "width", "height"))
        ends = (None if a is None or b is None else a + b for a, b in ((x1, width), (y1, height)))
        box = corners([x1, y1, *ends])
        if box is not None:
            return Labelled(label, box, (), extra)
    centre, radius = (values.get("cx"), values.get("cy")), values.get("r")
    radii = (radius, radius) if kind == "circle" else (values.get("rx"), values.get("ry"))
    if kind not in ("circle", "ellipse") or None in (*centre, *radii):
        raise DataError(f"{where}: {kind!r} with {dict(shape)!r:.80} is no figure with all of its numbers")
    turn = np.rad2deg(number(shape.get("theta")) or 0.0)
    middle, sides = ((float(a or 0), float(b or 0)) for a, b in (centre, radii))
    return Labelled.from_parts(label, [ellipse(middle, sides, float(turn))], extra)


def write(parts: Mapping[str, Part], folder: Path) -> None:
    """Write a project of version 2 for each part: ``<part>.json``."""
    for name, part in parts.items():
        files = {}
        for image in part.images:
            regions = [
                {"shape_attributes": _figure(item), "region_attributes": _said(item)}
                for item in image.objects
            ]
            row = {"filename": image.file_name, "size": -1, "regions": regions, "file_attributes": {}}
            files[f"{image.file_name}-1"] = row
        options = dict.fromkeys(part.names, "")
        label = {"type": "dropdown", "description": "", "options": options, "default_options": {}}
        content = {
            "_via_settings": {
                "ui": {},
                "core": {"default_filepath": f"{part.folder}/" if part.folder else ""},
                "project": {"name": name or "annotations"},
            },
            "_via_img_metadata": files,
            "_via_attributes": {"region": {"label": label}, "file": {}},
            "_via_data_format_version": "2.0.10",
            "_via_image_id_list": list(files),
        }
        write_plain(folder / file_name(name, ".json"), json.dumps(content, ensure_ascii=False))


def write_third(parts: Mapping[str, Part], folder: Path) -> None:
    """Write a project of version 3 for each part: ``<part>.json``."""
    for name, part in parts.items():
        files, views, metadata = {}, {}, {}
        keys: dict[str, str] = {"label": "1"}
        option_of = {label: str(k) for k, label in enumerate(part.names)}
        for number_, image in enumerate(part.images, start=1):
            key = str(number_)
            source = f"{part.folder}/{image.file_name}" if part.folder else image.file_name
            files[key] = {"fid": key, "fname": image.file_name, "type": 2, "loc": 3, "src": source}
            views[key] = {"fid_list": [key]}
            for k, item in enumerate(image.objects):
                said = {keys.setdefault(n, str(len(keys) + 1)): v for n, v in _said(item).items()}
                said["1"] = option_of[item.name]
                metadata[f"{key}_{k}"] = {"vid": key, "flg": 0, "z": [], "xy": _third_xy(item), "av": said}
        attributes = {
            key: {"aname": title, "anchor_id": "FILE1_Z0_XY1", "type": 1, "desc": "", "options": {}}
            for title, key in keys.items()
        }
        attributes["1"] |= {"type": 4, "options": {key: label for label, key in option_of.items()}}
        project = {"pid": "__VIA_PROJECT_ID__", "data_format_version": "3.1.1", "vid_list": list(views)}
        content: dict[str, Any] = {"project": {**project, "pname": name or "annotations"}, "config": {}}
        content |= {"attribute": attributes, "file": files, "metadata": metadata, "view": views}
        write_plain(folder / file_name(name, ".json"), json.dumps(content, ensure_ascii=False))


def write_csv(parts: Mapping[str, Part], folder: Path) -> None:
    """Write ``<part>.csv``."""
    for name, part in parts.items():
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_CSV)
        for image in part.images:
            writer.writerows(_rows(image))
        write_plain(folder / file_name(name, ".csv"), text.getvalue())


def _rows(image: LabelledImage) -> Iterator[list[Any]]:
    count = len(image.objects)
    if not count:
        yield [image.file_name, -1, "{}", 0, 0, "{}", "{}"]
    for index, item in enumerate(image.objects):
        figure, said = (json.dumps(v, ensure_ascii=False) for v in (_figure(item), _said(item)))
        yield [image.file_name, -1, "{}", count, index, figure, said]


def _said(item: Labelled) -> dict[str, str]:
    attributes = {name: as_text(value) for name, value in attributes_of(item.extra).items()}
    return {**attributes, "label": item.name}


def _figure(item: Labelled) -> dict[str, Any]:
    polygon = _polygon(item)
    if polygon is not None:
        return {
            "name": "polygon",
            "all_points_x": polygon[:, 0].tolist(),
            "all_points_y": polygon[:, 1].tolist(),
        }
    x1, y1, x2, y2 = item.box
    return {"name": "rect", "x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}


def _third_xy(item: Labelled) -> list[float]:
    polygon = _polygon(item)
    x1, y1, x2, y2 = item.box
    return [2, x1, y1, x2 - x1, y2 - y1] if polygon is None else [7, *polygon.reshape(-1).tolist()]


def _polygon(item: Labelled) -> Optional[np.ndarray]:
    return item.mask[0] if isinstance(item.mask, tuple) and item.mask else None
