"""The confusion matrix of a detector, with background as a class of its own.

At a score threshold, detections first take objects of their own class as COCO matches them, so that the
diagonal is the number of true positives. What is left on both sides is then paired across classes, by
falling score. Detections that overlap no free object are of background; objects that are left are missed.

Letters: K classes, N images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ppdet.metrics.analysis.coco_matching import Matches
from ppdet.metrics.analysis.instances import Objects, Predictions
from ppdet.metrics.analysis.overlaps import Pairs


@dataclass(frozen=True)
class Confusion:
    """Objects against detections at one score threshold.

    Attributes:
        threshold: Least score.
        overlap: Least intersection over union of a pair.
        counts: ``[K + 1, K + 1]`` int64: class of the object by row, of the detection by column; the last row
            is background (false positives), the last column is missed objects.
        cases: ``[C, 4]`` int64 of every count: its row and column, and its row in `Objects` and in
            `Predictions`, or -1.
    """

    threshold: float
    overlap: float
    counts: np.ndarray
    cases: np.ndarray


def confusion(
    objects: Objects,
    predictions: Predictions,
    pairs: Pairs,
    matches: Matches,
    *,
    threshold: float,
    t: int = 0,
) -> Confusion:
    """Count what is taken for what.

    Args:
        objects: Ground truth.
        predictions: Detections.
        pairs: Of `overlapping_pairs`.
        matches: Of `match` with all objects, whose threshold `t` is 0.5.
        threshold: Least score of a detection.
        t: Which of the overlap thresholds.
    """
    background = len(objects.class_names)
    shown = predictions.score >= threshold
    correct = np.flatnonzero(matches.correct[t] & shown)
    free = matches.counts.copy()
    free[matches.thing[t, correct]] = False
    wrong = matches.wrong[t] & shown
    usable = (pairs.overlap >= 0.5) & wrong[pairs.detection] & free[pairs.thing]
    detections, things = _greedy(
        pairs.detection[usable],
        pairs.thing[usable],
        pairs.overlap[usable],
        predictions.score[pairs.detection[usable]],
    )
    wrong[detections] = False
    free[things] = False
    alone, missed = np.flatnonzero(wrong), np.flatnonzero(free)
    thing = np.concatenate([matches.thing[t, correct], things, np.full(len(alone), -1), missed])
    detection = np.concatenate([correct, detections, alone, np.full(len(missed), -1)])
    row = np.where(thing >= 0, objects.label[thing] if len(objects) else background, background)
    column = np.where(
        detection >= 0, predictions.label[detection] if len(predictions) else background, background
    )
    counts = np.zeros((background + 1, background + 1), np.int64)
    np.add.at(counts, (row, column), 1)
    return Confusion(threshold, 0.5, counts, np.stack([row, column, thing, detection], axis=1))


def _greedy(
    detection: np.ndarray, thing: np.ndarray, overlap: np.ndarray, score: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One-to-one pairs: by falling score each detection takes the free object that it overlaps most."""
    taken_detections: dict[int, int] = {}
    taken_things: set[int] = set()
    for row in np.lexsort((thing, -overlap, detection, -score)).tolist():
        one, other = int(detection[row]), int(thing[row])
        if one not in taken_detections and other not in taken_things:
            taken_detections[one] = other
            taken_things.add(other)
    return (
        np.array(list(taken_detections), np.int64),
        np.array(list(taken_detections.values()), np.int64),
    )
