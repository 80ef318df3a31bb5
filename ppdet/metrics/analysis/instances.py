"""Ground truth and detections of a whole dataset as flat arrays.

Letters: N images, G objects, D detections, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Optional

import numpy as np

from ppdet.structures import Detections, GroundTruth, Mask
from ppdet.utils.errors import DataError


@dataclass(frozen=True)
class Objects:
    """The annotated objects of a dataset, sorted by image.

    Attributes:
        image_ids: N ids from the annotation file, rising.
        file_names: N file names.
        image_sizes: ``[N, 2]`` int64 height, width; 0 where the annotations leave it out.
        class_names: K names.
        category_ids: K ids from the annotation file.
        image: ``[G]`` row of the image in `image_ids`, rising.
        label: ``[G]`` 0..K-1.
        xywh: ``[G, 4]`` float64 left, top, width, height in pixels, as annotated: the overlaps of COCO's
            reference are computed from these, and a threshold is met or missed by a rounding error.
        area: ``[G]`` float64 of the mask where there is one, in square pixels.
        is_crowd: ``[G]`` bool: a region that detections may match any number of times without effect.
        masks: G run-length masks, or None.
    """

    image_ids: tuple[int, ...]
    file_names: tuple[str, ...]
    image_sizes: np.ndarray
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    image: np.ndarray
    label: np.ndarray
    xywh: np.ndarray
    area: np.ndarray
    is_crowd: np.ndarray
    masks: Optional[tuple[Any, ...]] = None

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True)
class Predictions:
    """Detections of a dataset, sorted by image, then by falling score; ties keep the order they came in.

    Attributes:
        image: ``[D]`` row of the image in `Objects.image_ids`, rising.
        label: ``[D]`` 0..K-1.
        xywh: ``[D, 4]`` float64 left, top, width, height in pixels.
        score: ``[D]`` float64.
        area: ``[D]`` float64 of the box, or of the mask.
        rank: ``[D]`` place among the detections of the same image and class, from 0.
        left_out: Detections of images or classes that the ground truth does not have.
        masks: D run-length masks, or None.
    """

    image: np.ndarray
    label: np.ndarray
    xywh: np.ndarray
    score: np.ndarray
    area: np.ndarray
    rank: np.ndarray
    left_out: int = 0
    masks: Optional[tuple[Any, ...]] = None

    def __len__(self) -> int:
        return len(self.label)

    @cached_property
    def _by_class(self) -> tuple[np.ndarray, np.ndarray]:
        order = np.lexsort((-self.score, self.label))
        classes = int(self.label.max()) + 1 if len(self) else 0
        return order, np.searchsorted(self.label[order], np.arange(classes + 1))

    def of_class(self, label: int) -> np.ndarray:
        """Rows of a class by falling score; equal scores by image, then rank, as in COCO's reference."""
        order, edges = self._by_class
        return order[edges[label] : edges[label + 1]] if label + 1 < len(edges) else order[:0]

    def __getitem__(self, keep: np.ndarray) -> Predictions:
        """The detections that a bool mask selects, with the ranks they had."""
        rows = np.flatnonzero(keep)
        return Predictions(
            self.image[rows],
            self.label[rows],
            self.xywh[rows],
            self.score[rows],
            self.area[rows],
            self.rank[rows],
            self.left_out,
            None if self.masks is None else tuple(self.masks[i] for i in rows),
        )


