"""Tables of boxes as formats of datasets: RetinaNet's, Open Images', and TensorFlow's CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Optional

from ppdet.data.annotation_files import read_text
from ppdet.data.formats.dataset import LabelledDataset, ReadOptions
from ppdet.data.formats.files import FileContent, corners, file_name, files_of, read_files
from ppdet.data.formats.fit import Part
from ppdet.data.formats.folders import write_plain
from ppdet.data.formats.labelled import Labelled, LabelledImage
from ppdet.data.formats.values import FARTHEST, flag, number, side
from ppdet.utils.errors import DataError

_TENSORFLOW = ("filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax")
_OPEN_IMAGES = ("ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax")
_OPEN_FLAGS = {"IsOccluded": "occluded", "IsTruncated": "truncated", "IsGroupOf": "iscrowd"}
#: Files that name the classes of a RetinaNet table, and of Open Images.
_CLASSES, _DESCRIPTIONS = "classes.csv", "class-descriptions.csv"


class _Table(NamedTuple):
    """The rows of a CSV file with their line numbers."""

    path: Path
    rows: list[tuple[int, list[str]]]


def recognise_retinanet(source: Path) -> bool:
    """Whether a path is a table of path, x1, y1, x2, y2, class without a header, or has some."""
    return bool(files_of(source, ".csv", _is_retinanet))


def recognise_open_images(source: Path) -> bool:
    """Whether a path is a table of Open Images' boxes, or has some."""
    return bool(files_of(source, ".csv", _is_open_images))


def recognise_tensorflow(source: Path) -> bool:
    """Whether a path is a table of filename, width, height, class, and corners, or has some."""
    return bool(files_of(source, ".csv", _is_tensorflow))


def read_retinanet(source: Path, options: ReadOptions) -> dict[str, LabelledDataset]:
    """Read a table, or those of a folder, which are its parts.

    Raises:
        DataError: If one cannot be read; names file and line.
    """
    return read_files("retinanet", source, files_of(source, ".csv", _is_retinanet), options, _retinanet)


def read_open_images(source: Path, options: ReadOptions) -> dict[str, LabelledDataset]:
    """As `read_retinanet`."""
    return read_files("open-images", source, files_of(source, ".csv", _is_open_images), options, _open_images)


def read_tensorflow(source: Path, options: ReadOptions) -> dict[str, LabelledDataset]:
    """As `read_retinanet`."""
    return read_files("tensorflow", source, files_of(source, ".csv", _is_tensorflow), options, _tensorflow)


def _is_retinanet(start: bytes) -> bool:
    first = _first_row(start)
    numbers = [number(cell) is not None for cell in first[1:5]]
    return len(first) == 6 and (all(numbers) or first[1:] == [""] * 5)


def _is_open_images(start: bytes) -> bool:
    return {"ImageID", "LabelName", "XMin", "YMax"} <= set(_first_row(start))


def _is_tensorflow(start: bytes) -> bool:
    return {"filename", "class", "xmin", "ymax"} <= {cell.lower() for cell in _first_row(start)}


def _first_row(start: bytes) -> list[str]:
    line = start.decode("utf-8-sig", "replace").lstrip().split("\n", 1)[0].strip()
    return next(csv.reader([line]), [])


def _table(path: Path) -> _Table:
    reader = csv.reader(io.StringIO(read_text(path)))
    try:
        return _Table(path, [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)])
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: {error}") from None


def _box(cells: Sequence[Optional[str]], where: str) -> tuple[float, float, float, float]:
    box = corners([number(cell) for cell in cells])
    if box is None or max(map(abs, box)) > FARTHEST:
        raise DataError(f"{where}: {', '.join(map(str, cells))}: it needs four numbers, the corners of a box")
    return box


def _retinanet(path: Path) -> FileContent:
    content = FileContent()
    classes = path.parent / _CLASSES
    if classes.is_file():
        content.names = tuple(row[0] for _, row in _table(classes).rows)
    for line, row in _table(path).rows:
        cells = [cell.strip() for cell in row]
        if len(cells) != 6:
            raise DataError(f"{path}:{line}: {len(cells)} cells; a row is path, x1, y1, x2, y2, class")
        image = content.image(cells[0])
        if any(cells[1:]):
            if not cells[5]:
                raise DataError(f"{path}:{line}: it has no class")
            image.add(Labelled(cells[5], _box(cells[1:5], f"{path}:{line}")))
    return content


