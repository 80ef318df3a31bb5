"""Reads COCO annotation files, for datasets, checks, converters and pictures alike.

What tools write in other ways than COCO but can mean only one thing is taken as what it means: numbers as
text, flags as words, ids as text, areas and sizes left out. Everything else is a problem by id.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

from ppdet.data.annotation_files import read_json
from ppdet.data.formats.masks import MaskError, mask_area, read_mask
from ppdet.data.formats.values import FARTHEST, Id, flag, identifier, is_text, number, shown, side
from ppdet.data.problems import DatasetProblem, DatasetProblemsError
from ppdet.structures import Categories, Mask

#: Pixels that a box may leave its image by before that is worth a line.
_TOLERANCE = 2.0
#: (height, width) of an image file by the name that the annotation file gives it; None if unknown.
SizeOf = Callable[[str], Optional[tuple[int, int]]]


class CocoImage(NamedTuple):
    """An image: its id, its path inside the image folder, and (height, width), 0 where unknown."""

    id: Id
    file_name: str
    size: tuple[int, int]


class CocoObject(NamedTuple):
    """An object.

    Attributes:
        name: What messages call it.
        image: Row of its image in `CocoFile.images`.
        category_id: Id of its category.
        box: x, y, width, height in pixels, as written; sizes are 0 or more.
        area: Square pixels, as written, or of the mask or box where the file has none; may be 0.
        is_crowd: Whether it is a crowd region.
        ignore: Whether the file marks it as one to leave out.
        mask: Empty where it has none or masks were not read.
    """

    name: str
    image: int
    category_id: int
    box: tuple[float, float, float, float]
    area: float
    is_crowd: bool
    ignore: bool
    mask: Mask


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


def read_coco(
    path: Path, *, with_masks: bool, size_of: Optional[SizeOf] = None, masks_needed: bool = True
) -> CocoFile:
    """Read an annotation file that must be in order; arguments as of `parse_coco`.

    Raises:
        DataError: If it cannot be read.
        DatasetProblemsError: If anything in it is wrong; has every problem.
    """
    content = read_json(path)
    parsed = parse_coco(content, with_masks=with_masks, size_of=size_of, masks_needed=masks_needed)
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
    problems: list[DatasetProblem] = []
    category_rows = _rows(content, "categories", problems)
    categories = _categories(category_rows, problems)
    images = _images(_rows(content, "images", problems), problems, size_of)
    ids = {identifier(row.get("id")) for row in category_rows}
    objects = _Objects(images, ids, with_masks=with_masks, masks_needed=masks_needed)
    rows = _rows(content, "annotations", problems)
    found = [item for row in rows for item in (objects.read(row),) if item is not None]
    problems += objects.problems
    return CocoFile(_without_roots(categories, category_rows, rows), images, found, problems, with_masks)


def read_coco_categories(path: Path) -> Categories:
    """The category table alone.

    Raises:
        DataError: If the file cannot be read, or its categories are not in order.
    """
    problems: list[DatasetProblem] = []
    content = read_json(path)
    rows = _rows(content, "categories", problems)
    categories = _categories(rows, problems)
    if problems:
        raise DatasetProblemsError(str(path), problems)
    return _without_roots(categories, rows, _rows(content, "annotations", []))


def _rows(content: Mapping[str, Any], key: str, problems: list[DatasetProblem]) -> list[dict[str, Any]]:
    rows = content.get(key)
    if rows is None:
        return []
    if not isinstance(rows, list):
        problems.append(DatasetProblem("list-invalid", f'"{key}" is a {type(rows).__name__}'))
        return []
    faulty = [row for row in rows if not isinstance(row, dict)]
    problems += [DatasetProblem("list-invalid", f'"{key}" contains {shown(row)}') for row in faulty]
    return [row for row in rows if isinstance(row, dict)] if faulty else rows


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
    categories: Categories, rows: list[dict[str, Any]], annotations: list[dict[str, Any]]
) -> Categories:
    """The table without the class that Roboflow lists first: the project itself, above all others.

    It is the supercategory of another class, its own is "none", and no object is one.
    """
    above = {row.get("supercategory") for row in rows if isinstance(row.get("supercategory"), str)}
    roots = {
        identifier(row.get("id"))
        for row in rows
        if row.get("supercategory") == "none" and str(row.get("name")) in above
    }
    if not roots:
        return categories
    roots -= {identifier(row.get("category_id")) for row in annotations}
    kept = [(name, id_) for name, id_ in zip(categories.names, categories.ids) if id_ not in roots]
    return Categories(tuple(name for name, _ in kept), tuple(id_ for _, id_ in kept))


def _images(
    rows: list[dict[str, Any]], problems: list[DatasetProblem], size_of: Optional[SizeOf]
) -> list[CocoImage]:
    if not rows:
        problems.append(DatasetProblem("no-images", '"images" is missing or empty'))
    images: list[CocoImage] = []
    names: dict[Id, list[str]] = {}
    for row in rows:
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
    return images


class _Objects:
    """Reads annotations one by one; `problems` are those of all of them."""

    def __init__(
        self,
        images: list[CocoImage],
        category_ids: set[Optional[Id]],
        *,
        with_masks: bool,
        masks_needed: bool,
    ) -> None:
        self._images = images
        self._row_of = {image.id: row for row, image in enumerate(images)}
        self._category_ids = category_ids
        self._with_masks, self._masks_needed = with_masks, masks_needed
        self._seen: Counter[Any] = Counter()
        self._boxes = self._beyond = 0
        self._problems: list[DatasetProblem] = []

    @property
    def problems(self) -> list[DatasetProblem]:
        """What is wrong with single annotations, and with all of them together."""
        problems = list(self._problems)
        if self._beyond * 2 > self._boxes:
            text = f"{self._beyond} of {self._boxes} boxes end outside of their image"
            problems.append(DatasetProblem("box-corners", text))
        return problems

    def read(self, row: dict[str, Any]) -> Optional[CocoObject]:
        """The object of an annotation; None if something is wrong with it."""
        given = row.get("id")
        name = f"annotation {shown(given)}"
        own_id = identifier(given)
        if own_id is not None:
            self._seen[own_id] += 1
            if self._seen[own_id] == 2:
                self._add("annotation-repeated", f"{name} occurs more than once")
        image_id = identifier(row.get("image_id"))
        index = None if image_id is None else self._row_of.get(image_id)
        if index is None:
            self._add("annotation-image", f"{name} has image_id {shown(row.get('image_id'))}")
            return None
        image = self._images[index]
        name += f" of {image.file_name}"
        before = len(self._problems)
        category_id = identifier(row.get("category_id"))
        if category_id is None or category_id not in self._category_ids:
            self._add("annotation-category", f"{name} has category_id {shown(row.get('category_id'))}")
        is_crowd, ignore = (self._flag(row, key, name) for key in ("iscrowd", "ignore"))
        box = self._box(row.get("bbox"), name, image.size)
        mask = self._mask(row.get("segmentation"), is_crowd, name, image.size)
        area = self._area(row.get("area"), name)
        if len(self._problems) > before or box is None or not isinstance(category_id, int):
            return None
        if not area:
            area = mask_area(mask) or box[2] * box[3]
        return CocoObject(name, index, category_id, box, area, is_crowd, ignore, mask)

    def _add(self, kind: str, text: str) -> None:
        self._problems.append(DatasetProblem(kind, text))

    def _flag(self, row: dict[str, Any], key: str, name: str) -> bool:
        value = row.get(key)
        if value == 0 or value is None:
            return False
        parsed = flag(value)
        if parsed is None:
            self._add("flag-invalid", f"{name} has {key} {shown(value)}")
        return bool(parsed)

    def _area(self, value: Any, name: str) -> float:
        """The area as written; 0 if the file has none."""
        parsed = number(value)
        if parsed is None and isinstance(value, (str, list, dict, bool)) and value != "":
            self._add("area-invalid", f"{name} has area {shown(value)}")
        return max(0.0, parsed or 0.0)

    def _box(
        self, bbox: Any, name: str, size: tuple[int, int]
    ) -> Optional[tuple[float, float, float, float]]:
        values = [number(value) for value in bbox] if isinstance(bbox, (list, tuple)) else []
        numbers = [value for value in values if value is not None and abs(value) <= FARTHEST * 1000]
        if len(numbers) != 4 or len(values) != 4:
            self._add("box-invalid", f"{name} has bbox {shown(bbox)}")
            return None
        x, y, width, height = numbers
        if width < 0 or height < 0:
            self._add("box-inverted", f"{name} has bbox {shown(bbox)}")
            return None
        self._boxes += 1
        self._beyond += leaves(numbers, size)
        return x, y, width, height

    def _mask(self, segmentation: Any, is_crowd: bool, name: str, size: tuple[int, int]) -> Mask:
        if not self._with_masks:
            return ()
        try:
            mask = read_mask(segmentation, size)
        except MaskError as error:
            self._add("mask-invalid", f"{name} has {error}")
            return ()
        if not mask and not is_crowd and self._masks_needed:
            self._add("mask-missing", f"{name} has no segmentation")
        return mask


def leaves(box: Iterable[float], size: tuple[int, int]) -> bool:
    """Whether a box x, y, width, height ends right of or below its image of `size` (height, width)."""
    x, y, width, height = box
    right, bottom = size[1] or math.inf, size[0] or math.inf
    return x + width > right + _TOLERANCE or y + height > bottom + _TOLERANCE


def remarks_of(parsed: CocoFile) -> Iterator[DatasetProblem]:
    """What is odd about the objects of a file that is in order: no area, outside of or cut by a border."""
    for item in parsed.objects:
        height, width = parsed.images[item.image].size
        remark = box_remark(item.name, item.box, (height, width))
        if remark is not None:
            yield remark


def box_remark(
    name: str, box: tuple[float, float, float, float], size: tuple[int, int]
) -> Optional[DatasetProblem]:
    """What is odd about a box x, y, width, height in an image of `size` (height, width); None if nothing."""
    x, y, width, height = box
    right, bottom = size[1] or math.inf, size[0] or math.inf
    text = f"{name} has bbox {[round(value, 2) for value in box]}"
    if width <= 0 or height <= 0:
        return DatasetProblem("box-empty", f"{text}, which has no area")
    if x >= right or y >= bottom or x + width <= 0 or y + height <= 0:
        return DatasetProblem("box-outside", f"{text}, its image has {size[1]} x {size[0]} pixels")
    if x < -_TOLERANCE or y < -_TOLERANCE or leaves(box, size):
        return DatasetProblem("box-clipped", f"{text}, its image has {size[1]} x {size[0]} pixels")
    return None