def objects_of_coco(
    truth: Mapping[str, Any], *, image_ids: Optional[Sequence[int]] = None, with_masks: bool = False
) -> Objects:
    """Ground truth from the content of a COCO annotation file.

    Args:
        truth: With `images`, `annotations`, `categories`.
        image_ids: Images that count; None for all.
        with_masks: Keep the masks.

    Raises:
        DataError: If an annotation has no box, or masks are needed and missing.
    """
    chosen = None if image_ids is None else set(image_ids)
    images = sorted(
        (row for row in truth["images"] if chosen is None or row["id"] in chosen), key=lambda row: row["id"]
    )
    place = {row["id"]: i for i, row in enumerate(images)}
    categories = sorted(truth["categories"], key=lambda row: row["id"])
    label_of = {row["id"]: i for i, row in enumerate(categories)}
    rows = [r for r in truth["annotations"] if r["image_id"] in place and r["category_id"] in label_of]
    rows.sort(key=lambda row: place[row["image_id"]])
    for row in rows:
        if len(row.get("bbox", ())) != 4:
            raise DataError(f"annotation {row.get('id')}: expected bbox [x, y, width, height]")
    xywh = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
    sizes = [(row.get("height", 0), row.get("width", 0)) for row in images]
    area = [row.get("area", box[2] * box[3]) for row, box in zip(rows, xywh)]
    return Objects(
        image_ids=tuple(row["id"] for row in images),
        file_names=tuple(str(row.get("file_name", row["id"])) for row in images),
        image_sizes=np.array(sizes, np.int64).reshape(-1, 2),
        class_names=tuple(str(row["name"]) for row in categories),
        category_ids=tuple(row["id"] for row in categories),
        image=np.array([place[row["image_id"]] for row in rows], np.int64),
        label=np.array([label_of[row["category_id"]] for row in rows], np.int64),
        xywh=xywh,
        area=np.array(area, np.float64),
        is_crowd=np.array([bool(row.get("iscrowd", 0)) for row in rows], bool),
        masks=_object_masks(rows, [sizes[place[row["image_id"]]] for row in rows]) if with_masks else None,
    )


def objects_of_truth(
    truth: GroundTruth, *, with_masks: bool = False, skip_difficult: bool = False
) -> Objects:
    """Ground truth as metrics of this package have it; classes that the annotations lack are left out.

    Args:
        truth: Annotated objects of every image.
        with_masks: Keep the masks.
        skip_difficult: Treat objects marked difficult as crowd, as VOC does: neither for nor against.
    """
    listed = [label for label, category in enumerate(truth.category_ids) if category is not None]
    label_of = np.full(len(truth.category_ids), -1, np.int64)
    label_of[listed] = np.arange(len(listed))
    images = sorted(truth.images, key=lambda image: image.image_id)
    ignored = [image.is_crowd | (image.difficult & skip_difficult) for image in images]
    masks = None
    if with_masks:
        masks = tuple(_run_lengths(mask, image.size) for image in images for mask in image.masks or ())
    return Objects(
        image_ids=tuple(image.image_id for image in images),
        file_names=tuple(image.path for image in images),
        image_sizes=np.array([image.size for image in images], np.int64).reshape(-1, 2),
        class_names=tuple(truth.class_names[label] for label in listed),
        category_ids=tuple(category for category in truth.category_ids if category is not None),
        image=np.repeat(np.arange(len(images)), [len(image) for image in images]),
        label=label_of[np.concatenate([np.zeros(0, np.int64), *(image.labels for image in images)])],
        xywh=np.concatenate([np.zeros((0, 4)), *(image.boxes_xywh for image in images)]),
        area=np.concatenate([np.zeros(0), *(image.areas for image in images)]),
        is_crowd=np.concatenate([np.zeros(0, bool), *ignored]),
        masks=masks,
    )


def predictions_of_coco(
    rows: Sequence[Mapping[str, Any]], objects: Objects, *, with_masks: bool = False
) -> Predictions:
    """Detections from rows of COCO's results format.

    Args:
        rows: With `image_id`, `category_id`, `score` and `bbox` or `segmentation`.
        objects: Ground truth, which says which images and classes there are.
        with_masks: Keep the masks; areas are then theirs.

    Raises:
        DataError: If rows lack what is needed.
    """
    place = {image_id: i for i, image_id in enumerate(objects.image_ids)}
    label_of = {category: i for i, category in enumerate(objects.category_ids)}
    kept = [row for row in rows if row.get("image_id") in place and row.get("category_id") in label_of]
    masks = None
    try:
        score = np.array([row["score"] for row in kept], np.float64)
        if with_masks:
            masks = tuple(_encoded(row["segmentation"]) for row in kept)
        xywh = _boxes_of_masks(masks) if masks and "bbox" not in kept[0] else None
        if xywh is None:
            xywh = np.array([row["bbox"] for row in kept], np.float64).reshape(-1, 4)
    except KeyError as error:
        raise DataError(
            f"the detections have no {error.args[0]}; expected COCO's results format: a list of "
            '{"image_id", "category_id", "bbox": [x, y, width, height], "score"}'
        ) from None
    return _sorted(
        np.array([place[row["image_id"]] for row in kept], np.int64),
        np.array([label_of[row["category_id"]] for row in kept], np.int64),
        xywh,
        score,
        masks,
        left_out=len(rows) - len(kept),
    )


