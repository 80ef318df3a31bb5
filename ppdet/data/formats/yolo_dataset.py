"""YOLO as a format of datasets: ``data.yaml`` with folders or lists of images, or images/ and labels/ alone.

The label file of an image has its name with ``.txt``, in the folder that is called ``labels`` where that of
the image is called ``images``, or beside the image.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import yaml

from ppdet.data.annotation_files import read_lines, read_text, require_folder
from ppdet.data.category_tables import names_of_yaml, read_categories
from ppdet.data.formats.dataset import (
    LabelledDataset,
    ReadOptions,
    by_part,
    from_images,
)
from ppdet.data.formats.fit import Part
from ppdet.data.formats.folders import Pair, read_images, write_plain
from ppdet.data.formats.labelled import Labelled
from ppdet.data.formats.yolo import is_label_file
from ppdet.data.image_files import find_images, is_hidden, nearest_file, resolve_file
from ppdet.utils.errors import DataError

_PARTS = ("train", "val", "test")
#: Files with the class names of datasets that have no ``data.yaml``.
_NAME_FILES = ("classes.txt", "obj.names", "labels/classes.txt", "names.txt")


class YoloImages(NamedTuple):
    """Images of one part of a dataset, and their label files.

    Attributes:
        root: Folder that the names of `pairs` are relative to.
        pairs: Images and their label files; None for images without one, which have no objects.
        lost: Label files that belong to no image.
    """

    root: Path
    pairs: list[Pair]
    lost: int = 0


class YoloFile(NamedTuple):
    """A ``data.yaml``.

    Attributes:
        path: The file.
        names: Classes in order.
        parts: Folders or lists of images by part, as written.
        root: Folder that they are relative to.
    """

    path: Path
    names: tuple[str, ...]
    parts: dict[str, list[str]]
    root: Path


def recognise(source: Path) -> bool:
    """Whether a path is a ``data.yaml``, has one, or has folders images and labels."""
    return yaml_of(source) is not None or (source.is_dir() and _label_folder(source) is not None)


def read(source: Path, options: ReadOptions) -> dict[str, LabelledDataset]:
    """Read a dataset; train, val and test of ``data.yaml``, or folders named so, are its parts.

    Raises:
        DataError: If a file cannot be read, or class names are not known; names it.
    """
    path = yaml_of(source)
    if path is None:
        return {"": _read_plain(source, options)}
    file = read_yaml(path)
    parts = {part: images_of(file, part) for part in file.parts}
    return by_part(
        [(part, _read_part(images, options.names or file.names)) for part, images in parts.items()]
    )


def read_part(path: Path, part: str) -> LabelledDataset:
    """Read one part of a ``data.yaml``.

    Raises:
        DataError: If there is no such part, or it cannot be read; names file and line.
    """
    file = read_yaml(path)
    if part not in file.parts:
        raise DataError(f"{path}: it has no {part}; there are {', '.join(file.parts)}")
    return _read_part(images_of(file, part), file.names)


def write(parts: Mapping[str, Part], folder: Path) -> None:
    """Write ``data.yaml`` and ``labels/<part>``.

    Objects of an image have boxes, or all of them outlines: readers take a line by the others of its file.
    """
    content: dict[str, Any] = {part: f"images/{part}" for part in parts}
    names = next(iter(parts.values())).names
    content |= {"nc": len(names), "names": dict(enumerate(names))}
    label_of = {name: label for label, name in enumerate(names)}
    for name, part in parts.items():
        for image in part.images:
            path = folder / "labels" / name / image.file_name
            outlines = any(item.mask for item in image.objects)
            lines = (_line(item, label_of[item.name], image.size, outlines) for item in image.objects)
            write_plain(path.with_suffix(".txt"), "".join(lines))
    write_plain(folder / "data.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _line(item: Labelled, label: int, size: tuple[int, int], outline: bool) -> str:
    height, width = size
    x1, y1, x2, y2 = item.box
    if outline:
        parts = item.mask if isinstance(item.mask, tuple) else ()
        points = parts[0].reshape(-1).tolist() if parts else [x1, y1, x2, y1, x2, y2, x1, y2]
        shares = [value / side for value, side in zip(points, itertools.cycle((width, height)))]
    else:
        shares = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height]
    return f"{label} {' '.join(f'{share:.10g}' for share in shares)}\n"


def yaml_of(source: Path) -> Optional[Path]:
    """The ``data.yaml`` that a path is, or that a folder has; None if there is none."""
    if source.suffix.lower() in (".yaml", ".yml"):
        return source if source.is_file() and _is_yaml(source) else None
    if not source.is_dir():
        return None
    found = sorted([*source.glob("*.yaml"), *source.glob("*.yml")], key=lambda p: p.name != "data.yaml")
    return next((path for path in found if _is_yaml(path)), None)


def read_yaml(path: Path) -> YoloFile:
    """Read a ``data.yaml``.

    Raises:
        DataError: If it is broken, or names no images or classes.
    """
    content = _content(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: a data.yaml has `train`, `val` and `names`")
    number = content.get("nc")
    if "names" not in content and isinstance(number, int) and 0 < number < 100_000:
        content["names"] = [str(label) for label in range(number)]
    names = names_of_yaml(content, path)
    parts: dict[str, list[str]] = {}
    for part in _PARTS:
        value = content.get(part, content.get("valid") if part == "val" else None)
        listed = value if isinstance(value, list) else [value]
        if value and not all(isinstance(item, str) for item in listed):
            raise DataError(f"{path}: {part} is {value!r}; it is a folder of images, a list file, or several")
        if value:
            parts[part] = [str(item) for item in listed]
    if not parts:
        raise DataError(f"{path}: it names no images: write train and val")
    root = content.get("path")
    # Written on another machine, or relative to a program's own folder: the file's folder counts then.
    base = path.parent / root if isinstance(root, str) and (path.parent / root).is_dir() else path.parent
    return YoloFile(path, tuple(names), parts, base)


def images_of(file: YoloFile, part: str) -> YoloImages:
    """The images of a part of a ``data.yaml``.

    Raises:
        DataError: If a folder, list or image does not exist; names it.
    """
    paths = [path for item in file.parts[part] for path in _listed(file, part, item)]
    if not paths:
        raise DataError(f"{file.path}: {part} has no images")
    places = [_existing(file, item) for item in file.parts[part]]
    folders = {place for place in places if place is not None and place.is_dir()}
    if len(folders) < len(file.parts[part]):  # a list names images of any folder
        folders |= {path.parent for path in paths}
    root = Path(os.path.commonpath([str(folder) for folder in folders]))
    return _paired(root, paths)


def label_places(image: Path) -> Iterator[Path]:
    """Where the label file of an image may be."""
    pieces = image.parts
    for index in range(len(pieces) - 2, -1, -1):
        if pieces[index] in ("images", "JPEGImages"):
            yield Path(*pieces[:index], "labels", *pieces[index + 1 :]).with_suffix(".txt")
            break
    yield image.with_suffix(".txt")


def _paired(root: Path, paths: Sequence[Path]) -> YoloImages:
    pairs, folders, used = [], set(), set()
    for path in paths:
        places = list(label_places(path))
        folders |= {place.parent for place in places[:-1]}
        found = [place for place in places if resolve_file(place.parent, place.name) is not None]
        label = found[0] if found else None
        if label in used:
            raise DataError(f"{label}: it belongs to {path.name} and to another image of that name")
        if label is not None:
            used.add(label)
        pairs.append(Pair(path.relative_to(root).as_posix(), label))
    written = (place for folder in sorted(folders) for place in sorted(folder.glob("*.txt")))
    known = {path.with_suffix("").name for path in paths}
    lost = sum(place.stem not in known and is_label_file(place) for place in written)
    return YoloImages(root, pairs, lost)


def _listed(file: YoloFile, part: str, item: str) -> list[Path]:
    """Images of a folder, or those that a list names."""
    place = _existing(file, item)
    if place is None:
        raise DataError(f"{file.path}: {part} is {item!r}, which is neither in {file.root} nor a path")
    if place.is_dir():
        return [Path(path) for path in find_images(place)]
    images = []
    for number, line in enumerate(read_lines(place), start=1):
        name = line.strip()
        if not name:
            continue
        for folder in (place.parent, file.root):
            found = resolve_file(folder, name)
            if found is not None:
                images.append(folder / found)
                break
        else:
            near = nearest_file(place.parent, name)
            raise DataError(f"{place}:{number}: image {name} does not exist{near}")
    return images


def _existing(file: YoloFile, item: str) -> Optional[Path]:
    """A path of a ``data.yaml``; Roboflow writes ``../train/images`` for ``train/images``."""
    pieces = item.replace("\\", "/")
    while pieces.startswith("../"):
        for base in (file.root, file.path.parent):
            if (base / pieces).exists():
                return base / pieces
        pieces = pieces[3:]
    bases = (file.root, file.path.parent, file.root.parent)
    return next((base / pieces for base in bases if (base / pieces).exists()), None)


def _read_part(images: YoloImages, names: Sequence[str]) -> LabelledDataset:
    counts = Counter({"label files that belong to no image left out": images.lost})
    read = read_images("yolo", images.pairs, images.root, names, counts)  # one image after the other
    return from_images(read, images.root, "yolo", counts, names)


def _read_plain(source: Path, options: ReadOptions) -> LabelledDataset:
    """A folder with images/ and labels/, or with label files beside the images, and a file of class names."""
    require_folder(source, "dataset folder")
    names = options.names or next(
        (read_categories(source / name).names for name in _NAME_FILES if (source / name).is_file()), None
    )
    if not names:
        raise DataError(
            f"{source}: YOLO files have class numbers only, and there is neither data.yaml nor classes.txt "
            "in it: give the class names (--label_list FILE)"
        )
    folder = options.image_dir or (source / "images" if (source / "images").is_dir() else source)
    return _read_part(_paired(folder, [Path(path) for path in find_images(folder)]), names)


def _label_folder(source: Path) -> Optional[Path]:
    for folder in (source / "labels", *(source / "labels" / part for part in _PARTS), source):
        files = (path for path in sorted(folder.glob("*.txt")) if not is_hidden(path.name))
        named = any((source / name).is_file() for name in _NAME_FILES)
        if (folder != source or named) and any(
            is_label_file(path) for path in files if path.name not in ("classes.txt", "names.txt")
        ):
            return folder
    return None


def _is_yaml(path: Path) -> bool:
    try:
        content = _content(path)
    except DataError:
        return False
    return (
        isinstance(content, dict)
        and ("names" in content or "nc" in content)
        and any(part in content for part in (*_PARTS, "valid"))
    )


def _content(path: Path) -> Any:
    try:
        return yaml.safe_load(read_text(path))
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path}: not valid YAML: {error}") from None
