"""Which objects the anchors of a detector can reach at all: a ceiling of its recall, before any training.

Letters: A objects, K anchors of a cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np

from ppdet.data.datasets.base import AnnotatedDataset
from ppdet.data.tools.anchors import REACHED
from ppdet.data.tools.input_size import InputSize, object_boxes
from ppdet.experiment.build import build_model
from ppdet.experiment.config import Experiment
from ppdet.modeling.detectors.ppyoloe import PPYOLOE
from ppdet.modeling.detectors.retinanet import RetinaNet
from ppdet.modeling.detectors.two_stage import TwoStageDetector
from ppdet.modeling.detectors.yolov3 import YOLOv3

#: Objects that are looked at; more change no share by a thousandth.
_MOST = 50_000
#: IoU from which an RPN calls an anchor positive.
_POSITIVE = 0.7


@dataclass(frozen=True)
class LevelReach:
    """What one level of a pyramid reaches.

    Attributes:
        stride: Pixels of the input per cell.
        share: Share of all objects that it reaches.
        best: Share of all objects that it reaches best.
    """

    stride: int
    share: float
    best: float


@dataclass(frozen=True)
class Reach:
    """What the anchors of a detector reach.

    Attributes:
        rule: What reaching means, for people.
        recall: Share of the objects that at least one level reaches.
        recall_strict: The same with an IoU of 0.7; None for anchors that are points.
        mean_iou: Mean over the objects of the IoU with their best anchor; None for points.
        levels: By stride.
    """

    rule: str
    recall: float
    recall_strict: Optional[float]
    mean_iou: Optional[float]
    levels: tuple[LevelReach, ...]


@dataclass(frozen=True)
class _Level:
    """Anchors of a cell, ``[K, 4]`` xyxy around its centre, which is `offset` cells from its corner."""

    stride: float
    offset: float
    cells: np.ndarray


def anchor_reach(base: Experiment, dataset: AnnotatedDataset, size: InputSize) -> Optional[Reach]:
    """The objects that the anchors of a configuration reach, at its input size.

    An anchor box reaches an object with an IoU of 0.5 or more, at the position of the grid that is nearest
    to it (YOLOv3, which assigns by size alone: at the object's own centre). An anchor point of PP-YOLOE
    reaches an object that it lies in, and whose sides are no further than its bins go.

    Args:
        base: The configuration; its detector is built.
        dataset: The objects.
        size: What the images are resized to.

    Returns:
        None for a detector without anchors (RT-DETR), or a dataset without objects.
    """
    boxes = object_boxes(dataset, size)
    if len(boxes) > _MOST:
        boxes = boxes[np.random.default_rng(0).choice(len(boxes), _MOST, replace=False)]
    model = build_model(base)
    if not len(boxes):
        return None
    if isinstance(model, PPYOLOE):
        head = base.architecture.arguments["yolo_head"].arguments
        return _of_points(boxes, model.yolo_head.strides, int(head.get("reg_max", 16)))
    if isinstance(model, YOLOv3):
        levels = [
            _Level(level.stride, 0.0, _centred(np.array(level.anchors, float)))
            for level in model.yolo_head.layout.levels
        ]
        return _of_boxes(boxes - _centres(boxes)[:, [0, 1, 0, 1]], levels)
    anchors = None
    if isinstance(model, TwoStageDetector):
        anchors = model.rpn_head.anchors
    elif isinstance(model, RetinaNet):
        anchors = model.head.anchors
    if anchors is None:
        return None
    cells = zip(anchors.strides, anchors.cells)
    return _of_boxes(boxes, [_Level(stride, anchors.offset, np.array(cell)) for stride, cell in cells])


def _of_boxes(boxes: np.ndarray, levels: list[_Level]) -> Reach:
    best = np.stack([_best_iou(boxes, level) for level in levels])
    reached, most = best >= REACHED, best.max(axis=0)
    return Reach(
        rule=f"an anchor box with an IoU of {REACHED} or more",
        recall=float((most >= REACHED).mean()),
        recall_strict=float((most >= _POSITIVE).mean()),
        mean_iou=float(most.mean()),
        levels=_levels([level.stride for level in levels], reached, best.argmax(axis=0)),
    )


def _best_iou(boxes: np.ndarray, level: _Level) -> np.ndarray:
    """IoU of each object with the best anchor at the nearest position, ``[A]``."""
    cell = np.maximum(np.round(_centres(boxes) / level.stride - level.offset), 0)
    middles = (cell + level.offset) * level.stride
    found = np.zeros(len(boxes))
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    for anchor in level.cells:
        low = np.maximum(boxes[:, :2], middles + anchor[:2])
        high = np.minimum(boxes[:, 2:], middles + anchor[2:])
        shared = np.maximum(high - low, 0).prod(axis=1)
        union = areas + (anchor[2:] - anchor[:2]).prod() - shared
        found = np.maximum(found, shared / np.maximum(union, 1e-9))
    return found


def _of_points(boxes: np.ndarray, strides: list[int], reg_max: int) -> Reach:
    reached = np.stack([_holds_point(boxes, stride, reg_max) for stride in strides])
    # A level whose objects are about eight cells large has the finest bins that hold them.
    cells = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1)) / np.array(strides)[:, None]
    fit = np.where(reached, -np.abs(np.log2(np.maximum(cells, 1e-9) / (reg_max / 2))), -np.inf)
    return Reach(
        rule=f"an anchor point inside, no side of the object further from it than {reg_max} strides",
        recall=float(reached.any(axis=0).mean()),
        recall_strict=None,
        mean_iou=None,
        levels=_levels(strides, reached, fit.argmax(axis=0)),
    )


def _holds_point(boxes: np.ndarray, stride: int, reg_max: int) -> np.ndarray:
    """Whether the point nearest to the centre lies inside, and the sides within `reg_max` strides of it."""
    centres = _centres(boxes)
    points = (np.maximum(np.round(centres / stride - 0.5), 0) + 0.5) * stride
    distances = np.concatenate([points - boxes[:, :2], boxes[:, 2:] - points], axis=1)
    inside: np.ndarray = (distances.min(axis=1) > 0) & (distances.max(axis=1) <= reg_max * stride)
    return inside


def _levels(strides: Sequence[float], reached: np.ndarray, best: np.ndarray) -> tuple[LevelReach, ...]:
    rows = [
        LevelReach(int(stride), float(one.mean()), float((one & (best == index)).mean()))
        for index, (stride, one) in enumerate(zip(strides, reached))
    ]
    return tuple(sorted(rows, key=lambda row: row.stride))


def _centres(boxes: np.ndarray) -> np.ndarray:
    middles: np.ndarray = (boxes[:, :2] + boxes[:, 2:]) / 2
    return middles


def _centred(sizes: np.ndarray) -> np.ndarray:
    return np.concatenate([-sizes / 2, sizes / 2], axis=1)
