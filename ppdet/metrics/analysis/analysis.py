"""All analyses of one set of detections behind one object; each is computed when it is first read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Optional

import numpy as np

from ppdet.metrics.analysis import bootstrap
from ppdet.metrics.analysis.average_precision import precision_at_recalls
from ppdet.metrics.analysis.bootstrap import Drawn, Interval
from ppdet.metrics.analysis.calibration import Calibration, calibration
from ppdet.metrics.analysis.coco_matching import THRESHOLDS, Matches, match
from ppdet.metrics.analysis.confusion import Confusion, confusion
from ppdet.metrics.analysis.instances import Objects, Predictions
from ppdet.metrics.analysis.operating_points import Counts, OperatingPoint, ThresholdCurve
from ppdet.metrics.analysis.overlaps import Pairs, overlapping_pairs
from ppdet.metrics.analysis.subsets import SubsetScore, subset_scores
from ppdet.metrics.analysis.tide import FOREGROUND, Errors, split_errors


@dataclass(frozen=True)
class ClassRow:
    """One class in the table of classes.

    Attributes:
        name: Its name.
        ap: With its interval; -1 without objects.
        ap50: At overlap 0.5.
        point: Counts at the class's best threshold for F1.
        common: Counts at the best threshold for all classes together.
    """

    name: str
    ap: Interval
    ap50: Interval
    point: OperatingPoint
    common: OperatingPoint


class Analysis:
    """Detections against ground truth.

    Args:
        objects: Ground truth.
        predictions: Detections.
        seed: Of the drawings for intervals.
    """

    def __init__(self, objects: Objects, predictions: Predictions, *, seed: int = 0) -> None:
        self.objects = objects
        self.predictions = predictions
        self._seed = seed

    @cached_property
    def pairs(self) -> Pairs:
        """Detections and objects that overlap."""
        return overlapping_pairs(self.objects, self.predictions)

    @cached_property
    def matches_by_size(self) -> dict[str, Matches]:
        """COCO's matching of all objects (``""``) and of its sizes (``s``, ``m``, ``l``)."""
        return bootstrap.matches_by_size(self.objects, self.predictions, self.pairs)

    @property
    def matches(self) -> Matches:
        """COCO's matching of all objects at its ten thresholds."""
        return self.matches_by_size[""]

    @cached_property
    def weights(self) -> np.ndarray:
        """Drawings of images, ``[B + 1, N]``."""
        matched = sum(int(one.correct.sum()) for one in self.matches_by_size.values())
        return bootstrap.drawings(len(self.objects.image_ids), matched, seed=self._seed)

    def drawn_with(self, weights: np.ndarray) -> Drawn:
        """COCO's numbers under given drawings of images; those of two detectors are compared on the same."""
        return bootstrap.draw(self.objects, self.predictions, self.matches_by_size, weights)

    @cached_property
    def drawn(self) -> Drawn:
        """COCO's numbers under this analysis's own drawings."""
        return self.drawn_with(self.weights)

    @cached_property
    def numbers(self) -> dict[str, Interval]:
        """COCO's twelve numbers with 95 % intervals."""
        return {name: bootstrap.interval(values) for name, values in self.drawn.numbers.items()}

    def counts(self, label: Optional[int], t: int = 0) -> Counts:
        """True and false positives of a class, or of all, at overlap threshold number `t`."""
        return Counts(self.objects, self.predictions, self.matches, label, t)

    @cached_property
    def curve(self) -> ThresholdCurve:
        """Precision, recall and F1 of all classes together against the score threshold, at overlap 0.5."""
        return self.counts(None).curve()

    @cached_property
    def class_curves(self) -> list[ThresholdCurve]:
        """The same of each class."""
        return [self.counts(label).curve() for label in range(len(self.objects.class_names))]

    @property
    def threshold(self) -> float:
        """The score threshold of the highest F1 over all classes together."""
        return self.curve.best.threshold

    @cached_property
    def classes(self) -> list[ClassRow]:
        """The table of classes."""
        return [
            ClassRow(
                name,
                bootstrap.interval(self.drawn.class_ap[:, label]),
                bootstrap.interval(self.drawn.class_ap50[:, label]),
                self.class_curves[label].best,
                self.counts(label).at(self.threshold),
            )
            for label, name in enumerate(self.objects.class_names)
        ]

    def precision(self, overlap: float) -> np.ndarray:
        """Precision ``[K, 101]`` at COCO's recalls, at one of COCO's overlaps; NaN without objects."""
        t = int(np.argmin(np.abs(THRESHOLDS - overlap)))
        return precision_at_recalls(self.objects, self.predictions, self.matches, t)

    @cached_property
    def confusion(self) -> Confusion:
        """The matrix at the best threshold."""
        return self.confusion_at(self.threshold)

    def confusion_at(self, threshold: float) -> Confusion:
        """The matrix at a score threshold."""
        return confusion(self.objects, self.predictions, self.pairs, self.matches, threshold=threshold)

    @cached_property
    def errors(self) -> Errors:
        """TIDE's split of errors."""
        limits = np.array([FOREGROUND])
        return split_errors(
            self.objects,
            self.predictions,
            self.pairs,
            match(self.objects, self.predictions, self.pairs, thresholds=limits),
        )

    @cached_property
    def subsets(self) -> list[SubsetScore]:
        """AP by size, shape, crowding, position and occlusion."""
        return subset_scores(self.objects, self.predictions, self.pairs)

    @cached_property
    def calibration(self) -> Calibration:
        """Reliability of the scores."""
        return calibration(self.predictions, self.matches)
