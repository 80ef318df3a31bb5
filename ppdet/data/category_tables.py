"""Reads category tables and maps the ids of an annotation file to the labels of one shared table."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, Optional

from ppdet.data.annotation_files import read_lines, read_text
from ppdet.data.formats.coco import read_coco_categories
from ppdet.data.problems import DatasetProblem, DatasetProblemsError
from ppdet.structures import Categories
from ppdet.utils.errors import DataError


def checked_categories(names: Sequence[str], ids: Sequence[int], source: str) -> Categories:
    """A category table; a name or id that occurs twice is an error that names the file."""
    try:
        return Categories(tuple(names), tuple(ids))
    except ValueError as error:
        raise DataError(f"{source}: {error}; give every class one name and one id") from None


def read_categories(path: Path) -> Categories:
    """The class names of a file.

    Args:
        path: A COCO annotation file (``.json``), a YAML file with ``names`` as a list or a mapping from
            numbers (``data.yaml`` of YOLO datasets), or a text file with one name per line.

    Raises:
        DataError: If the file is missing, empty or broken.
    """
    if path.suffix.lower() == ".json":
        return read_coco_categories(path)
    if path.suffix.lower() in (".yaml", ".yml"):
        names = _names_of_yaml(path)
    else:
        names = [line.strip() for line in read_lines(path) if line.strip()]
    if not names:
        raise DataError(f"{path}: no class names; write one per line")
    return checked_categories(names, range(1, len(names) + 1), str(path))


def _names_of_yaml(path: Path) -> list[str]:
    import yaml

    try:
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise DataError(f"{path}: not valid YAML: {error}") from None
    return names_of_yaml(content, path)


def names_of_yaml(content: Any, path: Path) -> list[str]:
    """The class names of a parsed YAML file.

    Raises:
        DataError: If it has none.
    """
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict) and all(isinstance(key, int) for key in names):
        if sorted(names) != list(range(len(names))):
            raise DataError(f"{path}: names must be numbered from 0 without gaps, they are {sorted(names)}")
        names = [names[key] for key in sorted(names)]
    if not isinstance(names, list) or not all(isinstance(name, (str, int, float)) for name in names):
        raise DataError(f"{path}: no class names; it needs `names`, a list or a mapping from numbers")
    return [str(name) for name in names]


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
                DatasetProblem(
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
