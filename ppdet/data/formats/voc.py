"""Reads PASCAL VOC annotations: an XML file per image, and lists of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Optional, Union
from xml.etree.ElementTree import Element

from ppdet.data.annotation_files import read_lines, read_xml
from ppdet.data.formats.attributes import typed, with_attributes
from ppdet.data.formats.values import FARTHEST, flag, number, side
from ppdet.data.image_files import IMAGE_SUFFIXES
from ppdet.data.problems import DatasetProblem
from ppdet.utils.errors import DataError

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


class VocObject(NamedTuple):
    """One object of an XML file.

    Attributes:
        name: Its class.
        box: x1, y1, x2, y2 in pixels, as written.
        difficult: Whether evaluation ignores it.
        extra: What else is said of it, as `Labelled.extra`; has `difficult` too where it is set.
    """

    name: str
    box: tuple[float, float, float, float]
    difficult: bool
    extra: Mapping[str, Any] = MappingProxyType({})


class VocImage(NamedTuple):
    """One XML file.

    Attributes:
        size: (height, width) as written; 0 where unknown.
        objects: Those that are in order.
        problems: What is wrong with the others, and with the size.
    """

    size: tuple[int, int]
    objects: list[VocObject]
    problems: list[DatasetProblem]


def parse_voc(path: Path) -> VocImage:
    """Read one XML file.

    Raises:
        DataError: If it cannot be read, or is no XML.
    """
    tree = read_xml(path)
    problems: list[DatasetProblem] = []
    written = [tree.findtext(f"size/{key}") for key in ("height", "width")]
    height, width = (side(text) for text in written)
    if height is None or width is None:
        text = f"{path}: size has height {written[0]!r} and width {written[1]!r}"
        problems.append(DatasetProblem("image-size", text))
        height = width = 0
    objects = []
    for index, item in enumerate(tree.iter("object")):
        parsed = _read_object(item, f"{path}: object {index}")
        if isinstance(parsed, VocObject):
            objects.append(parsed)
        else:
            problems.append(parsed)
    return VocImage((height, width), objects, problems)


def _read_object(item: Element, where: str) -> Union[VocObject, DatasetProblem]:
    name = (item.findtext("name") or "").strip()
    where += f" ({name})"
    if not name:
        return DatasetProblem("class-unlisted", f"{where} has no name")
    if item.find("bndbox") is None:
        return DatasetProblem("box-invalid", f"{where} has no bndbox")
    written = [item.findtext(f"bndbox/{key}") for key in _CORNERS]
    corners = [value for value in map(number, written) if value is not None and abs(value) <= FARTHEST * 1000]
    if len(corners) != len(_CORNERS):
        shown = ", ".join(f"{key} {text!r}" for key, text in zip(_CORNERS, written))
        return DatasetProblem("box-invalid", f"{where} has bndbox {shown}")
    difficult = flag(item.findtext("difficult"))
    if difficult is None:
        return DatasetProblem("flag-invalid", f"{where} has difficult {item.findtext('difficult')!r}")
    box = (corners[0], corners[1], corners[2], corners[3])
    return VocObject(name, box, difficult, _extra(item, difficult))


def _extra(item: Element, difficult: bool) -> dict[str, Any]:
    extra: dict[str, Any] = {"difficult": 1} if difficult else {}
    # "Unspecified" and the like are no flag: nothing is said then.
    extra |= {key: 1 for key in ("truncated", "occluded") if flag(item.findtext(key))}
    attributes = {
        (pair.findtext("name") or "").strip(): typed(pair.findtext("value") or "")
        for pair in item.iterfind("attributes/attribute")
    }
    attributes.pop("", None)
    pose = (item.findtext("pose") or "").strip()
    if pose and pose.lower() != "unspecified":
        attributes["pose"] = pose
    return with_attributes(extra, attributes)


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Image and XML file of every line of a list; both names may have blanks.

    Raises:
        DataError: If a line does not name two files.
    """
    pairs = []
    for index, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        pair = split_pair(line.strip())
        if pair is None:
            raise DataError(f"{path}:{index}: an image and an XML file, separated by a space, not {line!r}")
        pairs.append((pair[0].replace("\\", "/"), pair[1].replace("\\", "/")))
    if not pairs:
        raise DataError(f"{path}: the list is empty; write an image and its XML file on every line")
    return pairs


def split_pair(line: str) -> Optional[tuple[str, str]]:
    """The two names of a line: apart where an image's suffix ends, or where the only blanks are."""
    words = line.split()
    if len(words) == 2:
        return words[0], words[1]
    places = [
        (line[: gap.start()], line[gap.end() :])
        for gap in re.finditer(r"\s+", line)
        if Path(line[: gap.start()]).suffix.lower() in IMAGE_SUFFIXES
        and line[gap.end() :].lower().endswith(".xml")
    ]
    return places[0] if len(places) == 1 else None


def ordered(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """A box x1, y1, x2, y2 with its corners in the right order."""
    x1, y1, x2, y2 = box
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)
