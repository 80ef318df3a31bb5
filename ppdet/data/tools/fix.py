"""Corrects what has one right answer in a COCO annotation file; what was changed is told one by one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from ppdet.data.annotation_files import read_json
from ppdet.data.formats.coco_objects import box_kind
from ppdet.data.formats.values import identifier, number, shown, side
from ppdet.data.image_files import image_size, resolve_file
from ppdet.utils.errors import DataError

Row = dict[str, Any]
Content = dict[str, Any]

#: Kinds of problems that `fix_annotations` corrects.
FIXED = frozenset(
    {
        "annotation-repeated",
        "area-invalid",
        "box-clipped",
        "box-empty",
        "box-inverted",
        "box-outside",
        "box-repeated",
        "image-file-repeated",
    }
)


@dataclass(frozen=True)
class Change:
    """One correction.

    Attributes:
        kind: The problem, a key of `ppdet.data.problems.CURES`.
        text: Which annotation or image, and what was done.
    """

    kind: str
    text: str


def fix_annotations(path: Path, image_dir: Path) -> tuple[Content, list[Change]]:
    """Correct a COCO annotation file. Nothing is written, and what is not understood stays as it is.

    Boxes of negative sizes are turned around, cut at the border of their image, and left out where they are
    empty or outside of it; so is the second of two equal boxes of a class. Areas that are no number are
    computed from the box. Repeated annotation ids are replaced by free ones. Images listed under several ids
    get the first of them, with all of their objects.

    Args:
        path: The file.
        image_dir: Folder of its images, for sizes that the file leaves out.

    Returns:
        The corrected content, and what was changed.

    Raises:
        DataError: If the file cannot be read, or is no COCO annotation file.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations")
    ):
        raise DataError(
            f'{path}: only COCO annotations can be corrected: "images" and "annotations" are lists'
        )
    changes: list[Change] = []
    content = {**content, "images": _rows(content["images"]), "annotations": _rows(content["annotations"])}
    for step in (_unite_images, _renumber, _Boxes(image_dir), _drop_repeated):
        changes += step(content)
    return content, changes


def _rows(rows: list[Any]) -> list[Any]:
    return [dict(row) if isinstance(row, dict) else row for row in rows]


def _unite_images(content: Content) -> Iterator[Change]:
    """One id for each file."""
    first: dict[str, Any] = {}
    now: dict[Any, Any] = {}
    kept = []
    for row in content["images"]:
        name = row.get("file_name") if isinstance(row, dict) else None
        own = identifier(row["id"]) if isinstance(name, str) and "id" in row else None
        if own is not None and name in first and identifier(first[name]) != own:
            now[own] = first[name]
            yield Change("image-file-repeated", f"image {own} ({name}) is image {first[name]} now")
            continue
        if own is not None:
            first.setdefault(str(name), row["id"])
        kept.append(row)
    content["images"] = kept
    for row in content["annotations"]:
        if isinstance(row, dict) and identifier(row.get("image_id")) in now:
            row["image_id"] = now[identifier(row.get("image_id"))]


def _renumber(content: Content) -> Iterator[Change]:
    """Ids of annotations occur once."""
    own = [identifier(row.get("id")) if isinstance(row, dict) else None for row in content["annotations"]]
    free = max([0, *(value for value in own if isinstance(value, int))]) + 1
    seen = set()
    for row, value in zip(content["annotations"], own):
        if value is not None and value in seen:
            row["id"] = free
            yield Change("annotation-repeated", f"the next annotation {value} is annotation {free} now")
            free += 1
        seen.add(value)


class _Boxes:
    """Boxes and areas, in the images that they are in."""

    def __init__(self, image_dir: Path) -> None:
        self._image_dir = image_dir

    def __call__(self, content: Content) -> Iterator[Change]:
        sizes = {
            identifier(row.get("id")): self._size(row) for row in content["images"] if isinstance(row, dict)
        }
        kept = []
        for row in content["annotations"]:
            size = sizes.get(identifier(row.get("image_id"))) if isinstance(row, dict) else None
            box = _numbers(row.get("bbox")) if size is not None else None
            if size is None or box is None:
                kept.append(row)
                continue
            who = f"annotation {row.get('id')}"
            if box[2] < 0 or box[3] < 0:
                box = (min(box[0], box[0] + box[2]), min(box[1], box[1] + box[3]), abs(box[2]), abs(box[3]))
                yield Change("box-inverted", f"{who}: bbox {shown(row['bbox'])} is {list(box)} now")
                row["bbox"] = list(box)
            kind = box_kind(box, size)
            if kind in ("box-empty", "box-outside"):
                yield Change(
                    kind, f"{who}: left out, its bbox is {list(box)} in an image of {size[1]} x {size[0]}"
                )
                continue
            kept.append(row)
            if kind == "box-clipped":
                box = _cut(box, size)
                yield Change(kind, f"{who}: bbox {shown(row['bbox'])} is {list(box)} now")
                row["bbox"] = list(box)
            area = row.get("area")
            if area not in (None, "") and number(area) is None:
                row["area"] = box[2] * box[3]
                yield Change("area-invalid", f"{who}: area {shown(area)} is {row['area']:g} now")
        content["annotations"] = kept

    def _size(self, row: Row) -> tuple[int, int]:
        """(height, width) as the file says, or as the image does; 0 for what neither does."""
        height, width = (side(row.get(key)) or 0 for key in ("height", "width"))
        if height and width:
            return height, width
        name = row.get("file_name")
        found = resolve_file(self._image_dir, name) if isinstance(name, str) else None
        return (image_size(str(self._image_dir / found)) if found else None) or (height, width)


def _drop_repeated(content: Content) -> Iterator[Change]:
    """Of equal boxes of a class in an image, the first stays."""
    seen: defaultdict[Any, dict[Any, Any]] = defaultdict(dict)
    kept = []
    for row in content["annotations"]:
        box = _numbers(row.get("bbox")) if isinstance(row, dict) else None
        if box is not None:
            key = (identifier(row.get("category_id")), box, str(row.get("iscrowd")))
            others = seen[identifier(row.get("image_id"))]
            if key in others:
                yield Change(
                    "box-repeated", f"annotation {row.get('id')}: left out, as annotation {others[key]}"
                )
                continue
            others[key] = row.get("id")
        kept.append(row)
    content["annotations"] = kept


def _numbers(bbox: Any) -> Optional[tuple[float, float, float, float]]:
    values = [number(value) for value in bbox] if isinstance(bbox, (list, tuple)) else []
    numbers = [value for value in values if value is not None]
    if len(values) != 4 or len(numbers) != 4:
        return None
    return numbers[0], numbers[1], numbers[2], numbers[3]


def _cut(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    x1, y1 = max(box[0], 0.0), max(box[1], 0.0)
    x2, y2 = box[0] + box[2], box[1] + box[3]
    x2, y2 = (min(x2, size[1]) if size[1] else x2), (min(y2, size[0]) if size[0] else y2)
    return x1, y1, x2 - x1, y2 - y1


def change_log(source: Path, target: Path, changes: list[Change]) -> str:
    """What was changed, one line each, under a line with the counts."""
    counts = ", ".join(f"{count} {kind}" for kind, count in Counter(c.kind for c in changes).items())
    lines = [f"{source} -> {target}: {len(changes)} changes ({counts})"] if changes else []
    return "\n".join([*lines, *(f"{change.kind}: {change.text}" for change in changes), ""])
