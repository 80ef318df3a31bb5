"""Annotations of a COCO file, one by one: objects, and what is wrong or odd about them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple, Optional

from ppdet.data.formats.masks import MaskError, mask_area, read_mask
from ppdet.data.formats.values import FARTHEST, Id, flag, identifier, number, shown
from ppdet.data.problems import DatasetProblem
from ppdet.structures import Mask

#: Coordinates of boxes beyond this are none.
_LIMIT = FARTHEST * 1000
#: Pixels that a box may leave its image by before that is worth a line.
_TOLERANCE = 2.0


class CocoImage(NamedTuple):
    """An image: its id, its path inside the image folder, and (height, width), 0 where unknown."""

    id: Id
    file_name: str
    size: tuple[int, int]


class CocoObject(NamedTuple):
    """An object.

    Attributes:
        given_id: Its id as written.
        image: Row of its image in `CocoFile.images`.
        category_id: Id of its category, an integer where the file is in order.
        box: x, y, width, height in pixels, as written; sizes are 0 or more.
        area: Square pixels, as written, or of the mask or box where the file has none; may be 0.
        is_crowd: Whether it is a crowd region.
        ignore: Whether the file marks it as one to leave out.
        mask: Empty where it has none or masks were not read.
    """

    given_id: Any
    image: int
    category_id: Id
    box: tuple[float, float, float, float]
    area: float
    is_crowd: bool
    ignore: bool
    mask: Mask


#: An annotation for messages: its id as written, and its image if it has one.
_Who = tuple[Any, Optional[CocoImage]]


def name_of(given_id: Any, image: Optional[CocoImage]) -> str:
    """What messages call an annotation, by its id as written."""
    where = "" if image is None else f" of {image.file_name}"
    return f"annotation {shown(given_id)}{where}"


class ObjectReader:
    """Reads annotations one by one.

    Attributes:
        category_ids: Those that annotations have, of no table: the file may list its categories last.
    """

    def __init__(self, images: list[CocoImage], *, with_masks: bool, masks_needed: bool) -> None:
        self.category_ids: set[Optional[Id]] = set()
        self._images = images
        self._row_of = {image.id: row for row, image in enumerate(images)}
        self._with_masks, self._masks_needed = with_masks, masks_needed
        self._seen: set[Id] = set()
        self._repeated: set[Optional[Id]] = set()
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

    def read_all(self, rows: Iterable[dict[str, Any]]) -> list[CocoObject]:
        """The objects of the annotations that have nothing wrong with them."""
        return [item for row in rows for item in (self._read(row),) if item is not None]

    def of_known_categories(self, objects: list[CocoObject], known: set[Optional[Id]]) -> list[CocoObject]:
        """The objects whose category is in the table; the others are problems."""
        kept = []
        for item in objects:
            if item.category_id in known:
                kept.append(item)
            else:
                who = (item.given_id, self._images[item.image])
                self._add("annotation-category", who, f"has category_id {shown(item.category_id)}")
        return kept

    def _read(self, row: dict[str, Any]) -> Optional[CocoObject]:
        """The object of an annotation; None if something is wrong with it."""
        given = row.get("id")
        own_id = identifier(given)
        if own_id in self._seen:
            if own_id not in self._repeated:
                self._add("annotation-repeated", (given, None), "occurs more than once")
            self._repeated.add(own_id)
        elif own_id is not None:
            self._seen.add(own_id)
        image_id = identifier(row.get("image_id"))
        index = None if image_id is None else self._row_of.get(image_id)
        if index is None:
            self._add("annotation-image", (given, None), f"has image_id {shown(row.get('image_id'))}")
            return None
        image = self._images[index]
        who = (given, image)
        before = len(self._problems)
        category_id = identifier(row.get("category_id"))
        self.category_ids.add(category_id)
        if category_id is None:
            self._add("annotation-category", who, f"has category_id {shown(row.get('category_id'))}")
        is_crowd = self._flag(row, "iscrowd", who)
        ignore = self._flag(row, "ignore", who)
        box = self._box(row.get("bbox"), who, image.size)
        mask = self._mask(row.get("segmentation"), is_crowd, who, image.size)
        area = self._area(row.get("area"), who)
        if len(self._problems) > before or box is None or category_id is None:
            return None
        if not area:
            area = mask_area(mask) or box[2] * box[3]
        return CocoObject(given, index, category_id, box, area, is_crowd, ignore, mask)

    def _add(self, kind: str, who: _Who, text: str) -> None:
        self._problems.append(DatasetProblem(kind, f"{name_of(*who)} {text}"))

    def _flag(self, row: dict[str, Any], key: str, who: _Who) -> bool:
        value = row.get(key)
        if value == 0 or value is None:
            return False
        parsed = flag(value)
        if parsed is None:
            self._add("flag-invalid", who, f"has {key} {shown(value)}")
        return bool(parsed)

    def _area(self, value: Any, who: _Who) -> float:
        """The area as written; 0 if the file has none."""
        parsed = number(value)
        if parsed is None and isinstance(value, (str, list, dict, bool)) and value != "":
            self._add("area-invalid", who, f"has area {shown(value)}")
        return max(0.0, parsed or 0.0)

    def _box(
        self, bbox: Any, who: _Who, size: tuple[int, int]
    ) -> Optional[tuple[float, float, float, float]]:
        values = [number(value) for value in bbox] if isinstance(bbox, (list, tuple)) else []
        numbers = [value for value in values if value is not None and -_LIMIT <= value <= _LIMIT]
        if len(numbers) != 4 or len(values) != 4:
            self._add("box-invalid", who, f"has bbox {shown(bbox)}")
            return None
        x, y, width, height = numbers
        if width < 0 or height < 0:
            self._add("box-inverted", who, f"has bbox {shown(bbox)}")
            return None
        self._boxes += 1
        self._beyond += leaves(numbers, size)
        return x, y, width, height

    def _mask(self, segmentation: Any, is_crowd: bool, who: _Who, size: tuple[int, int]) -> Mask:
        if not self._with_masks:
            return ()
        try:
            mask = read_mask(segmentation, size)
        except MaskError as error:
            self._add("mask-invalid", who, f"has {error}")
            return ()
        if not mask and not is_crowd and self._masks_needed:
            self._add("mask-missing", who, "has no segmentation")
        return mask


def leaves(box: Iterable[float], size: tuple[int, int]) -> bool:
    """Whether a box x, y, width, height ends right of or below its image of `size` (height, width)."""
    x, y, width, height = box
    bottom, right = size
    return x + width > (right or math.inf) + _TOLERANCE or y + height > (bottom or math.inf) + _TOLERANCE


def box_kind(box: tuple[float, float, float, float], size: tuple[int, int]) -> Optional[str]:
    """The kind of the remark on a box x, y, width, height in an image of `size`; None if nothing is odd."""
    x, y, width, height = box
    if width <= 0 or height <= 0:
        return "box-empty"
    if x >= (size[1] or math.inf) or y >= (size[0] or math.inf) or x + width <= 0 or y + height <= 0:
        return "box-outside"
    if x < -_TOLERANCE or y < -_TOLERANCE or leaves(box, size):
        return "box-clipped"
    return None


def box_remark(
    kind: str, name: str, box: tuple[float, float, float, float], size: tuple[int, int]
) -> DatasetProblem:
    """The remark of a kind that `box_kind` gives."""
    text = f"{name} has bbox {[round(value, 2) for value in box]}"
    cause = "which has no area" if kind == "box-empty" else f"its image has {size[1]} x {size[0]} pixels"
    return DatasetProblem(kind, f"{text}, {cause}")
