"""CVAT's XML 1.1 "for images" as a format of datasets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from ppdet.data.annotation_files import read_xml, xml_text
from ppdet.data.formats.attributes import as_text, attributes_of, typed, with_attributes
from ppdet.data.formats.dataset import LabelledDataset, ReadOptions
from ppdet.data.formats.figures import ellipse, rectangle
from ppdet.data.formats.files import (
    FileContent,
    FileImage,
    corners,
    file_name,
    files_of,
    read_files,
    require_drawable,
)
from ppdet.data.formats.fit import Part
from ppdet.data.formats.folders import write_plain
from ppdet.data.formats.labelled import Labelled, LabelledImage
from ppdet.data.formats.values import FARTHEST, number, side
from ppdet.data.geometry import decode_runs, encode_runs
from ppdet.structures import Rle
from ppdet.utils.errors import DataError

#: Shapes that are objects; the others have no area, or are no shapes of one image.
_SHAPES = frozenset({"box", "polygon", "ellipse", "mask"})


def recognise(source: Path) -> bool:
    """Whether a path is an XML file of CVAT, or has some."""
    return bool(files_of(source, ".xml", _is_cvat))


def read(source: Path, options: ReadOptions) -> dict[str, LabelledDataset]:
    """Read a file, or those of a folder, which are its parts.

    Raises:
        DataError: If one cannot be read; names file, image and shape.
    """
    return read_files("cvat", source, files_of(source, ".xml", _is_cvat), options, _read_file)


def _is_cvat(start: bytes) -> bool:
    return b"<annotations" in start and (b"<image " in start or b"<track " in start or b"<meta" in start)


def _read_file(path: Path) -> FileContent:
    tree = read_xml(path)
    content = FileContent()
    found = (node.findtext("name") or "" for node in tree.iter("label"))
    content.names = tuple(dict.fromkeys(name for name in found if name))
    content.counts["tracks of videos left out"] += len(tree.findall("track"))
    for node in tree.iterfind("image"):
        name = node.get("name") or ""
        if not name:
            raise DataError(f"{path}: image {node.get('id')} has no name")
        size = (side(node.get("height")) or 0, side(node.get("width")) or 0)
        _read_image(node, content.image(name, size), content, f"{path}: image {name}")
    return content


def _read_image(node: Element, image: FileImage, content: FileContent, where: str) -> None:
    groups: dict[Any, list[tuple[Element, Any]]] = {}
    for index, shape in enumerate(node):
        if shape.tag not in _SHAPES:
            content.counts[f"shapes without area left out ({shape.tag})"] += 1
            continue
        label = (shape.get("label") or "").strip()
        if not label:
            raise DataError(f"{where}: {shape.tag} {index} has no label")
        outline = _outline(shape, image.size, f"{where}: {shape.tag} {index} ({label})")
        group = shape.get("group_id")
        # What CVAT groups is one instance where the shapes are masks of a class; boxes stay apart.
        grouped = group not in (None, "0") and shape.tag != "box"
        groups.setdefault((label, f"group {group}") if grouped else index, []).append((shape, outline))
    for members in groups.values():
        image.add(_united(members, image.size))


def _united(members: Sequence[tuple[Element, Any]], size: tuple[int, int]) -> Labelled:
    shape, outline = members[0]
    name, extra = (shape.get("label") or "").strip(), _extra(shape)
    if isinstance(outline, tuple):
        return Labelled(name, outline, (), extra)
    return Labelled.from_outlines(name, [one for _, one in members], size, extra)


def _extra(shape: Element) -> dict[str, Any]:
    extra: dict[str, Any] = {"occluded": 1} if shape.get("occluded") == "1" else {}
    attributes = {
        (node.get("name") or "").strip(): typed(node.text or "") for node in shape.iterfind("attribute")
    }
    attributes.pop("", None)
    return with_attributes(extra, attributes)


def _outline(shape: Element, size: tuple[int, int], where: str) -> Any:
    """x1, y1, x2, y2 of a box, a polygon ``[V, 2]``, or run lengths."""
    if shape.tag == "mask":
        return _mask(shape, size, where)
    if shape.tag == "polygon":
        pairs = [[number(v) for v in pair.split(",")] for pair in (shape.get("points") or "").split(";")]
        good = len(pairs) >= 3 and all(len(pair) == 2 and None not in pair for pair in pairs)
        points = np.array(pairs, np.float64) if good else np.zeros(0)
        if not good or np.abs(points).max() > FARTHEST:
            raise DataError(
                f"{where} has the points {(shape.get('points') or '')[:60]!r}; 3 or more x,y pairs"
            )
        return points
    keys = ("cx", "cy", "rx", "ry") if shape.tag == "ellipse" else ("xtl", "ytl", "xbr", "ybr")
    values = [number(shape.get(key)) for key in keys]
    box = corners(values)
    if box is None or max(map(abs, box)) > FARTHEST:
        raise DataError(f"{where} has {', '.join(f'{key} {shape.get(key)!r}' for key in keys)}; 4 numbers")
    turn = number(shape.get("rotation")) or 0.0
    if shape.tag == "ellipse":
        cx, cy, rx, ry = (float(value or 0) for value in values)
        return ellipse((cx, cy), (rx, ry), turn)
    return rectangle(box, turn, ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)) if turn else box


def _mask(shape: Element, size: tuple[int, int], where: str) -> Rle:
    """Run lengths row by row of a part of the image, background first."""
    left, top, width, height = (side(shape.get(key)) or 0 for key in ("left", "top", "width", "height"))
    lengths = [side(text) for text in (shape.get("rle") or "").split(",")]
    runs = np.array([value or 0 for value in lengths], np.int64)
    fits = left + width <= size[1] and top + height <= size[0]
    if None in lengths or not fits or not width or not height or runs.sum() != width * height:
        raise DataError(f"{where}: its run lengths are not those of {width} x {height} pixels of the image")
    require_drawable(size, where)
    whole = np.zeros(size, np.uint8)
    values = np.repeat(np.arange(len(runs)) % 2, runs)
    if not values.any():
        raise DataError(f"{where}: no pixel of it is set")
    whole[top : top + height, left : left + width] = values.reshape(height, width)
    return encode_runs(whole)


def write(parts: Mapping[str, Part], folder: Path) -> None:
    """Write ``<part>.xml``."""
    for name, part in parts.items():
        root = Element("annotations")
        SubElement(root, "version").text = "1.1"
        labels = SubElement(SubElement(SubElement(root, "meta"), "task"), "labels")
        for label in part.names:
            SubElement(SubElement(labels, "label"), "name").text = label
        for number_, image in enumerate(part.images):
            root.append(_image_node(image, number_))
        write_plain(folder / file_name(name, ".xml"), xml_text(root))


def _image_node(image: LabelledImage, number_: int) -> Element:
    height, width = image.size
    node = Element("image", id=str(number_), name=image.file_name, width=str(width), height=str(height))
    for group, item in enumerate(image.objects, start=1):
        for shape in _shapes(item):
            shape.set("label", item.name)
            shape.set("source", "manual")
            shape.set("occluded", str(item.extra.get("occluded", 0)))
            shape.set("z_order", "0")
            if len(item.mask) > 1 and isinstance(item.mask, tuple):
                shape.set("group_id", str(group))
            for name, value in attributes_of(item.extra, ("occluded",)).items():
                SubElement(shape, "attribute", name=name).text = as_text(value)
            node.append(shape)
    return node


def _shapes(item: Labelled) -> Iterable[Element]:
    if isinstance(item.mask, dict):
        node = _mask_node(item.mask)
        if node is not None:
            return [node]
    elif item.mask:
        return [
            Element("polygon", points=";".join(f"{x:.10g},{y:.10g}" for x, y in part.tolist()))
            for part in item.mask
        ]
    keys = ("xtl", "ytl", "xbr", "ybr")
    return [Element("box", {key: f"{value:.10g}" for key, value in zip(keys, item.box)})]


def _mask_node(mask: Rle) -> Optional[Element]:
    bitmap = decode_runs(mask)
    if not bitmap.any():
        return None
    rows, columns = (np.flatnonzero(bitmap.any(axis=axis)) for axis in (1, 0))
    cut = bitmap[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].reshape(-1)
    changes = np.flatnonzero(np.diff(cut)) + 1
    lengths = np.diff([0, *changes, len(cut)]).tolist()
    runs = ([0] if cut[0] else []) + lengths
    sides = {"left": columns[0], "top": rows[0], "width": columns[-1] - columns[0] + 1}
    sides["height"] = rows[-1] - rows[0] + 1
    return Element("mask", {"rle": ", ".join(map(str, runs)), **{k: str(int(v)) for k, v in sides.items()}})
