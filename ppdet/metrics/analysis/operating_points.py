"""Precision, recall and F1 against the score threshold, and the threshold that maximises F1.

Matching goes by falling score, so a threshold removes the last matches and changes no other: one matching
serves all thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np

from ppdet.metrics.analysis.coco_matching import Matches
from ppdet.metrics.analysis.instances import Objects, Predictions

#: Thresholds that people type have a few digits; the best one is chosen among these steps.
STEP = 1e-4
#: Thresholds at which curves are drawn.
GRID = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True)
class OperatingPoint:
    """Counts of one class, or of all, at a score threshold.

    Attributes:
        threshold: Detections with this score or more count.
        correct: True positives.
        wrong: False positives.
        missed: Objects without a match.
    """

    threshold: float
    correct: int
    wrong: int
    missed: int

    @property
    def objects(self) -> int:
        """Objects to be found."""
        return self.correct + self.missed

    @property
    def precision(self) -> float:
        """Share of the detections that are correct; 0 without detections."""
        return self.correct / max(self.correct + self.wrong, 1)

    @property
    def recall(self) -> float:
        """Share of the objects that are found; 0 without objects."""
        return self.correct / max(self.objects, 1)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 where nothing is correct."""
        return 2 * self.correct / max(2 * self.correct + self.wrong + self.missed, 1)


@dataclass(frozen=True)
class ThresholdCurve:
    """Precision, recall and F1 ``[101]`` at the thresholds of `GRID`, and the point of the highest F1."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    best: OperatingPoint


class Counts:
    """True and false positives by score, of chosen detections.

    Args:
        objects: Ground truth.
        predictions: Detections.
        matches: Of `match`.
        label: Class; None for all together.
        t: Which of the overlap thresholds.
    """

    def __init__(
        self, objects: Objects, predictions: Predictions, matches: Matches, label: Optional[int], t: int = 0
    ) -> None:
        mine = True if label is None else predictions.label == label
        self._correct = np.sort(predictions.score[mine & matches.correct[t]])
        self._wrong = np.sort(predictions.score[mine & matches.wrong[t]])
        self._objects = int((matches.counts & (True if label is None else objects.label == label)).sum())

    def at(self, threshold: float) -> OperatingPoint:
        """Counts at a threshold."""
        correct = len(self._correct) - int(np.searchsorted(self._correct, threshold, side="left"))
        wrong = len(self._wrong) - int(np.searchsorted(self._wrong, threshold, side="left"))
        return OperatingPoint(float(threshold), correct, wrong, self._objects - correct)

    def best(self) -> OperatingPoint:
        """The point of the highest F1, of equals the highest threshold; threshold 1 if nothing is correct."""
        if not len(self._correct):
            return self.at(1.0)
        steps = np.unique(np.floor(self._correct / STEP + 1e-9).astype(np.int64))
        # The same division that gives the decimal number a person types: 3521 / 10000 is 0.3521.
        thresholds = steps / round(1 / STEP)
        correct = len(self._correct) - np.searchsorted(self._correct, thresholds, side="left")
        wrong = len(self._wrong) - np.searchsorted(self._wrong, thresholds, side="left")
        f1 = 2 * correct / (correct + wrong + self._objects)
        return self.at(float(thresholds[len(f1) - 1 - int(np.argmax(f1[::-1]))]))

    def curve(self) -> ThresholdCurve:
        """Values at the thresholds of `GRID`."""
        correct = len(self._correct) - np.searchsorted(self._correct, GRID, side="left")
        wrong = len(self._wrong) - np.searchsorted(self._wrong, GRID, side="left")
        return ThresholdCurve(
            precision=correct / np.maximum(correct + wrong, 1),
            recall=correct / max(self._objects, 1),
            f1=2 * correct / np.maximum(correct + wrong + self._objects, 1),
            best=self.best(),
        )
