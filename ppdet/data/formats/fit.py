"""Makes of a dataset what a format can hold, and counts by kind what it cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Optional

import numpy as np
from tqdm import tqdm

from ppdet.data.formats.attributes import FLAGS
from ppdet.data.formats.dataset import FEATURES, LabelledDataset, size_of
from ppdet.data.formats.labelled import Labelled, LabelledImage
from ppdet.data.formats.masks import MaskError, read_mask
from ppdet.data.formats.values import flag, number
from ppdet.data.geometry import decode_runs, trace_bitmap
from ppdet.structures import Mask
from ppdet.utils.errors import DataError

#: Keys of an annotation that every format either holds or counts by another name.
_KNOWN = frozenset({"id", "image_id", "category_id", "bbox", "area", "segmentation", "attributes", "ignore"})
#: Pixels that a box may differ by from the bounds of its outline: tools round.
_SAME = 1.0


class Part(NamedTuple):
    """A part of a dataset as a writer gets it.

    Attributes:
        dataset: The whole of it, as read.
        names: The classes of all parts, in order.
        folder: Folder of its images in the written dataset; empty if they are in the same.
        file_names: Of each image in the written dataset, by its id.
        images: The images with what the format can hold. Can be gone through once.
    """

    dataset: LabelledDataset
    names: tuple[str, ...]
    folder: str
    file_names: Mapping[Any, str]
    images: Iterator[LabelledImage]


def class_names(parts: Mapping[str, LabelledDataset]) -> tuple[str, ...]:
    """The classes of all parts, in the order in which they are listed first."""
    names = (str(row["name"]) for part in parts.values() for row in part.content["categories"])
    return tuple(dict.fromkeys(names))


def fitted_images(
    dataset: LabelledDataset, holds: frozenset[str], file_names: Mapping[Any, str], counts: Counter[str]
) -> Iterator[LabelledImage]:
    """The images of a dataset with what a format can hold.

    Args:
        dataset: The dataset.
        holds: Keys of `FEATURES`.
        file_names: Of each image in the written dataset, by its id.
        counts: Counts what is lost, by kind.
    """
    content = dataset.content
    names = {row["id"]: str(row["name"]) for row in content["categories"]}
    rows_of: dict[Any, list[dict[str, Any]]] = {}
    for row in content["annotations"]:
        rows_of.setdefault(row["image_id"], []).append(row)
    for image in tqdm(content["images"], desc="writing", unit="image", disable=None):
        height, width = (int(number(image.get(key)) or 0) for key in ("height", "width"))
        size = (height, width)
        if 0 in size:
            size = size_of(dataset.image_dir, image["file_name"], size)
        fit = _Fit(holds, counts, size)
        found = (fit.labelled(row, names[row["category_id"]]) for row in rows_of.pop(image["id"], ()))
        objects = tuple(item for item in found if item is not None)
        if not objects and "empty" not in holds:
            counts[FEATURES["empty"]] += 1
        else:
            yield LabelledImage(file_names[image["id"]], size, objects)


class _Fit(NamedTuple):
    """What a format holds, the counts of what it does not, and (height, width) of the image."""

    holds: frozenset[str]
    counts: Counter[str]
    size: tuple[int, int]

    def labelled(self, row: dict[str, Any], name: str) -> Optional[Labelled]:
        """The object of an annotation; None if the format has no way to say what it is."""
        if flag(row.get("iscrowd")) and "iscrowd" not in self.holds:
            self.counts[FEATURES["iscrowd"]] += 1
            return None
        x, y, width, height = (number(value) or 0.0 for value in row["bbox"])
        box = (x, y, x + width, y + height)
        mask = self._mask(row, box)
        return Labelled(name, box, mask, self._extra(row))

    def _lose(self, feature: str) -> None:
        self.counts[FEATURES[feature]] += 1

    def _mask(self, row: dict[str, Any], box: tuple[float, float, float, float]) -> Mask:
        try:
            mask = read_mask(row.get("segmentation"), self.size)
        except MaskError as error:
            raise DataError(
                f"annotation id {row.get('id')} has {error}; `ppdet data check` finds all"
            ) from None
        if not mask:
            return ()
        if "outline" not in self.holds:
            if not is_rectangle(mask, box):
                self._lose("outline")
            return ()
        if isinstance(mask, dict) and "runs" not in self.holds:
            self._lose("runs")
            mask = tuple(trace_bitmap(decode_runs(mask)))
        elif isinstance(mask, tuple) and len(mask) > 1 and "parts" not in self.holds:
            self._lose("parts")
        if isinstance(mask, tuple) and mask and "parts" not in self.holds:
            mask = joined(mask)
        if mask and "own_box" not in self.holds and not _bounds(mask, box):
            self._lose("own_box")
        return mask

    def _extra(self, row: dict[str, Any]) -> dict[str, Any]:
        extra: dict[str, Any] = {}
        for name in FLAGS:
            if flag(row.get(name)):
                if name in self.holds:
                    extra[name] = 1
                else:
                    self._lose(name)
        score = number(row.get("score"))
        if score is not None:
            if "score" in self.holds:
                extra["score"] = score
            else:
                self._lose("score")
        attributes = self._attributes(row.get("attributes"))
        if attributes:
            extra["attributes"] = attributes
        for key in row:
            if key not in _KNOWN and key not in FLAGS and key != "score":
                self.counts[f'values of "{key}"'] += 1
        return extra

    def _attributes(self, written: Any) -> dict[str, Any]:
        kept = {}
        for name, value in written.items() if isinstance(written, dict) else ():
            feature = "yes_no" if isinstance(value, bool) else "attributes"
            if value is None:
                continue
            if feature not in self.holds or not isinstance(value, (bool, int, float, str)):
                self._lose(feature)
            else:
                kept[str(name)] = value
        return kept


def joined(parts: tuple[np.ndarray, ...]) -> tuple[np.ndarray]:
    """One polygon that covers what several cover: lines from the first corner to each part and back.

    The lines have no area, so that what is drawn of the polygon does not change.
    """
    if len(parts) == 1:
        return (parts[0],)
    first = parts[0]
    pieces = [first, first[:1]]
    for part in parts[1:]:
        pieces += [part, part[:1], first[:1]]
    return (np.concatenate(pieces),)


def is_rectangle(mask: Mask, box: tuple[float, float, float, float]) -> bool:
    """Whether an outline is the four corners of its box."""
    if not isinstance(mask, tuple) or len(mask) != 1 or len(mask[0]) != 4:
        return False
    x1, y1, x2, y2 = box
    corners = {(round(float(x), 3), round(float(y), 3)) for x, y in mask[0]}
    return corners == {(round(x, 3), round(y, 3)) for x in (x1, x2) for y in (y1, y2)}


def _bounds(mask: Mask, box: tuple[float, float, float, float]) -> bool:
    """Whether a box is that around its mask, as far as tools round."""
    if isinstance(mask, dict):
        from pycocotools import mask as coco_mask

        x, y, width, height = coco_mask.toBbox(mask).tolist()
        bounds = [x, y, x + width, y + height]
    else:
        points = np.concatenate(mask)
        bounds = [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]
    return all(abs(own - other) <= _SAME for own, other in zip(box, bounds))
