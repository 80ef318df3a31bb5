"""Average precision as COCO counts it: pycocotools, or a faster engine that gives the same numbers."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Optional, Union

import numpy as np

from ppdet.metrics.base import Metric, coco_results
from ppdet.structures import Categories, Detections
from ppdet.utils.errors import DataError

logger = logging.getLogger(__name__)

#: The twelve numbers of COCO, in the order of ``COCOeval.stats``.
STAT_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")

Engine = Literal["pycocotools", "fast"]


class CocoMetric(Metric):
    """Box and mask AP on COCO-format ground truth.

    Detections of a class that the annotation file does not list cannot be scored; they are left out and
    counted in the log. All images of the file count, also those without a detection, unless `image_ids`
    says which.

    Args:
        annotations: Annotation file, or its content.
        categories: The table that labels refer to; classes are matched with the file by name.
        with_masks: Score masks too.
        engine: ``pycocotools``, the reference; ``fast`` takes hotcoco (``pip install "ppdet[fast]"``), which
            agrees to 1e-6 and is some twenty times faster.
        image_ids: Images to score; None for all of the file.

    Raises:
        DataError: If the file is missing or broken, or shares no class with `categories`.
    """

    def __init__(
        self,
        annotations: Union[str, Path, Mapping[str, Any]],
        categories: Categories,
        *,
        with_masks: bool = False,
        engine: Engine = "pycocotools",
        image_ids: Optional[Sequence[int]] = None,
    ) -> None:
        super().__init__()
        self._source = "the annotations" if isinstance(annotations, Mapping) else str(annotations)
        self._truth = _checked(_read(annotations), self._source, with_masks=with_masks)
        self._categories = categories
        self._id_of_label = self._match_categories()
        self._tasks = ("bbox", "segm") if with_masks else ("bbox",)
        self._engine = engine
        self._image_ids = None if image_ids is None else sorted({int(i) for i in image_ids})
        self._reference: Any = None
        self._per_class: dict[str, dict[str, Optional[float]]] = {}

    def _match_categories(self) -> list[Optional[int]]:
        id_of_name = {row["name"]: row["id"] for row in self._truth["categories"]}
        ids = [id_of_name.get(name) for name in self._categories.names]
        if not any(i is not None for i in ids):
            raise DataError(
                f"{self._source}: none of its classes ({', '.join(list(id_of_name)[:5])}, ...) is one of "
                f"the model's ({', '.join(self._categories.names[:5])}, ...); is it the right dataset?"
            )
        return ids

    @property
    def names(self) -> tuple[str, ...]:
        """Full names of the numbers of `compute`."""
        return tuple(f"{task}.{name}" for task in self._tasks for name in STAT_NAMES)

    def compute(self) -> dict[str, dict[str, float]]:
        """COCO's twelve numbers per task; -1 where there is no ground truth (say, no small objects)."""
        detections = self._scorable()
        unseen = len(self._image_ids or self._truth["images"]) - len(detections)
        if unseen > 0:
            logger.warning("%d images were not run; their objects count as missed", unseen)
        found = {}
        for task in self._tasks:
            stats, precision, category_ids = self._evaluate(detections, task)
            found[task] = dict(zip(STAT_NAMES, (float(v) for v in stats)))
            self._per_class[task] = self._class_table(precision, category_ids)
        return found

    def classwise(self) -> dict[str, dict[str, Optional[float]]]:
        """AP by task and class name, as of the last `compute`; None for a class without objects."""
        return self._per_class

    def results(self) -> list[dict[str, Any]]:
        """Detections in COCO's results format, with the category ids of the annotation file."""
        ids = [-1 if i is None else i for i in self._id_of_label]
        return coco_results(self._scorable(), ids, with_masks="segm" in self._tasks)

    def _scorable(self) -> list[Detections]:
        known = np.array([i is not None for i in self._id_of_label])
        detections = [found[known[found.labels]] for found in self.detections]
        dropped = sum(map(len, self._detections.values())) - sum(map(len, detections))
        if dropped:
            missing = [n for n, i in zip(self._categories.names, self._id_of_label) if i is None]
            logger.warning(
                "%d detections left out: %s does not know %s", dropped, self._source, ", ".join(missing)
            )
        return detections

    def _evaluate(self, detections: list[Detections], task: str) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Stats ``[12]``, precision ``[T, R, K, A, M]`` and the K category ids of one task."""
        coco_class, eval_class = _engine(self._engine)
        with contextlib.redirect_stdout(io.StringIO()):  # both engines print
            if self._reference is None:
                self._reference = coco_class()
                self._reference.dataset = self._truth
                self._reference.createIndex()
            rows = self._rows(detections, task)
            if len(rows):
                found = self._reference.loadRes(rows)
            else:  # loadRes looks at the first one
                found = coco_class()
                found.dataset = {**self._truth, "annotations": []}
                found.createIndex()
            del rows
            evaluation = eval_class(self._reference, found, task)
            if self._image_ids is not None:
                evaluation.params.imgIds = self._image_ids
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        category_ids = [int(i) for i in evaluation.params.catIds]
        return np.asarray(evaluation.stats), np.asarray(evaluation.eval["precision"]), category_ids

    def _rows(self, detections: list[Detections], task: str) -> Any:
        return self._mask_rows(detections) if task == "segm" else self._box_rows(detections)

    def _mask_rows(self, detections: list[Detections]) -> list[dict[str, Any]]:
        rows = []
        for found in detections:
            if found.masks is None:
                raise DataError(f"image {found.image_id}: no masks to score; the model has no mask head")
            for mask, score, label in zip(found.masks, found.scores.tolist(), found.labels.tolist()):
                row = {"image_id": found.image_id, "category_id": self._id_of_label[label], "score": score}
                row["segmentation"] = {"size": list(mask["size"]), "counts": mask["counts"]}
                rows.append(row)
        return rows

    def _box_rows(self, detections: list[Detections]) -> np.ndarray:
        """``[D, 7]`` float64: image id, x, y, width, height, score, category id."""
        table = np.zeros((sum(map(len, detections)), 7))
        ids = np.array([-1 if i is None else i for i in self._id_of_label])
        start = 0
        for found in detections:
            rows = table[start : start + len(found)]
            rows[:, 0] = found.image_id
            rows[:, 1:5] = found.boxes
            rows[:, 5] = found.scores
            rows[:, 6] = ids[found.labels]
            start += len(found)
        table[:, 3:5] -= table[:, 1:3]
        return table

    def _class_table(self, precision: np.ndarray, category_ids: list[int]) -> dict[str, Optional[float]]:
        """Mean precision over thresholds and recalls, all areas, 100 detections: ``stats[0]`` per class."""
        column = {category: k for k, category in enumerate(category_ids)}
        table: dict[str, Optional[float]] = {}
        for name, category in zip(self._categories.names, self._id_of_label):
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


def _read(annotations: Union[str, Path, Mapping[str, Any]]) -> dict[str, Any]:
    if isinstance(annotations, Mapping):
        return dict(annotations)
    path = Path(annotations)
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror}; evaluation needs the annotations"
        ) from error
    except ValueError as error:
        raise DataError(f"{path}: is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: is not a COCO annotation file: it holds a {type(content).__name__}")
    return content


def _checked(content: dict[str, Any], source: str, *, with_masks: bool) -> dict[str, Any]:
    """The ground truth with what tools often leave out, and with ids that the evaluation can use."""
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise DataError(f'{source}: no list "{key}"; is it a COCO annotation file with objects?')
    annotations = []
    for number, row in enumerate(content["annotations"]):
        if with_masks and not row.get("segmentation"):
            raise DataError(
                f"{source}: annotation {row.get('id', number)} has no segmentation to score masks"
            )
        # Ids anew: COCOeval takes a match with id 0 for no match, and some files repeat ids.
        filled = {**row, "id": number + 1, "iscrowd": row.get("iscrowd", 0)}
        if "area" not in filled:
            filled["area"] = row["bbox"][2] * row["bbox"][3]
        annotations.append(filled)
    # createIndex and loadRes want these two.
    return {
        "info": content.get("info", {}),
        "images": content["images"],
        "annotations": annotations,
        "categories": content["categories"],
    }
