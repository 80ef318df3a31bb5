"""Reads files of a dataset with errors that say what is wrong and what to do; knows which images exist."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from ppdet.utils.errors import DataError

#: Files that a folder of images may hold; compared in lower case.
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


def require_folder(path: Path, what: str) -> None:
    """Check that a folder is there.

    Raises:
        DataError: If it is not; says how far the path exists.
    """
    if path.is_dir():
        return
    there = next((p for p in path.absolute().parents if p.is_dir()), None)
    hint = f"; {there} exists" if there is not None else ""
    state = "is not a folder" if path.exists() else "does not exist"
    raise DataError(
        f"{what} {path} {state}{hint}. Put the dataset there, or point dataset_dir at it "
        "(-o TrainDataset.dataset_dir=...). Layouts: dataset/README.md"
    )


def read_text(path: Path) -> str:
    """Content of a UTF-8 text file.

    Raises:
        DataError: If it is missing, cannot be read, or is not text.
    """
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise DataError(
            f"annotation file {path} does not exist. Check dataset_dir and anno_path; "
            "layouts: dataset/README.md"
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def read_lines(path: Path) -> list[str]:
    """Lines of a text file, without line ends. Raises `DataError` as `read_text` does."""
    return read_text(path).splitlines()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file whose top level is an object.

    Raises:
        DataError: If it is missing, empty, no JSON, or something else than an object.
    """
    text = read_text(path)
    if not text.strip():
        raise DataError(f"{path}: the annotation file is empty. Was its download or export cut short?")
    try:
        content = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON: {error}. Was its download or export cut short?") from None
    if not isinstance(content, dict):
        raise DataError(
            f"{path}: a COCO annotation file is a JSON object, this is a {type(content).__name__}"
        )
    return content


@lru_cache(maxsize=256)
def _names_in(folder: str) -> frozenset[str]:
    """File names of a folder, listed once: a question per image takes minutes on a network drive."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries)
    except OSError:
        return frozenset()


def missing_files(folder: Path, names: Iterable[str]) -> list[str]:
    """Those of `names` (paths inside `folder`, either separator) that do not exist."""
    missing = []
    for name in names:
        inside, _, base = name.replace("\\", "/").rpartition("/")
        if base not in _names_in(str(folder / inside) if inside else str(folder)):
            missing.append(name)
    return missing


def forget_listings() -> None:
    """Look at the folders anew at the next question; for programs that write images themselves."""
    _names_in.cache_clear()
