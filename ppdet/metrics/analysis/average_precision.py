"""Average precision and recall of matched detections, for the data as it is or for many resamplings of it.

A resampling is a weight per image: how often it was drawn. Matching happens inside images, so it is done
once; only sums change. Precision is needed where a detection is correct and nowhere else, so false positives
enter as sums between correct ones. That makes a thousand resamplings affordable.

Letters: B resamplings, N images, K classes, T thresholds, D detections of a class, M of them matched.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ppdet.metrics.analysis.coco_matching import Matches
from ppdet.metrics.analysis.instances import Objects, Predictions

#: Recalls at which COCO samples precision.
RECALLS = np.linspace(0.0, 1.0, 101)
#: Resamplings times detections at a time: bounds the memory to some 100 MB.
CHUNK = 4_000_000


@dataclass(frozen=True)
class Scores:
    """Of B resamplings; NaN where a class has no objects.

    Attributes:
        ap: ``[B, K, T]`` average precision.
        recall: ``[B, K, T]`` share of objects that are matched.
    """

    ap: np.ndarray
    recall: np.ndarray


def scores(objects: Objects, predictions: Predictions, matches: Matches, weights: np.ndarray) -> Scores:
    """AP and recall of every class and threshold under every resampling.

    Args:
        objects: Ground truth.
        predictions: Detections.
        matches: Of `match`.
        weights: ``[B, N]`` times that each image counts.
    """
    T, B, K = len(matches.thing), len(weights), len(objects.class_names)
    ap, recall = np.full((B, K, T), np.nan), np.full((B, K, T), np.nan)
    used = np.any(matches.thing >= 0, axis=0)
    for k in range(K):
        mine = objects.image[matches.counts & (objects.label == k)]
        if not len(mine):
            continue
        rows = predictions.of_class(k)
        curves = _Curves(matches, rows, used[rows], predictions.image)
        step = max(1, CHUNK // max(len(rows), 1))
        for first in range(0, B, step):
            part = weights[first : first + step]
            total = part[:, mine].sum(axis=1)
            drawn = total > 0
            ap[first : first + step, k][drawn], recall[first : first + step, k][drawn] = curves.score(
                part[drawn], total[drawn]
            )
    return Scores(ap, recall)


class _Curves:
    """Precision and recall of one class.

    Args:
        matches: Of all detections.
        rows: ``[D]`` detections of the class by falling score.
        used: ``[D]`` bool: whether each is matched at any threshold.
        image: Image of every detection.
    """

    def __init__(self, matches: Matches, rows: np.ndarray, used: np.ndarray, image: np.ndarray) -> None:
        places = np.flatnonzero(used)
        rows = rows[: places[-1] + 1] if len(places) else rows[:0]
        self._image, self._places = image[rows], places
        self._countable = matches.countable[rows]
        self._thing = matches.thing[:, rows[places]]
        self._correct = (self._thing >= 0) & matches.counts[self._thing]

    def score(self, weights: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """AP and recall ``[B, T]`` under weights ``[B, N]``, of `total` objects ``[B]``."""
        ap, recall = np.zeros((2, len(weights), len(self._thing)))
        if not self._correct.any():
            return ap, recall
        every = weights[:, self._image] * self._countable
        starts = np.concatenate([[0], self._places[:-1] + 1])
        # Detections up to and with each that is matched at some threshold.
        sums = np.cumsum(np.add.reduceat(every, starts, axis=1), axis=1, dtype=np.float64)
        weights = weights[:, self._image[self._places]].astype(np.float64)
        own = weights * self._countable[self._places]
        for t, correct in enumerate(self._correct):
            if correct.any():
                matched = self._thing[t] >= 0
                wrong = sums[:, correct] - np.cumsum(own * matched, axis=1)[:, correct]
                hits = np.cumsum(weights[:, correct], axis=1)
                ap[:, t] = sampled_mean(hits / np.maximum(hits + wrong, 1), hits / total[:, None])
                recall[:, t] = hits[:, -1] / total
        return ap, recall


def sampled_mean(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """Mean ``[B]`` over COCO's recalls of the best precision at each or beyond.

    Args:
        precision: ``[B, M]`` at the correct detections by falling score.
        recall: ``[B, M]``, rising.
    """
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # Recalls of the sampling that each correct detection is the first to reach.
    reached = np.searchsorted(RECALLS, recall.ravel(), side="right").reshape(recall.shape)
    reached[:, 1:] -= reached[:, :-1].copy()
    return (reached * envelope).sum(axis=1) / len(RECALLS)


def precision_at_recalls(objects: Objects, predictions: Predictions, matches: Matches, t: int) -> np.ndarray:
    """Interpolated precision ``[K, 101]`` at COCO's recalls for threshold `t`; NaN without objects."""
    table = np.full((len(objects.class_names), len(RECALLS)), np.nan)
    correct, wrong = matches.correct[t], matches.wrong[t]
    for k in range(len(table)):
        total = int((matches.counts & (objects.label == k)).sum())
        if total == 0:
            continue
        rows = predictions.of_class(k)
        rows = rows[correct[rows] | wrong[rows]]
        hits = np.cumsum(correct[rows])
        precision = hits / np.arange(1, len(rows) + 1)
        envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
        table[k] = envelope[np.searchsorted(hits / total, RECALLS, side="left")]
    return table


def mean(values: np.ndarray) -> np.ndarray:
    """Mean ``[B]`` over classes and thresholds that have a number; -1 where none has, as COCO writes it."""
    flat = values.reshape(len(values), -1)
    known = ~np.isnan(flat)
    count = known.sum(axis=1)
    total = np.where(known, flat, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), -1.0)
