"""Mean average precision as PASCAL VOC counts it (Everingham et al., IJCV 2010, 4.2; devkit `VOCevaldet.m`).

Letters: G objects, D detections of a class.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Optional

import numpy as np

from ppdet.config import Derived, Shared
from ppdet.config.ranges import Fraction
from ppdet.metrics.base import Metric
from ppdet.structures import GroundTruth, ImageTruth

MapType = Literal["11point", "integral"]


class VocMetric(Metric):
    """VOC's mAP (`metric: VOC`): a detection matches the object that it overlaps most, each object once.

    A detection on a ``difficult`` object or a crowd region counts neither for nor against. Classes without
    objects do not enter the mean. Boxes are continuous; the devkit's integer boxes, whose last pixel counts,
    give the same overlaps once their first pixel is taken as its left edge.

    Args:
        truth: Annotated objects of every image.
        map_type: ``11point``, the mean precision at recalls 0, 0.1, ..., 1 (VOC 2007); ``integral``, the area
            under the curve made monotone (VOC 2010 on).
        iou_threshold: A match has a larger overlap than this.
    """

    def __init__(
        self,
        *,
        truth: Derived[GroundTruth],
        map_type: Shared[MapType] = "11point",
        iou_threshold: Fraction = 0.5,
    ) -> None:
        super().__init__(truth)
        self._objects = {image.image_id: _Objects.of(image) for image in truth.images}
        self._map_type = map_type
        self._iou_threshold = iou_threshold
        self._per_class: dict[str, Optional[float]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Full names of the numbers of `compute`."""
        return ("bbox.mAP",)

    def compute(self) -> dict[str, dict[str, float]]:
        """``{"bbox": {"mAP": value}}``; 0.0 where nothing is one, -1 if there are no objects at all."""
        images = self._grouped()
        for label, name in enumerate(self.truth.class_names):
            correct, objects = self._match(label, images[label])
            self._per_class[name] = None if not objects else _average(correct, objects, self._map_type)
        values = [value for value in self._per_class.values() if value is not None]
        return {"bbox": {"mAP": float(np.mean(values)) if values else -1.0}}

    def _grouped(self) -> list[list[tuple[int, np.ndarray, np.ndarray]]]:
        """Per label: image id, boxes, scores of every image with detections of it."""
        groups: list[list[tuple[int, np.ndarray, np.ndarray]]] = [[] for _ in self.truth.class_names]
        for one in self.detections:
            if one.image_id not in self._objects:
                continue
            for label in np.unique(one.labels):
                rows = one.labels == label
                groups[label].append((one.image_id, one.boxes[rows], one.scores[rows]))
        return groups

    def _match(self, label: int, images: list[tuple[int, np.ndarray, np.ndarray]]) -> tuple[np.ndarray, int]:
        """Whether each detection that counts is right, best score first, and the number of objects."""
        objects = 0
        for image in self._objects.values():
            objects += int(((image.labels == label) & ~image.ignored).sum())
        scores, verdicts = [np.zeros(0)], [np.zeros(0, np.int8)]
        for image_id, boxes, image_scores in images:
            order = np.argsort(-image_scores, kind="stable")
            scores.append(image_scores[order])
            verdicts.append(self._judge(label, image_id, boxes[order]))
        # Only detections of one image compete for an object, so images can be judged one by one.
        verdict = np.concatenate(verdicts)[np.argsort(-np.concatenate(scores), kind="stable")]
        return verdict[verdict >= 0] == 1, objects

    def _judge(self, label: int, image_id: int, boxes: np.ndarray) -> np.ndarray:
        """1 right, 0 wrong, -1 does not count, for ``[D, 4]`` boxes by falling score."""
        objects = self._objects[image_id]
        rows = np.flatnonzero(objects.labels == label)
        verdict = np.zeros(len(boxes), np.int8)
        if not len(rows):
            return verdict
        overlaps = _iou(boxes, objects.boxes[rows])
        best = overlaps.argmax(axis=1)
        taken = np.zeros(len(rows), bool)
        for i, (column, overlap) in enumerate(zip(best, overlaps.max(axis=1))):
            if overlap <= self._iou_threshold:
                continue
            if objects.ignored[rows[column]]:
                verdict[i] = -1
            elif not taken[column]:
                taken[column], verdict[i] = True, 1
        return verdict

    def classwise(self) -> dict[str, dict[str, Optional[float]]]:
        """AP by class name, as of the last `compute`; None for a class without objects."""
        return {"bbox": self._per_class}


class _Objects(NamedTuple):
    """Objects of one image: ``[G, 4]`` xyxy boxes, ``[G]`` labels, and which of them do not count."""

    boxes: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray

    @classmethod
    def of(cls, image: ImageTruth) -> _Objects:
        # A box without area cannot be matched: nothing overlaps it.
        flat = (image.boxes_xywh[:, 2:] <= 0).any(axis=1)
        return cls(image.boxes, image.labels, image.difficult | image.is_crowd | flat)


def _iou(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersection over union ``[D, G]`` of xyxy boxes ``[D, 4]`` and ``[G, 4]``; 0 without area."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    corner = np.minimum(one[:, None, 2:], other[None, :, 2:]) - np.maximum(
        one[:, None, :2], other[None, :, :2]
    )
    shared = corner.clip(min=0).prod(axis=2)
    areas = [(b[:, 2:] - b[:, :2]).clip(min=0).prod(axis=1) for b in (one, other)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _average(correct: np.ndarray, objects: int, map_type: MapType) -> float:
    """Average precision of detections by falling score."""
    hits = np.cumsum(correct)
    recall = hits / objects
    precision = hits / np.arange(1, len(correct) + 1)
    # Precision at a recall is the best one at that recall or beyond.
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if map_type == "integral":
        return float((np.diff(recall, prepend=0.0) * envelope).sum())
    # In whole numbers, since 3 of 10 objects must reach recall 0.3.
    first = np.searchsorted(hits * 10, np.arange(11) * objects, side="left")
    return float(np.append(envelope, 0.0)[first.clip(max=len(correct))].sum() / 11)
