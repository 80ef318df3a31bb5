"""Finds the line of an annotation file that a problem is about."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from ppdet.data.annotation_files import open_bytes
from ppdet.data.problems import DatasetProblem

_LISTS = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')
_IDS = re.compile(rb'"id"\s*:\s*(?:"([^"]*)"|(-?\d+))')
#: How the texts of problems name a row.
_NAMED = (
    (re.compile(r"annotation '?([^\s']+)'?"), "annotations"),
    (re.compile(r"image id '?([^\s':]+)'?"), "images"),
    (re.compile(r"image '?([^\s']+)'?"), "images"),
)


def lines_of(problems: Sequence[DatasetProblem], path: Path) -> list[Optional[int]]:
    """For each problem the line of its row's id, counted from 1.

    Args:
        problems: Of a COCO annotation file, whose texts begin with "annotation ID" or "image id ID".
        path: The file.

    Returns:
        None where the text names no row, where the row has no id of its own in the file, and for files of one
        line, in which no number would help.
    """
    with open_bytes(path) as file:
        data = file.read()
    if b"\n" not in data.strip():
        return [None] * len(problems)
    wanted = [_row_of(problem.text) for problem in problems]
    lines = _lines(data, {row for row in wanted if row is not None})
    return [None if row is None else lines.get(row) for row in wanted]


def _row_of(text: str) -> Optional[tuple[str, str]]:
    """(list, id) of the row that a text begins with."""
    for pattern, name in _NAMED:
        match = pattern.match(text)
        if match:
            return name, match[1]
    return None


def _lines(data: bytes, wanted: set[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """The first line of each row's id."""
    starts = [(match.start(), match[1].decode()) for match in _LISTS.finditer(data)]
    found: dict[tuple[str, str], int] = {}
    line, counted = 1, 0
    for index, (start, name) in enumerate(starts):
        end = starts[index + 1][0] if index + 1 < len(starts) else len(data)
        for match in _IDS.finditer(data, start, end):
            row = (name, (match[1] or match[2]).decode("utf-8", "replace"))
            if row in wanted and row not in found:
                line += data.count(b"\n", counted, match.start())
                counted = match.start()
                found[row] = line
    return found
