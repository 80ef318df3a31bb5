"""Overlaps of detections with the objects of their image, kept where they matter.

Letters: P pairs, T thresholds, G objects, D detections.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ppdet.metrics.analysis.instances import Objects, Predictions

#: Pairs below this overlap are dropped: TIDE (Bolya et al. 2020) takes less for background.
FLOOR = 0.1
#: Pairs computed at a time: bounds the memory to some 100 MB.
CHUNK = 1_000_000


@dataclass(frozen=True)
class Pairs:
    """Detections and objects of one image that overlap by `FLOOR` or more, by rising detection, then object.

    Attributes:
        detection: ``[P]`` row in `Predictions`.
        thing: ``[P]`` row in `Objects`.
        overlap: ``[P]`` float64 intersection over union; over the detection's own area for crowds.
    """

    detection: np.ndarray
    thing: np.ndarray
    overlap: np.ndarray


def overlapping_pairs(objects: Objects, predictions: Predictions) -> Pairs:
    """All pairs of any classes, by boxes, or by masks where both have them."""
    starts = np.searchsorted(objects.image, predictions.image, side="left")
    counts = np.searchsorted(objects.image, predictions.image, side="right") - starts
    if objects.masks is not None and predictions.masks is not None:
        return _mask_pairs(objects, predictions, starts, counts)
    kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    ends = np.cumsum(counts)
    first = 0
    while first < len(counts):
        done = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, done + CHUNK, side="right")))
        number = counts[first:last]
        detection = np.repeat(np.arange(first, last), number)
        offset = np.arange(len(detection)) - np.repeat(np.cumsum(number) - number, number)
        thing = np.repeat(starts[first:last], number) + offset
        overlap = box_overlaps(predictions.xywh[detection], objects.xywh[thing], objects.is_crowd[thing])
        keep = overlap >= FLOOR
        kept.append((detection[keep], thing[keep], overlap[keep]))
        first = last
    return _joined(kept)


def box_overlaps(one: np.ndarray, other: np.ndarray, is_crowd: np.ndarray) -> np.ndarray:
    """Intersection over union ``[P]`` of xywh boxes ``[P, 4]``, by the operations of COCO's reference."""
    corner = np.minimum(one[:, :2] + one[:, 2:], other[:, :2] + other[:, 2:])
    shared = (corner - np.maximum(one[:, :2], other[:, :2])).clip(min=0).prod(axis=1)
    area = one[:, 2] * one[:, 3]
    union = np.where(is_crowd, area, area + other[:, 2] * other[:, 3] - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _mask_pairs(objects: Objects, predictions: Predictions, starts: np.ndarray, counts: np.ndarray) -> Pairs:
    from pycocotools import mask as mask_utils

    assert objects.masks is not None and predictions.masks is not None
    kept = []
    edges = np.flatnonzero(np.diff(predictions.image, prepend=-1, append=-1))
    for first, last in zip(edges[:-1], edges[1:]):
        low, high = int(starts[first]), int(starts[first] + counts[first])
        if low == high:
            continue
        crowd = [int(v) for v in objects.is_crowd[low:high]]
        table = np.asarray(
            mask_utils.iou(list(predictions.masks[first:last]), list(objects.masks[low:high]), crowd)
        )
        rows, columns = np.nonzero(table >= FLOOR)
        kept.append((rows + first, columns + low, table[rows, columns]))
    return _joined(kept)


def _joined(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Pairs:
    if not parts:
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return Pairs(*(np.concatenate(columns) for columns in zip(*parts)))
