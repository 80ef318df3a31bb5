"""COCO as a format of datasets: annotation files, folders of them, and Roboflow's COCO export."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ppdet.data.annotation_files import open_bytes
from ppdet.data.datasets.cache import collector_paused
from ppdet.data.formats.coco import parse_coco
from ppdet.data.formats.dataset import (
    LabelledDataset,
    ReadOptions,
    by_part,
    folders_of_parts,
    image_folder,
    part_name,
    places_near,
)
from ppdet.data.formats.fit import Part
from ppdet.data.image_files import resolve_file
from ppdet.data.json_stream import stream_json
from ppdet.data.problems import DatasetProblemsError
from ppdet.utils.errors import DataError

#: Bytes at the start and the end of a file that tell whether it is one.
_SNIFFED = 1 << 16
#: Coordinates that are kept to be shared.
_MOST_KNOWN = 1 << 20
_MEMBER = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')


def recognise(source: Path) -> bool:
    """Whether a file is a COCO annotation file, or a folder has such files where COCO and Roboflow do."""
    return bool(_files(source))


def read(source: Path, options: ReadOptions) -> dict[str, LabelledDataset]:
    """Read an annotation file, or those of a folder.

    Raises:
        DataError: If one cannot be read.
        DatasetProblemsError: If anything in it is wrong.
    """
    files = _files(source)
    if not files:
        raise DataError(f"{source}: no COCO annotation file (.json with images and categories) in it")
    named = [(path.parent.name if path.stem == "_annotations.coco" else path.stem, path) for path in files]
    return by_part([(name, _read_file(path, name, options)) for name, path in named])


def write(parts: Mapping[str, Part], folder: Path) -> None:
    """Write ``annotations/instances_<part>.json``, with everything that the dataset says."""
    for name, part in parts.items():
        content = part.dataset.content
        images = ({**row, "file_name": part.file_names[row["id"]]} for row in content["images"])
        write_file(folder / "annotations" / f"instances_{name or 'all'}.json", {**content, "images": images})


def write_file(path: Path, content: Mapping[str, Any]) -> None:
    """Write an annotation file of a new folder row by row, so that its text is never whole in memory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for number, (key, value) in enumerate(content.items()):
            file.write(f"{', ' if number else '{'}{json.dumps(key)}: ")
            if isinstance(value, (list, Iterator)):
                file.write("[")
                for index, row in enumerate(value):
                    file.write((", " if index else "") + json.dumps(row, ensure_ascii=False))
                file.write("]")
            else:
                file.write(json.dumps(value, ensure_ascii=False))
        file.write("}")


def is_annotation_file(path: Path) -> bool:
    """Whether the start and the end of a file look like COCO's."""
    if path.suffix.lower() != ".json":
        return False
    with open_bytes(path) as file:
        data = file.read(_SNIFFED)
        if path.stat().st_size > 2 * _SNIFFED:
            file.seek(-_SNIFFED, 2)
        data += file.read(_SNIFFED)
    members = set(_MEMBER.findall(data))
    return len(members) >= 2 or (b"images" in members and b'"file_name"' in data)


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source] if is_annotation_file(source) else []
    for folder in (source / "annotations", source / "Annotations", source):
        found = [path for path in sorted(folder.glob("*.json")) if is_annotation_file(path)]
        instances = [path for path in found if path.stem.startswith("instance")]
        if found:
            return instances or found
    return [
        path
        for folder in folders_of_parts(source)
        for path in sorted(folder.glob("*.json"))
        if is_annotation_file(path)
    ]


def _read_file(path: Path, name: str, options: ReadOptions) -> LabelledDataset:
    with collector_paused():
        content = {
            key: list(_compact(value)) if isinstance(value, Iterator) else value
            for key, value in stream_json(path)
        }
        content = {"images": [], "annotations": [], "categories": [], **content}
        problems = parse_coco(content, with_masks=False).problems
    if problems:
        raise DatasetProblemsError(str(path), problems)
    names = [str(row["file_name"]) for row in content["images"]]
    plain = re.sub(r"^instances?_", "", name)
    places = [*places_near(path, plain), *places_near(path, part_name(name))]
    folder = options.image_dir or image_folder(names, places) or path.parent
    missing = sum(resolve_file(folder, image) is None for image in names)
    counts = {f"images that are not in {folder} (--image_dir names another folder)": missing}
    return LabelledDataset(content, folder, "coco", {what: count for what, count in counts.items() if count})


def _compact(rows: Iterator[Any]) -> Iterator[Any]:
    """The rows with one object for all equal keys, and for all equal coordinates of outlines.

    Coordinates have two decimals in most files: the same few ten thousand numbers again and again. One object
    for each takes a third of the memory.
    """
    known: dict[float, float] = {}
    for row in rows:
        if not isinstance(row, dict):
            yield row
            continue
        row = {sys.intern(key): value for key, value in row.items()}
        parts = row.get("segmentation")
        if isinstance(parts, list) and all(isinstance(part, list) for part in parts):
            share = known.get if len(known) >= _MOST_KNOWN else known.setdefault
            with contextlib.suppress(
                TypeError
            ):  # an outline with a list in it, which is a problem found later
                row["segmentation"] = [[share(value, value) for value in part] for part in parts]
        yield row
