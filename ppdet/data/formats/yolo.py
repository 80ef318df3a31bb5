"""Reads YOLO's label files: a text file per image with a line per object.

Numbers are shares of the image's width and height: centre x, centre y, width, height, or x, y pairs of an
outline.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ppdet.data.annotation_files import read_lines
from ppdet.data.formats.labelled import Labelled
from ppdet.data.formats.values import number
from ppdet.data.formats.voc import ordered
from ppdet.utils.errors import DataError

#: Shares beyond these are pixels, or no coordinates at all; boxes may leave their image by less.
_LEAST_SHARE, _MOST_SHARE = -1.0, 2.0


def read_labels(path: Path, size: tuple[int, int], names: Sequence[str]) -> tuple[Labelled, ...]:
    """The objects of a label file.

    Args:
        path: The file.
        size: (height, width) of its image.
        names: Class names by number.

    Raises:
        DataError: If a line is no object; names file and line.
    """
    return tuple(
        _read_object(line, size, names, f"{path}:{index}")
        for index, line in enumerate(read_lines(path), start=1)
        if line.strip()
    )


def is_label_file(path: Path) -> bool:
    """Whether a text file begins as a label file does, with a number, or is empty."""
    words = next((line.split() for line in read_lines(path) if line.strip()), ["0", "0"])
    return len(words) > 1 and all(number(word) is not None for word in words)


def _read_object(line: str, size: tuple[int, int], names: Sequence[str], where: str) -> Labelled:
    words = line.split()
    numbers = [value for value in map(number, words) if value is not None]
    if len(numbers) != len(words) or numbers[0] != int(numbers[0]):
        raise DataError(f"{where}: {line.strip()!r}: a line is a class number and finite numbers")
    label, values = int(numbers[0]), np.array(numbers[1:])
    if not 0 <= label < len(names):
        raise DataError(f"{where}: class number {label}, the list has {len(names)} classes")
    if len(values) and not (values.min() >= _LEAST_SHARE and values.max() <= _MOST_SHARE):
        raise DataError(
            f"{where}: {line.strip()!r}: coordinates are shares of the image's sides, from 0 to 1, not pixels"
        )
    height, width = size
    if len(values) in (4, 5):  # the fifth is the score of a detection
        x, y, w, h = (values[:4] * [width, height, width, height]).tolist()
        return Labelled(names[label], ordered((x - w / 2, y - h / 2, x + w / 2, y + h / 2)))
    if len(values) < 6 or len(values) % 2:
        raise DataError(f"{where}: 4 numbers for a box or 3 or more pairs for a polygon, not {len(values)}")
    return Labelled.from_parts(names[label], [values.reshape(-1, 2) * [width, height]])