def _tensorflow(path: Path) -> FileContent:
    content = FileContent()
    for line, cells in _named_rows(path, lower=True):
        size = (side(cells.get("height")) or 0, side(cells.get("width")) or 0)
        box = _box([cells.get(key) for key in _TENSORFLOW[4:]], f"{path}:{line}")
        if not cells["class"].strip() or not cells["filename"].strip():
            raise DataError(f"{path}:{line}: it needs filename and class")
        content.image(cells["filename"].strip(), size).add(Labelled(cells["class"].strip(), box))
    return content


def _open_images(path: Path) -> FileContent:
    content = FileContent()
    names = _descriptions(path.parent)
    content.names = tuple(dict.fromkeys(names.values()))
    for line, cells in _named_rows(path, lower=False):
        shares = _box([cells.get(key) for key in ("XMin", "YMin", "XMax", "YMax")], f"{path}:{line}")
        id_ = cells["LabelName"].strip()
        extra: dict[str, Any] = {
            name: 1 for key, name in _OPEN_FLAGS.items() if (flag(cells.get(key)) and cells.get(key) != "-1")
        }
        score = number(cells.get("Confidence"))
        if score is not None and score != 1:  # 1 says that a person has drawn or verified the box
            extra["score"] = score

        def labelled(
            size: tuple[int, int],
            name: str = names.get(id_, id_),
            shares: Sequence[float] = shares,
            extra: Mapping[str, Any] = extra,
        ) -> Labelled:
            height, width = size
            x1, y1, x2, y2 = (v * s for v, s in zip(shares, (width, height, width, height)))
            return Labelled(name, (x1, y1, x2, y2), (), extra)

        content.image(cells["ImageID"].strip()).objects.append(labelled)
    return content


def _descriptions(folder: Path) -> dict[str, str]:
    """Names of the ids of classes."""
    files = [path for path in sorted(folder.glob("*.csv")) if "class-descriptions" in path.name]
    rows = [row for path in files[:1] for _, row in _table(path).rows]
    return {row[0].strip(): row[1].strip() for row in rows if len(row) == 2 and row[0] != "LabelName"}


def _named_rows(path: Path, *, lower: bool) -> Iterable[tuple[int, dict[str, str]]]:
    rows = iter(_table(path).rows)
    header = [cell.strip().lower() if lower else cell.strip() for cell in next(rows)[1]]
    for line, row in rows:
        if len(row) != len(header):
            raise DataError(f"{path}:{line}: {len(row)} cells, the header has {len(header)}")
        yield line, dict(zip(header, row))


def write_retinanet(parts: Mapping[str, Part], folder: Path) -> None:
    """Write ``<part>.csv`` and ``classes.csv``; paths are relative to their folder."""

    def rows(image: LabelledImage, place: str) -> Iterable[list[Any]]:
        path = f"{place}/{image.file_name}" if place else image.file_name
        if not image.objects:
            yield [path, "", "", "", "", ""]
        for item in image.objects:
            yield [path, *map(_text, item.box), item.name]

    for name, part in parts.items():
        _write(folder / file_name(name, ".csv"), [], (r for i in part.images for r in rows(i, part.folder)))
        if part.folder:
            _write(folder / _CLASSES, [], ([label, k] for k, label in enumerate(part.names)))


def write_open_images(parts: Mapping[str, Part], folder: Path) -> None:
    """Write ``<part>.csv`` and ``class-descriptions.csv``; a class's name is its id."""

    def row(item: Labelled, id_: str, size: tuple[int, int]) -> list[Any]:
        height, width = size
        x1, y1, x2, y2 = (_text(v / s) for v, s in zip(item.box, (width, height, width, height)))
        flags = [item.extra.get(name, 0) for name in _OPEN_FLAGS.values()]
        return [id_, "ppdet", item.name, item.extra.get("score", 1), x1, x2, y1, y2, *flags]

    for name, part in parts.items():
        rows = (
            row(item, PurePosixPath(image.file_name).with_suffix("").as_posix(), image.size)
            for image in part.images
            for item in image.objects
        )
        _write(folder / file_name(name, ".csv"), [*_OPEN_IMAGES, *_OPEN_FLAGS], rows)
        if part.folder:
            _write(folder / _DESCRIPTIONS, [], ([label, label] for label in part.names))


def write_tensorflow(parts: Mapping[str, Part], folder: Path) -> None:
    """Write ``<part>.csv``."""
    for name, part in parts.items():
        rows = (
            [image.file_name, image.size[1], image.size[0], item.name, *map(_text, item.box)]
            for image in part.images
            for item in image.objects
        )
        _write(folder / file_name(name, ".csv"), list(_TENSORFLOW), rows)


def _write(path: Path, header: list[str], rows: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if header:
        writer.writerow(header)
    writer.writerows(rows)
    write_plain(path, text.getvalue())


def _text(value: float) -> str:
    return f"{value:.10g}"
