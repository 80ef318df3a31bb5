"""How far AP would move with other images of the same kind: the bootstrap over images (Efron 1979).

Images are drawn with replacement; an interval is the middle 95 % of what the drawings give. Two detectors are
compared on the same drawings, so that what both find hard cancels out.

Letters: B drawings, N images, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ppdet.metrics.analysis.average_precision import Scores, mean, scores
from ppdet.metrics.analysis.coco_matching import THRESHOLDS, Matches, match
from ppdet.metrics.analysis.instances import Objects, Predictions
from ppdet.metrics.analysis.overlaps import Pairs

#: Limits of COCO's sizes: square roots of areas in pixels.
SIZES = {"s": (0.0, 32.0), "m": (32.0, 96.0), "l": (96.0, 1e5)}
#: COCO's names of its twelve numbers, in its order.
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
DRAWINGS = 1000
#: Drawings times matched detections: bounds the time on large datasets to some 10 s.
WORK = 60_000_000


@dataclass(frozen=True)
class Interval:
    """A number and where it lies with 95 % confidence.

    Attributes:
        value: On the images as they are; -1 where there is nothing to measure.
        low: 2.5th percentile of the drawings.
        high: 97.5th percentile.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Drawn:
    """COCO's numbers of B drawings; the first row is the images as they are.

    Attributes:
        numbers: ``[B + 1]`` by name, of `NAMES`.
        class_ap: ``[B + 1, K]`` AP of each class; NaN where a drawing has no object of it.
        class_ap50: The same at overlap 0.5.
    """

    numbers: Mapping[str, np.ndarray]
    class_ap: np.ndarray
    class_ap50: np.ndarray


def matches_by_size(objects: Objects, predictions: Predictions, pairs: Pairs) -> dict[str, Matches]:
    """Matching of all objects (``""``) and of each of COCO's sizes (``s``, ``m``, ``l``)."""
    found = {"": match(objects, predictions, pairs)}
    for name, (low, high) in SIZES.items():
        inside = [(area >= low**2) & (area <= high**2) for area in (objects.area, predictions.area)]
        found[name] = match(objects, predictions, pairs, inside=inside[0], detection_inside=inside[1])
    return found


def drawings(images: int, matched: int, *, seed: int = 0) -> np.ndarray:
    """Weights ``[B + 1, N]``: ones, then how often each drawing has each image.

    Args:
        images: N.
        matched: True positives over all thresholds and sizes; more of them mean fewer drawings, at least 100.
        seed: Of the draws: the same images give the same drawings.
    """
    count = int(np.clip(WORK // max(matched, 1), 100, DRAWINGS))
    rng = np.random.default_rng(seed)
    weights = np.ones((count + 1, images), np.float32)
    for row in weights[1:]:
        row[:] = np.bincount(rng.integers(images, size=images), minlength=images) if images else 0
    return weights


def draw(
    objects: Objects, predictions: Predictions, matches: Mapping[str, Matches], weights: np.ndarray
) -> Drawn:
    """COCO's numbers under every drawing.

    Args:
        objects: Ground truth.
        predictions: Detections.
        matches: Of `matches_by_size`.
        weights: Of `drawings`.
    """
    every = {name: scores(objects, predictions, one, weights) for name, one in matches.items()}
    whole = every[""]
    seventy_five = int(np.argmin(np.abs(THRESHOLDS - 0.75)))
    numbers = {
        "AP": mean(whole.ap),
        "AP50": mean(whole.ap[..., 0]),
        "AP75": mean(whole.ap[..., seventy_five]),
        **{f"AP{size}": mean(every[size].ap) for size in SIZES},
        "AR1": mean(_recall_of_first(objects, predictions, matches[""], weights, whole, 1)),
        "AR10": mean(_recall_of_first(objects, predictions, matches[""], weights, whole, 10)),
        "AR100": mean(whole.recall),
        **{f"AR{size}": mean(every[size].recall) for size in SIZES},
    }
    return Drawn(numbers, whole.ap.mean(axis=2), whole.ap[..., 0])


def _recall_of_first(
    objects: Objects,
    predictions: Predictions,
    matches: Matches,
    weights: np.ndarray,
    whole: Scores,
    limit: int,
) -> np.ndarray:
    """Recall ``[B, K, T]`` of the first `limit` detections of every image and class."""
    hits = np.zeros(whole.recall.shape)
    N, K = len(objects.image_ids), len(objects.class_names)
    total = np.zeros((len(weights), K))
    for k in range(K):
        total[:, k] = weights[:, objects.image[matches.counts & (objects.label == k)]].sum(axis=1)
    for t, correct in enumerate(matches.correct):
        rows = np.flatnonzero(correct & (predictions.rank < limit))
        cell = predictions.image[rows] * K + predictions.label[rows]
        hits[:, :, t] = weights @ np.bincount(cell, minlength=N * K).reshape(N, K).astype(np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total[:, :, None] > 0, hits / total[:, :, None], np.nan)


def interval(values: np.ndarray) -> Interval:
    """The interval of one number, from its value ``[B + 1]`` on the images and under every drawing."""
    if np.isnan(values[0]) or values[0] < 0:
        return Interval(-1.0, -1.0, -1.0)
    low, high = np.nanpercentile(values[1:], [2.5, 97.5])
    return Interval(float(values[0]), float(low), float(high))


def difference(one: np.ndarray, other: np.ndarray) -> Interval:
    """The interval of `other` - `one` on the same drawings, ``[B + 1]`` each."""
    gap = other - one
    low, high = np.nanpercentile(gap[1:], [2.5, 97.5])
    return Interval(float(gap[0]), float(low), float(high))
