"""Ground truth for metrics, from samples and from COCO annotation files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Optional

import numpy as np

from ppdet.data.formats.coco import CocoFile
from ppdet.data.formats.coco_objects import CocoImage, CocoObject
from ppdet.data.formats.values import Id
from ppdet.structures import Categories, GroundTruth, ImageTruth, Sample, Target
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
                given_id=sample.given_id,
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
    parsed: CocoFile,
    categories: Categories,
    *,
    source: str = "the annotations",
    image_ids: Optional[Mapping[Id, int]] = None,
) -> GroundTruth:
    """Take the ground truth from a COCO annotation file, every object exactly as it is written.

    Classes are matched by name: the file may list them in another order, or not all of them. Its objects of a
    class that `categories` lacks are left out. Masks are scored if the file was read with them; the box of a
    crowd region without a mask stands for its mask.

    Args:
        parsed: The file, without problems.
        categories: The table that labels refer to.
        source: The file, for messages.
        image_ids: Ids that detections carry, by the ids in the file, of the images that count; None for all
            of the file, under their own ids.

    Raises:
        DataError: If the file shares no class with `categories`, or an id does not fit without `image_ids`.
    """
    id_of_name = dict(zip(parsed.categories.names, parsed.categories.ids))
    ids = tuple(id_of_name.get(name) for name in categories.names)
    if all(i is None for i in ids):
        raise DataError(
            f"{source}: none of its classes ({', '.join(list(id_of_name)[:5])}, ...) is one of the model's "
            f"({', '.join(categories.names[:5])}, ...); is it the right dataset?"
        )
    label_of_id: dict[Id, int] = {id_: label for label, id_ in enumerate(ids) if id_ is not None}
    rows: list[list[CocoObject]] = [[] for _ in parsed.images]
    for item in parsed.objects:
        if item.category_id in label_of_id:
            rows[item.image].append(item)
    images = []
    for image, objects in zip(parsed.images, rows):
        own = image.id if image_ids is None else image_ids.get(image.id)
        if isinstance(own, int):
            images.append(_image_truth(image, own, objects, label_of_id, parsed.with_masks))
        elif image_ids is None:
            raise DataError(f"{source}: image id {image.id!r} is no integer; number the images")
    return GroundTruth(source, categories.names, ids, tuple(images), parsed.with_masks)


def _image_truth(
    image: CocoImage,
    own_id: int,
    objects: Sequence[CocoObject],
    label_of_id: Mapping[Id, int],
    with_masks: bool,
) -> ImageTruth:
    boxes = np.array([item.box for item in objects], np.float64).reshape(-1, 4)
    return ImageTruth(
        image_id=own_id,
        path=image.file_name,
        size=image.size,
        boxes_xywh=boxes,
        labels=np.array([label_of_id[item.category_id] for item in objects], np.int64),
        areas=np.array([item.area for item in objects], np.float64),
        is_crowd=np.array([item.is_crowd for item in objects], bool),
        difficult=np.zeros(len(objects), bool),
        masks=tuple(item.mask or (_outline(item.box),) for item in objects) if with_masks else None,
        given_id=None if image.id == own_id else image.id,
    )


def _outline(box: tuple[float, float, float, float]) -> np.ndarray:
    x, y, width, height = box
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])
