"""Average precision as COCO counts it: pycocotools, or a faster engine that gives the same numbers."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Optional

import numpy as np

from ppdet.config import Derived, Shared
from ppdet.metrics.base import Metric
from ppdet.structures import Detections, GroundTruth, Mask
from ppdet.utils.errors import DataError

logger = logging.getLogger(__name__)

#: The twelve numbers of COCO, in the order of ``COCOeval.stats``.
STAT_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")

Engine = Literal["pycocotools", "fast"]


class CocoMetric(Metric):
    """Box and mask AP as COCO counts them (`metric: COCO`).

    All images of the ground truth count, also those without a detection. Detections of a class that the
    annotations do not have cannot be scored; they are left out and counted in the log. Objects marked
    difficult count like any other.

    Args:
        truth: Annotated objects of every image; masks are scored if it has masks.
        coco_engine: ``pycocotools``, the reference; ``fast`` is hotcoco (``pip install "ppdet[fast]"``),
            which agrees to 1e-6 and is some twenty times faster.
    """

    def __init__(self, *, truth: Derived[GroundTruth], coco_engine: Shared[Engine] = "pycocotools") -> None:
        super().__init__(truth)
        # The engines compute with ids in float64, which cannot distinguish large ones: they get numbers
        # in the same order.
        self._image_numbers = _numbers(image.image_id for image in truth.images)
        numbers = _numbers(i for i in truth.category_ids if i is not None)
        self._class_numbers = [None if i is None else numbers[i] for i in truth.category_ids]
        self._content = _coco_content(truth, self._image_numbers, self._class_numbers)
        self._tasks = ("bbox", "segm") if truth.with_masks else ("bbox",)
        self._engine = coco_engine
        self._reference: Any = None
        self._per_class: dict[str, dict[str, Optional[float]]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Full names of the numbers of `compute`."""
        return tuple(f"{task}.{name}" for task in self._tasks for name in STAT_NAMES)

    def compute(self) -> dict[str, dict[str, float]]:
        """COCO's twelve numbers per task; -1 where there is no ground truth (say, no small objects)."""
        detections = self._scorable()
        unseen = len(self.truth.images) - len(detections)
        if unseen > 0:
            logger.warning("%d images were not run; their objects count as missed", unseen)
        found = {}
        for task in self._tasks:
            stats, precision, category_ids = self._evaluate(detections, task)
            found[task] = dict(zip(STAT_NAMES, (float(v) for v in stats)))
            self._per_class[task] = self._class_table(precision, category_ids)
            self._per_class[f"{task}.AP50"] = self._class_table(precision[:1], category_ids)
        return found

    def classwise(self) -> dict[str, dict[str, Optional[float]]]:
        """AP (``"bbox"``) and AP50 (``"bbox.AP50"``) of each task by class name, as of the last `compute`.

        None for a class without objects.
        """
        return self._per_class

    def _scorable(self) -> list[Detections]:
        """Detections of images and classes that the ground truth has."""
        has_class = np.array([i is not None for i in self.truth.category_ids])
        kept = [one for one in self.detections if one.image_id in self._image_numbers]
        detections = [one[has_class[one.labels]] for one in kept]
        dropped = sum(map(len, kept)) - sum(map(len, detections))
        if dropped:
            missing = [n for n, i in zip(self.truth.class_names, self.truth.category_ids) if i is None]
            logger.warning(
                "%d detections left out: %s has no class %s", dropped, self.truth.source, ", ".join(missing)
            )
        return detections

    def _evaluate(self, detections: list[Detections], task: str) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Stats ``[12]``, precision ``[T, R, K, A, M]`` and the K numbers of the classes of one task."""
        coco_class, eval_class = _engine(self._engine)
        with contextlib.redirect_stdout(io.StringIO()):  # both engines print
            if self._reference is None:
                self._reference = coco_class()
                self._reference.dataset = self._content
                self._reference.createIndex()
            rows = self._rows(detections, task)
            if len(rows):
                found = self._reference.loadRes(rows)
            else:  # loadRes looks at the first one
                found = coco_class()
                found.dataset = {**self._content, "annotations": []}
                found.createIndex()
            del rows
            evaluation = eval_class(self._reference, found, task)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        category_ids = [int(i) for i in evaluation.params.catIds]
        return np.asarray(evaluation.stats), np.asarray(evaluation.eval["precision"]), category_ids

    def _rows(self, detections: list[Detections], task: str) -> Any:
        return self._mask_rows(detections) if task == "segm" else self._box_rows(detections)

    def _mask_rows(self, detections: list[Detections]) -> list[dict[str, Any]]:
        rows = []
        for one in detections:
            if one.masks is None:
                raise DataError(f"image {one.image_id}: no masks to score; the model has no mask head")
            for mask, score, label in zip(one.masks, one.scores.tolist(), one.labels.tolist()):
                row = {
                    "image_id": self._image_numbers[one.image_id],
                    "category_id": self._class_numbers[label],
                    "score": score,
                }
                row["segmentation"] = {"size": list(mask["size"]), "counts": mask["counts"]}
                rows.append(row)
        return rows

    def _box_rows(self, detections: list[Detections]) -> np.ndarray:
        """``[D, 7]`` float64: number of the image, x, y, width, height, score, number of the class."""
        table = np.zeros((sum(map(len, detections)), 7))
        ids = np.array([-1 if i is None else i for i in self._class_numbers])
        start = 0
        for one in detections:
            rows = table[start : start + len(one)]
            rows[:, 0] = self._image_numbers[one.image_id]
            rows[:, 1:5] = one.boxes
            rows[:, 5] = one.scores
            rows[:, 6] = ids[one.labels]
            start += len(one)
        table[:, 3:5] -= table[:, 1:3]
        return table

    def _class_table(self, precision: np.ndarray, category_ids: list[int]) -> dict[str, Optional[float]]:
        """Mean precision over thresholds and recalls, all areas, 100 detections: ``stats[0]`` per class."""
        column = {category: k for k, category in enumerate(category_ids)}
        table: dict[str, Optional[float]] = {}
        for name, category in zip(self.truth.class_names, self._class_numbers):
            table[name] = None
            if category is not None and category in column:
                values = precision[:, :, column[category], 0, -1]
                values = values[values > -1]
                table[name] = float(values.mean()) if values.size else None
        return table


def _engine(name: Engine) -> tuple[Any, Any]:
    if name == "fast":
        try:
            import hotcoco
        except ImportError:
            raise DataError(
                'the fast COCO engine needs hotcoco: pip install "ppdet[fast]", or use pycocotools'
            ) from None
        return hotcoco.COCO, hotcoco.COCOeval
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    return COCO, COCOeval


def _numbers(ids: Iterable[int]) -> dict[int, int]:
    """1, 2, ... for ids, in their order."""
    return {id_: number for number, id_ in enumerate(sorted(ids), start=1)}


def _coco_content(
    truth: GroundTruth, image_numbers: dict[int, int], class_numbers: Sequence[Optional[int]]
) -> dict[str, Any]:
    """The ground truth as an annotation file would have it, with numbers for ids."""
    annotations: list[dict[str, Any]] = []
    for image in truth.images:
        rows = zip(
            image.labels.tolist(), image.boxes_xywh.tolist(), image.areas.tolist(), image.is_crowd.tolist()
        )
        for i, (label, box, area, crowd) in enumerate(rows):
            # Ids from 1: COCOeval takes a match with id 0 for no match.
            row = {
                "id": len(annotations) + 1,
                "image_id": image_numbers[image.image_id],
                "category_id": class_numbers[label],
            }
            row |= {"bbox": box, "area": area, "iscrowd": int(crowd)}
            if image.masks is not None:
                row["segmentation"] = _segmentation(image.masks[i])
            annotations.append(row)
    sizes = ((image_numbers[image.image_id], *image.size) for image in truth.images)
    classes = zip(class_numbers, truth.class_names)
    return {
        "info": {},  # createIndex and loadRes read it
        "images": [{"id": id_, "height": height, "width": width} for id_, height, width in sizes],
        "annotations": annotations,
        "categories": [{"id": id_, "name": name} for id_, name in classes if id_ is not None],
    }


def _segmentation(mask: Mask) -> Any:
    if isinstance(mask, tuple):
        return [part.ravel().tolist() for part in mask]
    return {"size": list(mask["size"]), "counts": mask["counts"]}
