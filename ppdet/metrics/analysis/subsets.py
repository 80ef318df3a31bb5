"""AP of parts of the ground truth: by size, shape, crowding, position, and occlusion by other boxes.

As COCO does for sizes, objects outside a part may be matched without effect, and a detection that matches
nothing counts as wrong if it would itself belong to the part. Occlusion is a property of objects alone, so
that there every such detection counts.

Letters: G objects, D detections, N images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Optional

import numpy as np

from ppdet.metrics.analysis.average_precision import mean, scores
from ppdet.metrics.analysis.coco_matching import match
from ppdet.metrics.analysis.instances import Objects, Predictions
from ppdet.metrics.analysis.overlaps import Pairs


class Aspect(NamedTuple):
    """One way of dividing the objects.

    Attributes:
        name: What it is.
        edges: Rising limits between the parts.
        labels: Name of each part, one more than limits.
        of_objects: ``[G]`` value of each object.
        of_detections: ``[D]`` value of each detection, or None.
    """

    name: str
    edges: tuple[float, ...]
    labels: tuple[str, ...]
    of_objects: np.ndarray
    of_detections: Optional[np.ndarray]


@dataclass(frozen=True)
class SubsetScore:
    """AP of one part.

    Attributes:
        aspect: E.g. ``size``.
        part: E.g. ``32-96 px``.
        objects: Objects in it.
        ap: Mean over COCO's thresholds and the classes that occur in it; -1 without objects.
        ap50: At overlap 0.5.
        recall: Share of the objects matched at overlap 0.5 by any detection, over all classes together.
    """

    aspect: str
    part: str
    objects: int
    ap: float
    ap50: float
    recall: float


def subset_scores(objects: Objects, predictions: Predictions, pairs: Pairs) -> list[SubsetScore]:
    """AP of every part of every aspect."""
    ones = np.ones((1, len(objects.image_ids)))
    rows = []
    for aspect in aspects(objects, predictions, pairs):
        of_objects = np.digitize(aspect.of_objects, aspect.edges)
        of_detections = None
        if aspect.of_detections is not None:
            of_detections = np.digitize(aspect.of_detections, aspect.edges)
        for part, label in enumerate(aspect.labels):
            matches = match(
                objects,
                predictions,
                pairs,
                inside=of_objects == part,
                detection_inside=None if of_detections is None else of_detections == part,
            )
            found = scores(objects, predictions, matches, ones)
            total = int(matches.counts.sum())
            hits = int(matches.correct[0].sum())
            ap, ap50 = float(mean(found.ap)[0]), float(mean(found.ap[..., :1])[0])
            rows.append(SubsetScore(aspect.name, label, total, ap, ap50, hits / total if total else -1.0))
    return rows


def aspects(objects: Objects, predictions: Predictions, pairs: Pairs) -> Iterator[Aspect]:
    """The ways in which objects are divided."""
    yield Aspect(
        "size",
        (16, 32, 96, 288),
        ("under 16 px", "16 to 32 px", "32 to 96 px", "96 to 288 px", "over 288 px"),
        np.sqrt(objects.area),
        np.sqrt(predictions.area),
    )
    yield Aspect(
        "aspect ratio",
        (1 / 3, 2 / 3, 3 / 2, 3),
        ("very tall", "tall", "about square", "wide", "very wide"),
        *(box[:, 2] / np.maximum(box[:, 3], 1e-9) for box in (objects.xywh, predictions.xywh)),
    )
    crowding = np.bincount(objects.image[~objects.is_crowd], minlength=len(objects.image_ids))
    yield Aspect(
        "objects in the image",
        (3, 6, 11, 21),
        ("1 or 2", "3 to 5", "6 to 10", "11 to 20", "over 20"),
        crowding[objects.image],
        crowding[predictions.image],
    )
    yield Aspect(
        "position",
        (1 / 3, 2 / 3),
        ("centre", "between", "edge"),
        _eccentricity(objects, objects.image, objects.xywh),
        _eccentricity(objects, predictions.image, predictions.xywh),
    )
    yield Aspect(
        "occlusion by another box",
        (1e-9, 0.25, 0.5),
        ("none", "under a quarter", "a quarter to a half", "over a half"),
        occlusion(objects),
        None,
    )


def _eccentricity(objects: Objects, image: np.ndarray, xywh: np.ndarray) -> np.ndarray:
    """Distance of a box's centre from the image's, 0 at the centre and 1 at the border, along the worse axis.

    Where the annotations leave out the image's size, the objects' extent stands for it.
    """
    extent = np.zeros((len(objects.image_ids), 2))
    np.maximum.at(extent, objects.image, objects.xywh[:, :2] + objects.xywh[:, 2:])
    size = np.where(objects.image_sizes > 0, objects.image_sizes, extent[:, ::-1])[:, ::-1]
    half = np.maximum(size[image] / 2, 1e-9)
    return (np.abs(xywh[:, :2] + xywh[:, 2:] / 2 - half) / half).max(axis=1)


def occlusion(objects: Objects) -> np.ndarray:
    """Largest share ``[G]`` of each object's box that one other object's box of the image covers."""
    share = np.zeros(len(objects))
    edges = np.flatnonzero(np.diff(objects.image, prepend=-1, append=-1))
    for first, last in zip(edges[:-1], edges[1:]):
        box = objects.xywh[first:last]
        corner = np.minimum((box[:, :2] + box[:, 2:])[:, None], (box[:, :2] + box[:, 2:])[None]) - np.maximum(
            box[:, None, :2], box[None, :, :2]
        )
        shared = corner.clip(min=0).prod(axis=2)
        np.fill_diagonal(shared, 0)
        shared[:, objects.is_crowd[first:last]] = 0
        share[first:last] = shared.max(axis=1) / np.maximum(box[:, 2] * box[:, 3], 1e-9)
    return share
