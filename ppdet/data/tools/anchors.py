"""Anchors for the objects of a dataset: how well some cover them, and better ones.

k-means with 1 - IoU as the distance (Redmon and Farhadi, YOLO9000, section 2), then a genetic refinement:
anchors are scaled at random, and kept where the mean best IoU grows.

Letters: A objects, K anchors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ppdet.utils.errors import DataError

#: IoU from which an anchor is said to reach an object (Gt2YoloTarget and RPN call 0.5 and 0.7 positive).
REACHED = 0.5
#: Objects that are looked at; more change no anchor by a pixel.
_MOST = 20_000
_ROUNDS = 100
_GENERATIONS = 600
#: Share of the numbers that a mutation changes, and how far (standard deviation of the factor).
_CHANGED, _SPREAD = 0.4, 0.1


@dataclass(frozen=True)
class AnchorFit:
    """How well anchors cover objects of the same centre.

    Attributes:
        anchors: (width, height) in pixels of the network's input, by area.
        recall: Share of the objects that an anchor reaches with an IoU of at least `REACHED`.
        mean_iou: Mean over the objects of the IoU with their best anchor.
    """

    anchors: tuple[tuple[float, float], ...]
    recall: float
    mean_iou: float


def measure_anchors(sizes: np.ndarray, anchors: np.ndarray) -> AnchorFit:
    """Cover of objects by anchors.

    Args:
        sizes: ``[A, 2]`` width and height of the objects in pixels of the network's input.
        anchors: ``[K, 2]`` those of the anchors.

    Raises:
        DataError: If there is no object.
    """
    if not len(sizes):
        raise DataError("no object to fit anchors to")
    best = _ious(sizes, anchors).max(axis=1)
    ordered = anchors[np.argsort(anchors.prod(axis=1), kind="stable")]
    pairs = tuple((float(width), float(height)) for width, height in ordered)
    return AnchorFit(pairs, float((best >= REACHED).mean()), float(best.mean()))


def fit_anchors(sizes: np.ndarray, count: int, *, seed: int = 0) -> AnchorFit:
    """The `count` anchors that cover objects best, in whole pixels.

    Args:
        sizes: ``[A, 2]`` width and height of the objects in pixels of the network's input.
        count: Number of anchors.
        seed: Of the sample, the first means and the mutations.

    Raises:
        DataError: If there are fewer objects of different sizes than anchors.
    """
    different = np.unique(sizes, axis=0)
    if len(different) < count:
        raise DataError(f"{len(different)} different sizes of objects are too few for {count} anchors")
    rng = np.random.default_rng(seed)
    sample = sizes if len(sizes) <= _MOST else sizes[rng.choice(len(sizes), _MOST, replace=False)]
    found = _refined(sample, _means(sample, different, count, rng), rng)
    return measure_anchors(sizes, np.maximum(1.0, np.round(found)))


def _means(sizes: np.ndarray, different: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """k-means; a mean without objects moves to the object that is covered worst."""
    means = different[rng.choice(len(different), count, replace=False)].astype(float)
    nearest = np.full(len(sizes), -1)
    for _ in range(_ROUNDS):
        ious = _ious(sizes, means)
        now = ious.argmax(axis=1)
        if (now == nearest).all():
            break
        nearest = now
        for number in range(count):
            members = sizes[nearest == number]
            means[number] = np.median(members, axis=0) if len(members) else sizes[ious.max(axis=1).argmin()]
    return means


def _refined(sizes: np.ndarray, anchors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    best = _ious(sizes, anchors).max(axis=1).mean()
    for _ in range(_GENERATIONS):
        factors = np.where(rng.random(anchors.shape) < _CHANGED, rng.normal(1.0, _SPREAD, anchors.shape), 1.0)
        tried = np.maximum(1.0, anchors * factors)
        mean = _ious(sizes, tried).max(axis=1).mean()
        if mean > best:
            best, anchors = mean, tried
    return anchors


def _ious(sizes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """``[A, K]`` IoU of boxes with one centre."""
    shared = np.minimum(sizes[:, None], anchors[None]).prod(axis=2)
    overlaps: np.ndarray = shared / (sizes.prod(axis=1)[:, None] + anchors.prod(axis=1)[None] - shared)
    return overlaps
