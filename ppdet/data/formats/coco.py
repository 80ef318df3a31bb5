"""Reads COCO annotation files, for datasets, checks, converters and pictures alike.

What tools write in other ways than COCO but can mean only one thing is taken as what it means: numbers as
text, flags as words, ids as text, areas and sizes left out. Everything else is a problem by id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

from ppdet.data.formats.coco_objects import CocoImage, CocoObject, ObjectReader, box_kind, box_remark, name_of
from ppdet.data.formats.values import Id, identifier, is_text, shown, side
from ppdet.data.json_stream import stream_json
from ppdet.data.problems import DatasetProblem, DatasetProblemsError
from ppdet.structures import Categories

#: (height, width) of an image file by the name that the annotation file gives it; None if unknown.
SizeOf = Callable[[str], Optional[tuple[int, int]]]


class CocoFile(NamedTuple):
    """What a COCO annotation file says.

    Attributes:
        categories: In the order of the file.
        images: In the order of the file.
        objects: In the order of the file.
        problems: Everything wrong with it; the lists are complete only where there is nothing.
        with_masks: Whether masks were read.
    """

    categories: Categories
    images: list[CocoImage]
    objects: list[CocoObject]
    problems: list[DatasetProblem]
    with_masks: bool

    def name_of(self, item: CocoObject) -> str:
        """What messages call an object."""
        return name_of(item.given_id, self.images[item.image])


def read_coco(
    path: Path, *, with_masks: bool, size_of: Optional[SizeOf] = None, masks_needed: bool = True
) -> CocoFile:
    """Read an annotation file that must be in order; arguments as of `parse_coco`.

    Raises:
        DataError: If it cannot be read.
        DatasetProblemsError: If anything in it is wrong; has every problem.
    """
    parsed = _parse(stream_json(path), with_masks, size_of, masks_needed)
    if parsed.problems:
        raise DatasetProblemsError(str(path), parsed.problems)
    return parsed


def parse_coco(
    content: Mapping[str, Any],
    *,
    with_masks: bool,
    size_of: Optional[SizeOf] = None,
    masks_needed: bool = True,
) -> CocoFile:
    """Everything that a parsed annotation file says, and everything wrong with it. Never raises.

    Args:
        content: The parsed file.
        with_masks: Read masks.
        size_of: Called for images whose size the file leaves out.
        masks_needed: Whether an object without a mask is a problem, where masks are read.
    """
    return _parse(content.items(), with_masks, size_of, masks_needed)


def _parse(
    members: Iterable[tuple[str, Any]], with_masks: bool, size_of: Optional[SizeOf], masks_needed: bool
) -> CocoFile:
    """Reads the members in their order; annotations that come before the images wait for those."""
    problems: list[DatasetProblem] = []
    category_rows: list[dict[str, Any]] = []
    images: Optional[list[CocoImage]] = None
    rows: Iterable[dict[str, Any]] = ()
    objects: Optional[ObjectReader] = None
    found: list[CocoObject] = []
    for key, value in members:
        if key == "categories":
            category_rows = list(_rows(value, key, problems))
        elif key == "images":
            images = _images(_rows(value, key, problems), problems, size_of)
        elif key == "annotations":
            if images is None:
                rows = list(_rows(value, key, problems))
                continue
            objects = ObjectReader(images, with_masks=with_masks, masks_needed=masks_needed)
            found = objects.read_all(_rows(value, key, problems))
    images = _images((), problems, size_of) if images is None else images
    if objects is None:
        objects = ObjectReader(images, with_masks=with_masks, masks_needed=masks_needed)
        found = objects.read_all(rows)
    categories = _categories(category_rows, problems)
    if category_rows:  # without a table, which is one problem, every object would be another
        found = objects.of_known_categories(found, {identifier(row.get("id")) for row in category_rows})
    problems += objects.problems
    categories = _without_roots(categories, category_rows, objects.category_ids)
    return CocoFile(categories, images, found, problems, with_masks)


def read_coco_categories(path: Path) -> Categories:
    """The category table alone.

    Raises:
        DataError: If the file cannot be read, or its categories are not in order.
    """
    problems: list[DatasetProblem] = []
    rows: list[dict[str, Any]] = []
    used: set[Optional[Id]] = set()
    for key, value in stream_json(path):
        if key == "categories":
            rows = list(_rows(value, key, problems))
        elif key == "annotations":
            used = {identifier(row.get("category_id")) for row in _rows(value, key, [])}
    categories = _categories(rows, problems)
    if problems:
        raise DatasetProblemsError(str(path), problems)
    return _without_roots(categories, rows, used)


def _rows(value: Any, key: str, problems: list[DatasetProblem]) -> Iterator[dict[str, Any]]:
    """The objects of a list, one by one; what else is in it is a problem."""
    if value is None:
        return
    if not isinstance(value, (list, Iterator)):
        problems.append(DatasetProblem("list-invalid", f'"{key}" is a {type(value).__name__}'))
        return
    for row in value:
        if isinstance(row, dict):
            yield row
        else:
            problems.append(DatasetProblem("list-invalid", f'"{key}" contains {shown(row)}'))


def _categories(rows: list[dict[str, Any]], problems: list[DatasetProblem]) -> Categories:
    if not rows:
        problems.append(DatasetProblem("no-categories", '"categories" is missing or empty'))
    names: list[str] = []
    ids: list[int] = []
    for index, row in enumerate(rows):
        name, id_ = row.get("name"), identifier(row.get("id"))
        # Some tools number their classes in place of naming them.
        plain = isinstance(name, (int, float)) and not isinstance(name, bool)
        text = str(name) if plain or is_text(name) else ""
        if not text.strip():
            problems.append(
                DatasetProblem("category-incomplete", f"category {index} has the name {shown(name)}")
            )
        elif not isinstance(id_, int):
            problems.append(
                DatasetProblem("category-incomplete", f"category {text!r} has the id {shown(row.get('id'))}")
            )
        else:
            names.append(text)
            ids.append(id_)
    repeated = [
        DatasetProblem("category-repeated", f"{count} categories have the {what} {value!r}")
        for what, values in (("name", names), ("id", ids))
        for value, count in Counter[Any](values).items()
        if count > 1
    ]
    problems += repeated
    return Categories((), ()) if repeated else Categories(tuple(names), tuple(ids))


def _without_roots(
    categories: Categories, rows: list[dict[str, Any]], used: Collection[Optional[Id]]
) -> Categories:
    """The table without the class that Roboflow lists first: the project itself, above all others.

    It is the supercategory of another class, its own is "none", and no object is one (its id is not `used`).
    """
    above = {row.get("supercategory") for row in rows if isinstance(row.get("supercategory"), str)}
    roots = {
        identifier(row.get("id"))
        for row in rows
        if row.get("supercategory") == "none" and str(row.get("name")) in above
    }
    if not roots:
        return categories
    roots.difference_update(used)
    kept = [(name, id_) for name, id_ in zip(categories.names, categories.ids) if id_ not in roots]
    return Categories(tuple(name for name, _ in kept), tuple(id_ for _, id_ in kept))


def _images(
    rows: Iterable[dict[str, Any]], problems: list[DatasetProblem], size_of: Optional[SizeOf]
) -> list[CocoImage]:
    images: list[CocoImage] = []
    names: dict[Id, list[str]] = {}
    empty = True
    for row in rows:
        empty = False
        id_, name = identifier(row.get("id")), row.get("file_name")
        if id_ is None or not is_text(name) or not name:
            what = f"the id {shown(row.get('id'))}" if id_ is None else f"the file_name {shown(name)}"
            problems.append(DatasetProblem("image-incomplete", f"an image has {what}: {shown(row)}"))
            if id_ is None:
                continue
            name = f"image {id_}"
        names.setdefault(id_, []).append(name)
        if len(names[id_]) > 1:
            continue
        height, width = side(row.get("height")), side(row.get("width"))
        if height is None or width is None:
            written = f"height {shown(row.get('height'))} and width {shown(row.get('width'))}"
            text = f"image id {id_}: {name} has {written}"
            problems.append(DatasetProblem("image-size", text))
            height = width = 0
        if (height == 0 or width == 0) and size_of is not None:
            height, width = size_of(name) or (height, width)
        images.append(CocoImage(id_, name, (height, width)))
    problems += [
        DatasetProblem("image-repeated", f"image id {id_}: {', '.join(shared[:3])}")
        for id_, shared in names.items()
        if len(shared) > 1
    ]
    if empty:
        problems.append(DatasetProblem("no-images", '"images" is missing or empty'))
    return images


def remarks_of(parsed: CocoFile) -> Iterator[DatasetProblem]:
    """What is odd about the objects of a file that is in order: no area, outside of or cut by a border."""
    for item in parsed.objects:
        size = parsed.images[item.image].size
        kind = box_kind(item.box, size)
        if kind is not None:
            yield box_remark(kind, parsed.name_of(item), item.box, size)
