"""Which detection is which object, as COCO decides it (`COCOeval.evaluateImg`), for all images at once.

In an image, detections of a class take objects of that class by falling score: the free one that they
overlap most. Detections of the same rank in different images and classes never compete, so all of one rank
are matched together.

Letters: T overlap thresholds, D detections, G objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np

from ppdet.metrics.analysis.instances import Objects, Predictions
from ppdet.metrics.analysis.overlaps import Pairs

#: COCO's thresholds, as its reference computes them.
THRESHOLDS = np.linspace(0.5, 0.95, 10)
#: Detections that count per image and class.
MAX_DETECTIONS = 100


@dataclass(frozen=True)
class Matches:
    """Result of matching.

    Attributes:
        thing: ``[T, D]`` int32 row of the matched object, -1 for none.
        countable: ``[D]`` bool: the detection counts as wrong where it matches nothing.
        counts: ``[G]`` bool: the object is one to be found; a detection that matches another is ignored.
    """

    thing: np.ndarray
    countable: np.ndarray
    counts: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """``[T, D]`` bool: true positives."""
        correct = self.thing >= 0
        correct[correct] = self.counts[self.thing[correct]]
        return correct

    @property
    def wrong(self) -> np.ndarray:
        """``[T, D]`` bool: false positives."""
        return (self.thing < 0) & self.countable


def match(
    objects: Objects,
    predictions: Predictions,
    pairs: Pairs,
    *,
    thresholds: np.ndarray = THRESHOLDS,
    inside: Optional[np.ndarray] = None,
    detection_inside: Optional[np.ndarray] = None,
) -> Matches:
    """Match by falling score.

    Args:
        objects: Ground truth.
        predictions: Detections; those of rank 100 or more in their image and class are ignored.
        pairs: Of `overlapping_pairs`.
        thresholds: ``[T]`` least overlaps, rising.
        inside: ``[G]`` bool, objects to be found; others may be matched without effect. None for all. Crowds
            never are to be found.
        detection_inside: ``[D]`` bool, detections that count as wrong where they match nothing; None for all.
    """
    counts = ~objects.is_crowd if inside is None else inside & ~objects.is_crowd
    counted = predictions.rank < MAX_DETECTIONS
    # As in the reference: an overlap of 1 must pass a threshold of 1.
    least = np.minimum(thresholds, 1 - 1e-10)
    usable = (
        (objects.label[pairs.thing] == predictions.label[pairs.detection])
        & (pairs.overlap >= least[0])
        & counted[pairs.detection]
    )
    detection, thing, overlap = pairs.detection[usable], pairs.thing[usable], pairs.overlap[usable]
    # Last of a detection's rows is its choice: objects to be found before others, then the larger overlap,
    # and of equal ones the later object, as the reference happens to take.
    order = np.lexsort((thing, overlap, counts[thing], detection, predictions.rank[detection]))
    detection, thing, overlap = detection[order], thing[order], overlap[order]
    rank = predictions.rank[detection]
    rounds = np.searchsorted(rank, np.arange(int(rank[-1]) + 2 if len(rank) else 1))
    matched = np.full((len(thresholds), len(predictions)), -1, np.int32)
    for t, limit in enumerate(least):
        taken = np.zeros(len(objects), bool)
        passes = overlap >= limit
        for first, last in zip(rounds[:-1], rounds[1:]):
            rows = first + np.flatnonzero(passes[first:last] & ~taken[thing[first:last]])
            if not len(rows):
                continue
            owner = detection[rows]
            chosen = rows[np.append(owner[1:] != owner[:-1], True)]
            matched[t, detection[chosen]] = thing[chosen]
            taken[thing[chosen]] = ~objects.is_crowd[thing[chosen]]
    countable = counted if detection_inside is None else counted & detection_inside
    return Matches(matched, countable, counts)
