"""Formats of one annotation file for many images: which files, and where their images are."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Callable, Optional

from ppdet.data.annotation_files import open_bytes
from ppdet.data.formats.dataset import (
    LabelledDataset,
    ReadOptions,
    by_part,
    folders_of_parts,
    from_images,
    image_folder,
    part_name,
    places_near,
    size_of,
)
from ppdet.data.formats.labelled import Labelled, LabelledImage
from ppdet.data.image_files import IMAGE_SUFFIXES, resolve_file
from ppdet.utils.errors import DataError

#: Bytes at the start of a file that tell what it is.
_SNIFFED = 1 << 16
#: Files of a folder that are looked into.
_MOST_FILES = 100
#: Pixels of the largest image whose masks are drawn.
_MOST_PIXELS = 1 << 29


class FileImage:
    """An image as an annotation file names it, its objects as they are found.

    Attributes:
        name: As written, with slashes.
        size: (height, width) as written; 0 where the format does not say.
        objects: Made when the size is known, which coordinates may be shares of.
    """

    def __init__(self, name: str, size: tuple[int, int] = (0, 0)) -> None:
        self.name = name.replace("\\", "/")
        self.size = size
        self.objects: list[Callable[[tuple[int, int]], Labelled]] = []

    def add(self, item: Labelled) -> None:
        """Add an object that is in pixels."""
        self.objects.append(lambda _: item)


class FileContent:
    """What one annotation file says.

    Attributes:
        images: By name, in the order of the file.
        names: Classes in the order of their table; empty where there is none.
        counts: What is left out or odd.
    """

    def __init__(self) -> None:
        self.images: dict[str, FileImage] = {}
        self.names: Sequence[str] = ()
        self.counts: Counter[str] = Counter()

    def image(self, name: str, size: tuple[int, int] = (0, 0)) -> FileImage:
        """The image of a name; one that is written twice is one image."""
        return self.images.setdefault(name, FileImage(name, size))


def files_of(source: Path, suffix: str, is_one: Callable[[bytes], bool]) -> list[Path]:
    """The files of a format: the source itself, or those of a folder, its ``annotations``, or its parts.

    Args:
        source: A file or a folder.
        suffix: Of the files, in lower case.
        is_one: Whether a file is one, by its start, without null bytes.
    """
    if source.is_file():
        return [source] if source.suffix.lower() == suffix and is_one(_start(source)) else []
    parts = [path for part in folders_of_parts(source) for path in sorted(part.glob(f"*{suffix}"))]
    for paths in (sorted(source.glob(f"*{suffix}")), sorted(source.glob(f"annotations/*{suffix}")), parts):
        found = [path for path in itertools.islice(paths, _MOST_FILES) if is_one(_start(path))]
        if found:
            return found
    return []


def read_files(
    kind: str,
    source: Path,
    paths: Sequence[Path],
    options: ReadOptions,
    read: Callable[[Path], FileContent],
) -> dict[str, LabelledDataset]:
    """Read the files of a format, each a part of the dataset.

    Args:
        kind: The format.
        source: The dataset.
        paths: The files of the format in it; a source that is a file is read whatever it looks like.
        options: What the source leaves open.
        read: Reads one file.

    Raises:
        DataError: If one cannot be read, or the size of an image is not known.
    """
    if source.is_file():
        paths = [source]
    if not paths:
        raise DataError(f"{source}: no annotation file of the format {kind}")
    folders = {path.parent.name for path in paths}
    named = []
    for path in paths:
        name = path.parent.name if len(folders) > 1 else path.stem
        named.append((name, _dataset(kind, path, read(path), options, part_name(name))))
    return by_part(named)


def file_name(part: str, suffix: str) -> str:
    """Name of the file that a writer gives to a part."""
    return f"{part or 'annotations'}{suffix}"


def _dataset(kind: str, path: Path, content: FileContent, options: ReadOptions, part: str) -> LabelledDataset:
    folder = options.image_dir or image_folder(content.images, places_near(path, part)) or path.parent
    images = []
    for image in content.images.values():
        name = existing_name(folder, image.name)
        size = size_of(folder, name, image.size)
        if 0 not in image.size and size != image.size:
            content.counts["images of another size than their annotation gives, which does not count"] += 1
        images.append(LabelledImage(name, size, tuple(make(size) for make in image.objects)))
    names = _with_others(options.names or content.names, images)
    return from_images(images, folder, kind, content.counts, names)


def require_drawable(size: tuple[int, int], where: str) -> None:
    """Check that a bitmap of an image's size (height, width) is not larger than memory can be.

    Raises:
        DataError: If it is, which files may say that are made to do harm.
    """
    if size[0] * size[1] > _MOST_PIXELS:
        raise DataError(f"{where}: an image of {size[1]} x {size[0]} pixels is too large for masks")


def existing_name(folder: Path, name: str) -> str:
    """The file of a folder that a name with or without suffix means; the name itself if there is none."""
    written = Path(name).suffix.lower() in IMAGE_SUFFIXES
    candidates = [name] if written else [name + suffix for suffix in sorted(IMAGE_SUFFIXES)]
    return next((found for text in candidates for found in [resolve_file(folder, text)] if found), name)


def _with_others(names: Sequence[str], images: Iterable[LabelledImage]) -> Sequence[str]:
    """Classes in their order, and after them those that the table does not have."""
    used = {item.name for image in images for item in image.objects}
    return (*names, *sorted(used - set(names)))


def _start(path: Path) -> bytes:
    with open_bytes(path) as file:
        return file.read(_SNIFFED).replace(b"\0", b"")


def corners(values: Sequence[Optional[float]]) -> Optional[tuple[float, float, float, float]]:
    """Four numbers as x1, y1, x2, y2 in the right order; None if one is none."""
    x1, y1, x2, y2 = values
    if x1 is None or y1 is None or x2 is None or y2 is None:
        return None
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)
