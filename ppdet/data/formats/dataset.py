"""The one in-memory model of a dataset, and what a format has to say about itself.

A `LabelledDataset` is the content of a COCO annotation file and the folder of its images. Every tool works on
it; every format is read into it and written from it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Callable, Optional

from ppdet.data.formats.labelled import LabelledImage, to_coco
from ppdet.data.image_files import IMAGE_SUFFIXES, image_size, resolve_file
from ppdet.utils.errors import DataError

_IMAGE_FOLDERS = ("images", "JPEGImages", "img", "imgs", "image", "data")
#: How folders and files name the parts of a dataset.
_PARTS = {"train": "train", "trn": "train", "val": "val", "dev": "val", "test": "test", "tst": "test"}


@dataclass(frozen=True)
class LabelledDataset:
    """A dataset in memory.

    Attributes:
        content: The content of a COCO annotation file: images, annotations, categories. Further keys of a
            COCO source are kept as they are. Other formats put what COCO has no key for into the rows of
            the annotations: ``difficult``, ``truncated``, ``occluded``, ``score``, ``attributes``.
        image_dir: Folder that each ``file_name`` is relative to.
        kind: The format that was read, a key of `ppdet.data.formats.registry.FORMATS`.
        counts: What was left out or is odd, and how many of it.
    """

    content: dict[str, Any]
    image_dir: Path
    kind: str
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ReadOptions:
    """What a source may leave open.

    Attributes:
        image_dir: Folder of the images; None looks for it beside the annotations.
        names: Classes in order, for YOLO files without a table; others take the order from it.
    """

    image_dir: Optional[Path] = None
    names: Optional[Sequence[str]] = None


#: Reads a source: a dataset for each part (train, val, test), or one under "".
Reader = Callable[[Path, ReadOptions], dict[str, LabelledDataset]]
#: Writes the annotations of the parts of a dataset (`ppdet.data.formats.fit.Part`) into a folder.
Writer = Callable[[Mapping[str, Any], Path], None]


@dataclass(frozen=True)
class Format:
    """A format: one row of the table that everything about formats follows from.

    Attributes:
        title: What people call it.
        holds: What it holds beside classes and boxes: keys of `FEATURES`.
        recognise: Whether a path is a dataset of this format; reads little of it.
        read: Its reader.
        write: Its writer; None for one that is only read.
        images: Folder of the images of a part in a written dataset, e.g. ``images/{part}``.
        only_part: What its writer calls the part of a dataset without parts.
        file_per_image: Whether each image has an annotation file of its name.
    """

    title: str
    holds: frozenset[str]
    recognise: Callable[[Path], bool]
    read: Reader
    write: Optional[Writer] = None
    images: str = "images/{part}"
    only_part: str = ""
    file_per_image: bool = False


#: What a format may hold beside classes and boxes, and what is counted where it cannot.
FEATURES = {
    "outline": "outlines and masks (their box is kept)",
    "parts": "outlines of several parts (joined by lines to one)",
    "runs": "masks of pixels (their outline is kept)",
    "own_box": "boxes that are not the bounds of their outline (the outline is kept)",
    "iscrowd": "crowd regions (left out)",
    "difficult": "difficult flags",
    "truncated": "truncated flags",
    "occluded": "occluded flags",
    "score": "scores",
    "yes_no": "attributes that are true or false",
    "attributes": "attributes that are text or numbers",
    "empty": "images without objects (left out)",
    "unused": "classes without objects (left out)",
}


def from_images(
    images: Iterable[LabelledImage],
    image_dir: Path,
    kind: str,
    counts: Mapping[str, int],
    names: Sequence[str] = (),
) -> LabelledDataset:
    """A dataset of images; `names` are the classes in order, none: those that occur, sorted."""
    return LabelledDataset(
        to_coco(images, names), image_dir, kind, {what: count for what, count in counts.items() if count}
    )


def part_name(text: str) -> str:
    """The part of a dataset that a folder or file is named after: train, val, test, or its own name."""
    plain = re.sub(r"^(instances?|annotations?|labels?|coco)[_-]?(?=.)", "", text.lower())
    return next((part for start, part in _PARTS.items() if plain.startswith(start)), text)


def by_part(datasets: Sequence[tuple[str, LabelledDataset]]) -> dict[str, LabelledDataset]:
    """Datasets under the names of their parts, or under their own names where those are shared."""
    shared = Counter(part_name(name) for name, _ in datasets)
    if len(datasets) == 1:
        return {"": datasets[0][1]}
    return {part_name(name) if shared[part_name(name)] == 1 else name: item for name, item in datasets}


def folders_of_parts(source: Path) -> list[Path]:
    """Folders named train, valid or val, and test, inside of a folder."""
    if not source.is_dir():
        return []
    names = {"train", "valid", "val", "validation", "test"}
    return sorted(path for path in source.iterdir() if path.is_dir() and path.name.lower() in names)


def image_folder(names: Iterable[str], candidates: Iterable[Path]) -> Optional[Path]:
    """The first folder that has one of the first few images, named with or without suffix; None if none."""
    first = []
    for _, name in zip(range(3), names):
        written = PurePosixPath(name.replace("\\", "/")).suffix.lower() in IMAGE_SUFFIXES
        first += [name] if written else [name + suffix for suffix in sorted(IMAGE_SUFFIXES)]
    for folder in candidates:
        if folder.is_dir() and any(resolve_file(folder, name) is not None for name in first):
            return folder
    return None


def places_near(annotation: Path, part: str = "") -> Iterator[Path]:
    """Folders where the images of an annotation file are usually kept."""
    beside = annotation.parent if annotation.suffix else annotation
    for base in (beside, beside.parent):
        yield base
        for name in _IMAGE_FOLDERS:
            if part:
                yield base / name / part
            yield base / name
        if part:
            yield base / part / "images"
            yield base / part


def size_of(image_dir: Path, name: str, written: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """(height, width) of an image file, or as `written` where there is none.

    Raises:
        DataError: If neither is known.
    """
    file = resolve_file(image_dir, name)
    size = None if file is None else image_size(str(image_dir / file))
    if size is None and 0 in written:
        state = "is not there" if file is None else "cannot be read"
        raise DataError(
            f"image {image_dir / name} {state}, and its annotation gives no size; give the image folder "
            "(--image_dir), or restore the file"
        )
    return size or written


def united(datasets: Mapping[str, LabelledDataset], root: Path) -> LabelledDataset:
    """The parts of a dataset as one; names are relative to `root`, ids are new, classes go by name."""
    first = next(iter(datasets.values()))
    if len(datasets) == 1:
        return first
    content: dict[str, Any] = {**first.content, "images": [], "annotations": [], "categories": []}
    ids: dict[str, int] = {}
    counts: Counter[str] = Counter()
    for part in datasets.values():
        counts.update(part.counts)
        inside = part.image_dir.resolve()
        base = inside.relative_to(root.resolve()) if inside.is_relative_to(root.resolve()) else inside
        category_of = {}
        for row in part.content["categories"]:
            if row["name"] not in ids:
                ids[row["name"]] = len(ids) + 1
                content["categories"].append({**row, "id": ids[row["name"]]})
            category_of[row["id"]] = ids[row["name"]]
        image_of = {}
        for row in part.content["images"]:
            image_of[row["id"]] = number = len(content["images"]) + 1
            content["images"].append({**row, "id": number, "file_name": (base / row["file_name"]).as_posix()})
        for row in part.content["annotations"]:
            number = len(content["annotations"]) + 1
            own = {"image_id": image_of[row["image_id"]], "category_id": category_of[row["category_id"]]}
            content["annotations"].append({**row, "id": number, **own})
    return LabelledDataset(content, root, first.kind, dict(counts))