def predictions_of_detections(
    detections: Sequence[Detections], objects: Objects, names: Sequence[str], *, with_masks: bool = False
) -> Predictions:
    """Detections of this package's detectors; classes are matched with the ground truth by name.

    Args:
        detections: Per image.
        objects: Ground truth.
        names: Class names by label of the detections.
        with_masks: Keep the masks; areas are then theirs.
    """
    place = {image_id: i for i, image_id in enumerate(objects.image_ids)}
    label_of_name = {name: i for i, name in enumerate(objects.class_names)}
    table = np.array([label_of_name.get(name, -1) for name in names], np.int64)
    total = sum(map(len, detections))
    present = [one for one in detections if one.image_id in place]
    counts = [len(one) for one in present]
    image = np.repeat(np.array([place[one.image_id] for one in present], np.int64), counts)
    label = table[np.concatenate([np.zeros(0, np.int64), *(one.labels for one in present)])]
    xywh = np.concatenate([np.zeros((0, 4)), *(one.boxes.astype(np.float64) for one in present)])
    xywh[:, 2:] -= xywh[:, :2]
    score = np.concatenate([np.zeros(0), *(one.scores for one in present)])
    keep = label >= 0
    masks = None
    if with_masks:
        every = [mask for one in present for mask in one.masks or ()]
        masks = tuple(every[i] for i in np.flatnonzero(keep))
    return _sorted(image[keep], label[keep], xywh[keep], score[keep], masks, left_out=total - int(keep.sum()))


def _sorted(
    image: np.ndarray,
    label: np.ndarray,
    xywh: np.ndarray,
    score: np.ndarray,
    masks: Optional[tuple[Any, ...]],
    *,
    left_out: int,
) -> Predictions:
    order = np.lexsort((-score, image))  # stable: ties stay as they came
    image, label, score, xywh = image[order], label[order], score[order], xywh[order]
    if masks is not None:
        from pycocotools import mask as mask_utils

        masks = tuple(masks[i] for i in order)
        area = np.array([float(mask_utils.area(mask)) for mask in masks])
    else:
        area = xywh[:, 2] * xywh[:, 3]
    return Predictions(image, label, xywh, score, area, _ranks(image, label), left_out, masks)


def _ranks(image: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Place of every row among the rows of the same image and class, in the order of the rows."""
    order = np.lexsort((label, image))
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(image[order]) != 0) | (np.diff(label[order]) != 0)
    starts = np.flatnonzero(first)
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    return ranks


def _encoded(mask: Mapping[str, Any]) -> dict[str, Any]:
    counts = mask["counts"]
    return {"size": list(mask["size"]), "counts": counts.encode() if isinstance(counts, str) else counts}


def _run_lengths(mask: Mask, size: tuple[int, int]) -> dict[str, Any]:
    """A mask of the annotations, polygons or run lengths, as run lengths."""
    from pycocotools import mask as mask_utils

    if isinstance(mask, tuple):
        parts = [part.ravel().astype(np.float64).tolist() for part in mask]
        encoded: dict[str, Any] = mask_utils.merge(mask_utils.frPyObjects(parts, *size))
    elif isinstance(mask["counts"], list):
        encoded = mask_utils.frPyObjects(mask, *size)
    else:
        encoded = _encoded(mask)
    return encoded


def _boxes_of_masks(masks: Sequence[Any]) -> np.ndarray:
    from pycocotools import mask as mask_utils

    return np.asarray(mask_utils.toBbox(list(masks)), np.float64).reshape(-1, 4)


def _object_masks(rows: Sequence[Mapping[str, Any]], sizes: Sequence[tuple[int, int]]) -> tuple[Any, ...]:
    masks = []
    for row, size in zip(rows, sizes):
        shape = row.get("segmentation")
        if not shape:
            raise DataError(f"annotation {row.get('id')}: no segmentation, which mask AP needs")
        polygons = tuple(np.asarray(part) for part in shape) if isinstance(shape, list) else shape
        masks.append(_run_lengths(polygons, size))
    return tuple(masks)
