"""Finds image files: in folders, by the names that annotation files give them, and their sizes."""

from __future__ import annotations

import difflib
import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Optional
from urllib.parse import unquote

from ppdet.data.annotation_files import require_folder
from ppdet.utils.errors import DataError

logger = logging.getLogger(__name__)

#: Files that a folder of images may hold; compared in lower case.
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"}
)
#: Files that are images of formats that nothing here decodes; named when they are left out.
_OTHER_IMAGES = frozenset({".heic", ".heif", ".avif", ".jxl", ".dng", ".cr2", ".nef", ".svg", ".psd", ".pdf"})
#: What operating systems and programs leave in folders; compared in lower case. Names that start with a dot
#: (``._a.jpg``, ``.ipynb_checkpoints``) are hidden too.
_SYSTEM_NAMES = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin"})
#: EXIF tag of the orientation, and its values that swap width and height.
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)


class Folder(NamedTuple):
    """Files of a folder and below.

    Attributes:
        files: Paths, sorted.
        hidden: Hidden and system files and folders that were left out.
    """

    files: list[Path]
    hidden: int


def walk(folder: Path) -> Folder:
    """Files of a folder and below, in symlinked folders too, without those that systems leave behind.

    Raises:
        DataError: If there is no such folder.
    """
    require_folder(folder, "folder")
    files: list[Path] = []
    hidden = 0
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link to a folder above, or a second way to one that was seen
            folders.clear()
            continue
        seen.add(real)
        shown = [name for name in folders if not is_hidden(name)]
        hidden += len(folders) - len(shown)
        folders[:] = sorted(shown)
        for name in names:
            if is_hidden(name):
                hidden += 1
            else:
                files.append(Path(place, name))
    return Folder(sorted(files, key=lambda path: path.as_posix()), hidden)


def is_hidden(name: str) -> bool:
    """Whether a file or folder name is that of a hidden or system file."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def find_images(folder: Path, *, leave_out: Optional[Path] = None) -> list[str]:
    """Image files in a folder and below, sorted by path. What is left out is counted in the log.

    Args:
        folder: The folder.
        leave_out: A folder below it whose images do not count, e.g. that of a program's own output.

    Raises:
        DataError: If there is no such folder or no image in it.
    """
    require_folder(folder, "image folder")
    listed = walk(folder)
    own = None if leave_out is None else leave_out.resolve()
    paths, others, inside = [], Counter[str](), 0
    for path in listed.files:
        suffix = path.suffix.lower()
        if suffix in _OTHER_IMAGES:
            others[suffix] += 1
        elif suffix in IMAGE_SUFFIXES:
            if own is not None and own != folder.resolve() and own in path.resolve().parents:
                inside += 1
            else:
                paths.append(path.as_posix())
    if listed.hidden:
        logger.info("%s: %d hidden or system files and folders left out", folder, listed.hidden)
    if inside:
        logger.warning("%s: %d images in the output folder %s left out", folder, inside, leave_out)
    if others:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
        logger.warning("%s: left out, since they cannot be decoded: %s; convert them first", folder, kinds)
    if not paths:
        raise DataError(f"{folder}: no images ({', '.join(sorted(IMAGE_SUFFIXES))}) in it or below")
    return paths


@lru_cache(maxsize=256)
def _names_in(folder: str) -> frozenset[str]:
    """File names of a folder, listed once: a question per image takes minutes on a network drive."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries)
    except (OSError, ValueError):
        return frozenset()


@lru_cache(maxsize=256)
def _folded_names(folder: str) -> dict[str, Optional[str]]:
    """File names of a folder by their folded form; None where two names have one."""
    names: dict[str, Optional[str]] = {}
    for name in _names_in(folder):
        key = _fold(name)
        names[key] = None if key in names else name
    return names


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def resolve_file(folder: Path, name: str) -> Optional[str]:
    """The file that an annotation file means by a name.

    The name may have backslashes, be absolute (also of another machine, if the name of `folder` occurs in
    it), repeat the name of `folder`, be URL-encoded, or differ in case or Unicode form, as long as only one
    file fits.

    Args:
        folder: Folder of the images.
        name: Path inside of it.

    Returns:
        Its path relative to `folder`, with slashes, or an absolute path; None if there is no such file.
    """
    for candidate in _candidates(folder, name):
        there = _lookup(str(folder), candidate)
        if there is not None:
            return there
    return None


def _candidates(folder: Path, name: str) -> Iterator[str]:
    plain = name.replace("\\", "/")
    decoded = unquote(plain)
    for text in dict.fromkeys((plain, decoded)):
        parts = [part for part in text.split("/") if part not in ("", ".")]
        absolute = text.startswith("/") or text[1:3] == ":/"
        yield text if absolute else "/".join(parts)
        own = folder.absolute().name
        if own in parts[:-1]:
            after = len(parts) - 1 - parts[::-1].index(own, 1)
            if absolute or folder.absolute().parts[-after - 1 :] == tuple(parts[: after + 1]):
                yield "/".join(parts[after + 1 :])


def _lookup(folder: str, name: str) -> Optional[str]:
    if name.startswith("/") or name[1:3] == ":/":
        head, _, base = name.rpartition("/")
        return name if base in _names_in(head or "/") else None
    inside, _, base = name.rpartition("/")
    if base in _names_in(f"{folder}/{inside}" if inside else folder):
        return name
    place, parts = folder, []
    for part in name.split("/"):
        if part in _names_in(place):
            real: Optional[str] = part
        else:
            real = _folded_names(place).get(_fold(part))
        if real is None:
            return None
        parts.append(real)
        place = f"{place}/{real}"
    return "/".join(parts)


def nearest_file(folder: Path, name: str) -> str:
    """``"; is it b.jpg?"`` for the existing file whose name is nearest, or nothing."""
    inside, _, base = name.replace("\\", "/").rpartition("/")
    there = _names_in(str(folder / inside) if inside else str(folder)) or _names_in(str(folder))
    folded = {_fold(other): other for other in sorted(there, reverse=True)}
    near = difflib.get_close_matches(_fold(base), folded, 1, 0.75)
    return f"; is it {folded[near[0]]}?" if near else ""


def forget_listings() -> None:
    """List folders anew at the next question; for programs that write images themselves."""
    _names_in.cache_clear()
    _folded_names.cache_clear()


class ImageHeader(NamedTuple):
    """What an image file says of itself.

    Attributes:
        size: (height, width), turned as the orientation says.
        mode: Channels as Pillow names them: ``RGB``, ``L``, ``RGBA``, ``P``, ``CMYK``, ``I;16``.
        orientation: Of the EXIF tags, 1 to 8; 1 where there is none.
    """

    size: tuple[int, int]
    mode: str
    orientation: int

    @property
    def turned(self) -> bool:
        """Whether the pixels are stored in another orientation than they are shown in."""
        return self.orientation in range(2, 9)


def image_header(path: str) -> Optional[ImageHeader]:
    """The header of an image file; no pixel is read.

    Returns:
        None if the file is missing or its header cannot be read.
    """
    import warnings

    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of very large images and odd EXIF blocks
            with Image.open(path) as image:
                width, height = image.size
                mode, orientation = image.mode, image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Pillow's readers raise many kinds on broken files
        return None
    size = (width, height) if orientation in _TURNED else (height, width)
    return ImageHeader(size, mode, orientation)


def image_size(path: str) -> Optional[tuple[int, int]]:
    """(height, width) from the header of an image file, turned as its EXIF orientation says.

    Returns:
        None if the file is missing or its header cannot be read.
    """
    header = image_header(path)
    return None if header is None else header.size
