"""labelme as a format of datasets: JSON files beside their images, or in a folder of their own."""

from __future__ import annotations

from pathlib import Path

from ppdet.data.annotation_files import open_bytes
from ppdet.data.formats.dataset import (
    LabelledDataset,
    ReadOptions,
    by_part,
    folders_of_parts,
    from_images,
    image_folder,
    places_near,
)
from ppdet.data.formats.folders import read_folder
from ppdet.data.formats.labelme import read_labelme_file
from ppdet.utils.errors import DataError

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
