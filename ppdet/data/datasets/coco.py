"""COCO-format detection data (Lin et al., "Microsoft COCO", arXiv:1405.0312; format: cocodataset.org)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np

from ppdet.config.spec import Derived
from ppdet.data.categories import categories_of_coco, labels_of_ids
from ppdet.data.datasets.base import (
    AnnotatedDataset,
    check_data_fields,
    choose_images,
    missing_images_error,
    report,
    require_images,
)
from ppdet.data.datasets.packed import PackedAnnotations, PackedMasks, offsets_of, pack_strings
from ppdet.data.files import missing_files, read_json, require_folder
from ppdet.structures import Categories, Mask
from ppdet.utils.errors import DataError

#: Boxes narrower or lower than this many pixels are dropped.
_SMALLEST_SIDE = 1e-5
#: Decimals that box corners are rounded to; the published models were trained on such boxes.
_BOX_DECIMALS = 3


class COCODataSet(AnnotatedDataset):
    """Images and objects of a COCO annotation file.

    Objects without area (``area`` or a side is 0) are dropped and counted. Images come in the order of their
    ids.

    Args:
        dataset_dir: Folder of the dataset.
        image_dir: Folder of the images, inside `dataset_dir`.
        anno_path: Annotation file, inside `dataset_dir`.
        data_fields: What a sample carries; boxes, classes and crowd flags come always, ``gt_poly`` adds
            masks.
        sample_num: Use only the first so many images; -1 for all.
        load_crowd: Keep crowd regions (``iscrowd: 1``) as objects with `is_crowd` set; else they are dropped.
        allow_empty: Keep images without objects. They teach the detector what is none; 2.x drops them unless
            told.
        empty_ratio: Most images without objects as a share of all, in [0, 1); 1 keeps every one.
        repeat: Times the dataset is gone through in one epoch.
        categories: The table of the training set; labels follow its names. None: this file's own table.

    Raises:
        DataError: If a folder, file or image is missing, or the annotations are broken.
    """

    def __init__(
        self,
        *,
        dataset_dir: str,
        image_dir: str = "",
        anno_path: str,
        data_fields: Sequence[str] = ("image", "gt_bbox", "gt_class", "is_crowd"),
        sample_num: int = -1,
        load_crowd: bool = False,
        allow_empty: bool = True,
        empty_ratio: float = 1.0,
        repeat: int = 1,
        categories: Derived[Optional[Categories]] = None,
    ) -> None:
        check_data_fields(data_fields)
        require_folder(Path(dataset_dir), "dataset_dir")
        self.image_folder = (Path(dataset_dir) / image_dir).as_posix()
        self.anno_path = Path(dataset_dir) / anno_path
        source = str(self.anno_path)
        content = read_json(self.anno_path)
        own = categories_of_coco(content, source)
        label_of_id = labels_of_ids(own, categories, source)
        require_folder(Path(self.image_folder), "image_dir")
        self._categories = own if categories is None else categories
        self._repeat = repeat
        rows = _Rows(content, label_of_id, source, load_crowd=load_crowd, with_masks="gt_poly" in data_fields)
        counts = np.array([len(objects) for objects in rows.objects], np.int64)
        chosen = choose_images(
            counts, allow_empty=allow_empty, empty_ratio=empty_ratio, sample_num=sample_num
        )
        empty = int((counts[chosen] == 0).sum())
        report(source, len(counts), len(chosen), int((counts == 0).sum()), empty, rows.dropped)
        require_images(source, len(chosen), len(counts), allow_empty)
        self.packed = rows.pack(chosen)
        names = [self.packed.name(row) for row in range(len(chosen))]
        error = missing_images_error(
            source, self.image_folder, missing_files(Path(self.image_folder), names), len(names)
        )
        if error is not None:
            raise error


class _Rows:
    """Parses the lists of an annotation file into rows, dropping what cannot be trained on."""

    def __init__(
        self,
        content: Mapping[str, Any],
        label_of_id: Mapping[int, int],
        source: str,
        *,
        load_crowd: bool,
        with_masks: bool,
    ) -> None:
        self._source = source
        self._label_of_id = label_of_id
        self._load_crowd = load_crowd
        self._with_masks = with_masks
        self.dropped: Counter[str] = Counter()
        self.images = self._read_images(content.get("images"))
        index_of = {image["id"]: row for row, image in enumerate(self.images)}
        self.objects: list[list[tuple[list[float], int, bool, Optional[Mask]]]] = [[] for _ in self.images]
        annotations = content.get("annotations", [])
        if not isinstance(annotations, list):
            raise DataError(f'{source}: "annotations" is a {type(annotations).__name__}, it must be a list')
        for annotation in annotations:
            row = index_of.get(annotation.get("image_id"))
            if row is None:
                raise DataError(
                    f"{source}: annotation {annotation.get('id')} is of image "
                    f'{annotation.get("image_id")}, which is not in "images"'
                )
            parsed = self._read_object(annotation, self.images[row])
            if parsed is not None:
                self.objects[row].append(parsed)

    def _read_images(self, images: Any) -> list[dict[str, Any]]:
        if not isinstance(images, list) or not images:
            raise DataError(f'{self._source}: no "images"; the annotation file is empty')
        seen: set[int] = set()
        for image in images:
            for key in ("id", "file_name"):
                if key not in image:
                    raise DataError(f"{self._source}: image {image} has no {key}")
            if image["id"] in seen:
                raise DataError(
                    f"{self._source}: image id {image['id']} occurs twice, again with {image['file_name']}; "
                    "ids must be unique"
                )
            seen.add(image["id"])
        return sorted(images, key=lambda image: image["id"])

    def _read_object(
        self, annotation: Mapping[str, Any], image: Mapping[str, Any]
    ) -> Optional[tuple[list[float], int, bool, Optional[Mask]]]:
        where = f"{self._source}: annotation {annotation.get('id')} of {image['file_name']}"
        label = self._label_of_id.get(annotation.get("category_id", -1))
        if label is None:
            raise DataError(f'{where}: category_id {annotation.get("category_id")} is not in "categories"')
        crowd = bool(annotation.get("iscrowd", 0))
        if crowd and not self._load_crowd:
            self.dropped["crowd regions"] += 1
            return None
        if annotation.get("ignore"):
            self.dropped["objects marked ignore"] += 1
            return None
        x, y, width, height = read_box(annotation.get("bbox"), where)
        area = annotation.get("area", width * height)
        if not area > 0 or width <= _SMALLEST_SIDE or height <= _SMALLEST_SIDE:
            self.dropped["objects without area"] += 1
            return None
        box = [round(value, _BOX_DECIMALS) for value in (x, y, x + width, y + height)]
        mask = None
        if self._with_masks:
            mask = read_mask(annotation.get("segmentation"), image, where)
        return box, label, crowd, mask

    def pack(self, chosen: np.ndarray) -> PackedAnnotations:
        """The chosen images as arrays."""
        images = [self.images[row] for row in chosen]
        objects = [item for row in chosen for item in self.objects[row]]
        names, name_offsets = pack_strings(str(image["file_name"]).encode("utf-8") for image in images)
        return PackedAnnotations(
            image_ids=np.array([image["id"] for image in images], np.int64),
            sizes=np.array(
                [[image.get("height") or 0, image.get("width") or 0] for image in images], np.int32
            ),
            names=names,
            name_offsets=name_offsets,
            object_offsets=offsets_of([len(self.objects[row]) for row in chosen]),
            boxes=np.array([box for box, *_ in objects], np.float32).reshape(-1, 4),
            labels=np.array([label for _, label, *_ in objects], np.int32),
            is_crowd=np.array([crowd for _, _, crowd, _ in objects], bool),
            masks=PackedMasks.pack([mask or () for *_, mask in objects]) if self._with_masks else None,
        )


def read_box(bbox: Any, where: str) -> tuple[float, float, float, float]:
    """A COCO box: x, y, width, height in pixels.

    Raises:
        DataError: If it is not four finite numbers, or a side is negative.
    """
    if not isinstance(bbox, (list, tuple)) or len(bbox) != 4:
        raise DataError(f"{where}: bbox {bbox!r} is not [x, y, width, height]")
    try:
        x, y, width, height = (float(value) for value in bbox)
    except (TypeError, ValueError):
        raise DataError(f"{where}: bbox {bbox!r} is not four numbers") from None
    if not all(math.isfinite(value) for value in (x, y, width, height)):
        raise DataError(f"{where}: bbox {bbox!r} is not finite; remove or correct it")
    if width < 0 or height < 0:
        raise DataError(
            f"{where}: bbox {bbox!r} has a negative side; COCO boxes are [x, y, width, height], not corners"
        )
    return x, y, width, height


def read_mask(segmentation: Any, image: Mapping[str, Any], where: str) -> Mask:
    """A COCO segmentation: a list of polygons, or run lengths, compressed or not.

    Raises:
        DataError: If it is missing or broken.
    """
    if not segmentation:
        raise DataError(
            f"{where}: no segmentation, but masks are asked for (gt_poly in data_fields). "
            "Use a detector without masks, or annotations with them"
        )
    if isinstance(segmentation, dict):
        return _read_runs(segmentation, image, where)
    parts = []
    for polygon in segmentation:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise DataError(f"{where}: a polygon needs 3 or more x, y pairs, it is {str(polygon)[:60]}")
        points = np.asarray(polygon, np.float64).reshape(-1, 2)
        if not np.isfinite(points).all():
            raise DataError(f"{where}: a polygon has coordinates that are not finite")
        parts.append(points)
    return tuple(parts)


def _read_runs(segmentation: Mapping[str, Any], image: Mapping[str, Any], where: str) -> Mask:
    from pycocotools import mask as coco_mask

    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(size, list) or len(size) != 2 or counts is None:
        raise DataError(f"{where}: a run-length mask needs size [height, width] and counts")
    declared = [image.get("height", size[0]), image.get("width", size[1])]
    if size != declared:
        raise DataError(f"{where}: mask of size {size} in an image of {declared} (height, width)")
    if isinstance(counts, list):
        if sum(counts) != size[0] * size[1]:
            raise DataError(f"{where}: run lengths add up to {sum(counts)}, not {size[0]} x {size[1]}")
        return coco_mask.frPyObjects({"size": size, "counts": counts}, size[0], size[1])
    return {"size": list(size), "counts": counts.encode("ascii") if isinstance(counts, str) else counts}
