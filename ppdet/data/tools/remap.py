"""Renames, joins and drops classes."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import yaml

from ppdet.utils.errors import DataError

#: Class -> its new name; None drops its objects.
ClassMap = Mapping[str, Optional[str]]


def remap_classes(content: Mapping[str, Any], names: ClassMap) -> dict[str, Any]:
    """Classes under other names: two of one name become one, None drops a class with its objects.

    Args:
        content: The content of a COCO annotation file.
        names: Classes that change; the others stay.

    Returns:
        The content with ids from 1, in the order in which the new names first stand in the old table. Images
        whose objects are all dropped stay, without objects.

    Raises:
        DataError: If a class is not in the table, or none is left.
    """
    known = [row["name"] for row in content["categories"]]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise DataError(f"class {name!r} is not in the dataset{hint} (it has {', '.join(known)})")
    categories: dict[str, dict[str, Any]] = {}
    new_id = {}
    for row in content["categories"]:
        new = names.get(row["name"], row["name"])
        if new is not None:
            kept = categories.setdefault(new, {**row, "name": new, "id": len(categories) + 1})
            new_id[row["id"]] = kept["id"]
    if not categories:
        raise DataError("no class is left")
    rows = [
        {**row, "category_id": new_id[row["category_id"]]}
        for row in content["annotations"]
        if row["category_id"] in new_id
    ]
    return {**content, "annotations": rows, "categories": list(categories.values())}


def read_class_map(text: str) -> dict[str, Optional[str]]:
    """A map from ``a=b,c=`` (b empty: dropped), or from a YAML file with ``a: b`` and ``c: null``.

    Raises:
        DataError: If it is neither, or names a class twice.
    """
    if text.endswith((".yml", ".yaml")):
        return _of_yaml(Path(text))
    found: dict[str, Optional[str]] = {}
    for item in filter(None, (item.strip() for item in text.split(","))):
        old, mark, new = (word.strip() for word in item.partition("="))
        if not old or not mark:
            raise DataError(
                f"{text!r}: expected OLD=NEW,... (OLD= drops it), or a YAML file; {item!r} is neither"
            )
        if old in found:
            raise DataError(f"{text!r}: class {old!r} is there twice")
        found[old] = new or None
    if not found:
        raise DataError(f"{text!r} changes no class; expected OLD=NEW,... (OLD= drops it), or a YAML file")
    return found


def _of_yaml(path: Path) -> dict[str, Optional[str]]:
    try:
        content = yaml.safe_load(path.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    if not isinstance(content, dict) or not all(
        isinstance(value, (str, type(None))) for value in content.values()
    ):
        raise DataError(f"{path}: expected lines `old: new`, or `old: null` to drop a class")
    return {str(name): value for name, value in content.items()}
