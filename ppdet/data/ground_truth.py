"""Ground truth for metrics, from samples and from COCO annotation files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

from ppdet.data.annotation_files import read_json
from ppdet.structures import Categories, GroundTruth, ImageTruth, Mask, Sample, Target
from ppdet.utils.errors import DataError


def truth_of_samples(
    samples: Iterable[Sample], categories: Categories, *, source: str, with_masks: bool = False
) -> GroundTruth:
    """Take the ground truth from samples that no transform has changed.

    The area of an object is that of its mask, if the sample has masks, and else that of its box.

    Args:
        samples: Every image once, with `target` in pixels of the original image.
        categories: The table that labels refer to.
        source: Name of the dataset, for messages.
        with_masks: Whether masks are scored.

    Raises:
        DataError: If a sample has no target, an image_id occurs twice, or masks are needed and missing.
    """
    images = []
    for sample in samples:
        target = sample.target
        if target is None:
            raise DataError(f"{sample.path}: no ground truth to score detections against; set Sample.target")
        if with_masks and target.masks is None:
            raise DataError(f"{sample.path}: no masks to score masks against; set Target.masks")
        size = sample.original_size
        if not any(size) and sample.image is not None:
            size = (int(sample.image.shape[0]), int(sample.image.shape[1]))
        boxes = target.boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        images.append(
            ImageTruth(
                image_id=sample.image_id,
                path=sample.path,
                size=size,
                boxes_xywh=boxes,
                labels=target.labels,
                areas=_areas(target, boxes, size, sample.path),
                is_crowd=target.is_crowd,
                difficult=np.zeros(len(target), bool) if target.difficult is None else target.difficult,
                masks=target.masks if with_masks else None,
            )
        )
    try:
        return GroundTruth(source, categories.names, categories.ids, tuple(images), with_masks)
    except ValueError as error:
        raise DataError(str(error)) from None


def _areas(target: Target, boxes_xywh: np.ndarray, size: tuple[int, int], path: str) -> np.ndarray:
    if not target.masks:
        return boxes_xywh[:, 2] * boxes_xywh[:, 3]
    from pycocotools import mask as coco_mask

    runs = []
    for mask in target.masks:
        if isinstance(mask, tuple):
            if not any(size):
                raise DataError(f"{path}: polygons need the size of the image; set Sample.original_size")
            parts = coco_mask.frPyObjects([part.ravel().tolist() for part in mask], *size)
            mask = coco_mask.merge(parts)
        runs.append(mask)
    return np.asarray(coco_mask.area(runs), np.float64)


def truth_of_coco(
    annotations: Union[str, Path, Mapping[str, Any]],
    categories: Categories,
    *,
    image_ids: Optional[Sequence[int]] = None,
    with_masks: bool = False,
) -> GroundTruth:
    """Take the ground truth from a COCO annotation file, every object exactly as it is written.

    Classes are matched by name: the file may list them in another order, or not all of them. Its objects of a
    class that `categories` lacks are left out.

    Args:
        annotations: The file, or its content.
        categories: The table that labels refer to.
        image_ids: Images that count; None for all of the file.
        with_masks: Whether masks are scored.

    Raises:
        DataError: If the file is missing or broken, shares no class with `categories`, or masks are needed
            and missing.
    """
    is_content = isinstance(annotations, Mapping)
    source = "the annotations" if is_content else str(annotations)
    content = annotations if isinstance(annotations, Mapping) else read_json(Path(annotations))
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise DataError(f'{source}: no list "{key}"; is it a COCO annotation file with objects?')
    id_of_name = {str(row["name"]): int(row["id"]) for row in content["categories"]}
    ids = tuple(id_of_name.get(name) for name in categories.names)
    if all(i is None for i in ids):
        raise DataError(
            f"{source}: none of its classes ({', '.join(list(id_of_name)[:5])}, ...) is one of the model's "
            f"({', '.join(categories.names[:5])}, ...); is it the right dataset?"
        )
    label_of_id = {id_: label for label, id_ in enumerate(ids) if id_ is not None}
    chosen = None if image_ids is None else {int(i) for i in image_ids}
    rows: dict[int, list[Mapping[str, Any]]] = {
        int(image["id"]): [] for image in content["images"] if chosen is None or image["id"] in chosen
    }
    for row in content["annotations"]:
        if row["category_id"] in label_of_id and row["image_id"] in rows:
            rows[row["image_id"]].append(row)
    images = tuple(
        _image_truth(image, rows[image["id"]], label_of_id, source, with_masks)
        for image in content["images"]
        if image["id"] in rows
    )
    return GroundTruth(source, categories.names, ids, images, with_masks)


def _image_truth(
    image: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    label_of_id: Mapping[int, int],
    source: str,
    with_masks: bool,
) -> ImageTruth:
    boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
    masks: Optional[tuple[Mask, ...]] = None
    if with_masks:
        for row in rows:
            if not row.get("segmentation"):
                raise DataError(f"{source}: annotation {row.get('id')} has no segmentation to score masks")
        masks = tuple(mask_of_coco(row["segmentation"], np.float64) for row in rows)
    return ImageTruth(
        image_id=int(image["id"]),
        path=str(image.get("file_name", image["id"])),
        size=(int(image.get("height") or 0), int(image.get("width") or 0)),
        boxes_xywh=boxes,
        labels=np.array([label_of_id[row["category_id"]] for row in rows], np.int64),
        areas=np.array([row.get("area", box[2] * box[3]) for row, box in zip(rows, boxes)], np.float64),
        is_crowd=np.array([bool(row.get("iscrowd", 0)) for row in rows], bool),
        difficult=np.zeros(len(rows), bool),
        masks=masks,
    )


def mask_of_coco(segmentation: Any, dtype: type[np.floating[Any]] = np.float32) -> Mask:
    """Convert a COCO segmentation: a list of polygons, or run lengths, compressed or not.

    Args:
        segmentation: As an annotation file has it.
        dtype: Of the vertices.
    """
    from pycocotools import mask as coco_mask

    if not isinstance(segmentation, dict):
        return tuple(np.asarray(polygon, dtype).reshape(-1, 2) for polygon in segmentation or ())
    size, counts = segmentation["size"], segmentation["counts"]
    if isinstance(counts, list):
        return dict(coco_mask.frPyObjects({"size": size, "counts": counts}, size[0], size[1]))
    return {"size": list(size), "counts": counts.encode("ascii") if isinstance(counts, str) else counts}
