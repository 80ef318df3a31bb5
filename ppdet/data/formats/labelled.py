"""Images with their objects, as converters hold them between one format and another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional, Union

import numpy as np

from ppdet.data.formats.masks import mask_area
from ppdet.structures import Mask, Rle
from ppdet.utils.errors import DataError


@dataclass(frozen=True)
class Labelled:
    """One object: class name, x1 y1 x2 y2 in pixels, a mask if it has one, and what else is said of it.

    `extra` goes into the row of the annotation: ``iscrowd``, ``difficult``, ``truncated``, ``occluded``,
    ``score``, ``attributes``.
    """

    name: str
    box: tuple[float, float, float, float]
    mask: Mask = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_parts(
        cls, name: str, parts: Sequence[np.ndarray], extra: Optional[Mapping[str, Any]] = None
    ) -> Labelled:
        """An object whose outline is one or more polygons ``[V, 2]``."""
        points = np.concatenate(parts)
        (x1, y1), (x2, y2) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        return cls(name, (x1, y1, x2, y2), tuple(parts), extra or {})

    @classmethod
    def from_outlines(
        cls,
        name: str,
        outlines: Sequence[Union[np.ndarray, Rle]],
        size: tuple[int, int],
        extra: Optional[Mapping[str, Any]] = None,
    ) -> Labelled:
        """An object of polygons and run lengths, in an image of `size` (height, width)."""
        polygons = [part for part in outlines if isinstance(part, np.ndarray)]
        if len(polygons) == len(outlines):
            return cls.from_parts(name, polygons, extra)
        from pycocotools import mask as coco_mask

        flat = [part.reshape(-1).tolist() for part in polygons]
        drawn = list(coco_mask.frPyObjects(flat, *size)) if flat else []
        runs = coco_mask.merge([part for part in outlines if isinstance(part, dict)] + drawn)
        x, y, width, height = coco_mask.toBbox(runs).tolist()
        return cls(name, (x, y, x + width, y + height), dict(runs), extra or {})


@dataclass(frozen=True)
class LabelledImage:
    """One image: its path inside the image folder, (height, width), and its objects."""

    file_name: str
    size: tuple[int, int]
    objects: tuple[Labelled, ...]


def to_coco(images: Iterable[LabelledImage], names: Sequence[str] = ()) -> dict[str, Any]:
    """The content of a COCO annotation file.

    Args:
        images: Images in the order of their ids, from 1.
        names: Classes in the order of their ids, from 1; none: the names that occur, sorted.

    Raises:
        DataError: If an object has a name that `names` has not.
    """
    if not names:
        images = list(images)
        names = sorted({item.name for image in images for item in image.objects})
    ids = {name: number for number, name in enumerate(names, start=1)}
    unknown: set[str] = set()
    rows: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(images, start=1):
        height, width = image.size
        rows.append({"id": number, "file_name": image.file_name, "height": height, "width": width})
        for item in image.objects:
            if item.name not in ids:
                unknown.add(item.name)
                continue
            annotation = _annotation(item, ids[item.name])
            annotations.append({"id": len(annotations) + 1, "image_id": number, **annotation})
    if unknown:
        raise DataError(
            f"classes that are not in the list: {', '.join(sorted(unknown))}; the list has {', '.join(ids)}"
        )
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    return {"images": rows, "annotations": annotations, "categories": categories}


def _annotation(item: Labelled, category: int) -> dict[str, Any]:
    x1, y1, x2, y2 = item.box
    if isinstance(item.mask, dict):
        segmentation: Any = {"size": item.mask["size"], "counts": item.mask["counts"].decode("ascii")}
    else:
        segmentation = [[float(v) for v in part.reshape(-1)] for part in item.mask]
    return {
        "category_id": category,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": mask_area(item.mask) if item.mask else (x2 - x1) * (y2 - y1),
        "iscrowd": 0,
        "segmentation": segmentation,
        **item.extra,
    }
