"""Reads category tables and maps the ids of an annotation file to the labels of one shared table."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, Optional

from ppdet.data.annotation_files import read_json, read_lines
from ppdet.data.problems import DatasetProblemsError, Problem
from ppdet.structures import Categories
from ppdet.utils.errors import DataError


def categories_of_coco(content: Mapping[str, Any], source: str) -> Categories:
    """The category table of a COCO annotation file, in the order of the file.

    The order is the file's own, not that of the ids, since published weights were trained that way.

    Args:
        content: The parsed file.
        source: Its name, for errors.

    Raises:
        DataError: If there are no categories, one lacks a name or id, or a name or id occurs twice.
    """
    rows = content.get("categories")
    if not isinstance(rows, list) or not rows:
        raise DataError(f'{source}: no "categories"; list every class once as {{"id": 1, "name": "cat"}}')
    names, ids = [], []
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or "name" not in row or not isinstance(row.get("id"), int):
            raise DataError(f"{source}: category {number} needs an integer id and a name, it is {row!r}")
        names.append(str(row["name"]))
        ids.append(int(row["id"]))
    return checked_categories(names, ids, source)


def checked_categories(names: Sequence[str], ids: Sequence[int], source: str) -> Categories:
    """A category table; a name or id that occurs twice is an error that names the file."""
    try:
        return Categories(tuple(names), tuple(ids))
    except ValueError as error:
        raise DataError(f"{source}: {error}; give every class one name and one id") from None


def read_categories(path: Path) -> Categories:
    """The class names of a COCO annotation file (``.json``) or of a text file with one name per line.

    Raises:
        DataError: If the file is missing, empty or broken.
    """
    if path.suffix.lower() == ".json":
        return categories_of_coco(read_json(path), str(path))
    names = [line.strip() for line in read_lines(path) if line.strip()]
    if not names:
        raise DataError(f"{path}: no class names; write one per line")
    return checked_categories(names, range(1, len(names) + 1), str(path))


def labels_of_ids(own: Categories, shared: Optional[Categories], source: str) -> dict[int, int]:
    """Label of every category id of a file, in the table that training, evaluation and test share.

    Names decide: a file that lists the classes in another order, under other ids, or not all of them, gives
    the same labels.

    Args:
        own: The table of the file.
        shared: The table of the training set; None if this file sets it.
        source: The file, for errors.

    Raises:
        DataError: If the file has a category that the shared table has not.
    """
    table = own if shared is None else shared
    label_of = {name: label for label, name in enumerate(table.names)}
    unknown = [name for name in own.names if name not in label_of]
    if unknown:
        listed = f"{', '.join(table.names[:10])}{', ...' if len(table) > 10 else ''}"
        hint = _hint(table.names)
        raise DatasetProblemsError(
            source,
            [
                Problem(
                    "category-unknown", f"class {hint(name)}; the training set has {len(table)}: {listed}"
                )
                for name in unknown
            ],
        )
    return {id_: label_of[name] for name, id_ in zip(own.names, own.ids)}


def _hint(known: Sequence[str]) -> Callable[[str], str]:
    def describe(name: str) -> str:
        near = difflib.get_close_matches(name, known, 1)
        return f"{name!r} (is it {near[0]!r}?)" if near else repr(name)

    return describe
