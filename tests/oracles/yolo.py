"""YOLOv3's targets, loss and decoding as loops over objects and cells in float64: slow, and meant to be read.

Everything is written from the paper's sentences and the rules in docs, one number at a time; nothing is
shared with the code under test.
"""

from __future__ import annotations

import math
from typing import Optional

import numpy as np


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def entropy(logit: float, target: float) -> float:
    """Cross entropy of one logit: -t log p - (1 - t) log (1 - p)."""
    return max(logit, 0) - logit * target + math.log1p(math.exp(-abs(logit)))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    area = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return float(width * height / (area[0] + area[1] - width * height))


class Target:
    """What one cell is asked for."""

    def __init__(self) -> None:
        self.gt: Optional[int] = None
        self.classes: set[int] = set()


def targets(
    boxes: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    anchors: list[list[float]],
    mask: list[int],
    stride: int,
    grid: tuple[int, int],
    iou_thresh: float = 1.0,
) -> dict[tuple[int, int, int], Target]:
    """Targets of one image and level by (anchor of the level, row, column)."""
    asked: dict[tuple[int, int, int], Target] = {}
    for g, (box, label, weight) in enumerate(zip(boxes.astype(np.float64), labels, weights)):
        width, height = box[2] - box[0], box[3] - box[1]
        if label < 0 or width <= 0 or height <= 0 or weight <= 0:
            continue
        shape = np.array([0, 0, width, height])
        overlaps = [iou(shape, np.array([0, 0, *anchor], np.float64)) for anchor in anchors]
        best = int(np.argmax(overlaps))
        column = min(int((box[0] + box[2]) / 2 // stride), grid[1] - 1)
        row = min(int((box[1] + box[3]) / 2 // stride), grid[0] - 1)
        for a, number in enumerate(mask):
            # The best anchor takes the cell from whoever has it; a further one only a cell that is free.
            if number == best or (overlaps[number] > iou_thresh and (a, row, column) not in asked):
                target = asked.setdefault((a, row, column), Target())
                target.gt = g
                target.classes.add(int(label))
    return asked


def box_of(
    values: np.ndarray, anchor: list[float], row: int, column: int, stride: int, scale: float
) -> np.ndarray:
    centre = [
        (scale * sigmoid(values[i]) - 0.5 * (scale - 1) + cell) * stride
        for i, cell in enumerate((column, row))
    ]
    half = [math.exp(values[2 + i]) * anchor[i] / 2 for i in range(2)]
    return np.array([centre[0] - half[0], centre[1] - half[1], centre[0] + half[0], centre[1] + half[1]])


def level_loss(
    output: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    anchors: list[list[float]],
    mask: list[int],
    stride: int,
    num_classes: int,
    *,
    ignore_thresh: float = 0.7,
    label_smooth: bool = False,
    scale_x_y: float = 1.0,
    iou_weight: Optional[float] = None,
    iou_aware: bool = False,
    iou_thresh: float = 1.0,
) -> dict[str, float]:
    """Losses of one level: sum over cells, mean over images."""
    count, _, rows, columns = output.shape
    first = len(mask) if iou_aware else 0
    sums = dict.fromkeys(["loss_xy", "loss_wh", "loss_obj", "loss_cls"], 0.0)
    if iou_weight is not None:
        sums["loss_iou"] = 0.0
    if iou_aware:
        sums["loss_iou_aware"] = 0.0
    smooth = min(1 / num_classes, 1 / 40) if label_smooth else 0.0
    for n in range(count):
        asked = targets(boxes[n], labels[n], weights[n], anchors, mask, stride, (rows, columns), iou_thresh)
        for a, row, column in np.ndindex(len(mask), rows, columns):
            at = first + a * (5 + num_classes)
            values = output[n, at : at + 5 + num_classes, row, column].astype(np.float64)
            anchor = anchors[mask[a]]
            predicted = box_of(values, anchor, row, column, stride, scale_x_y)
            target = asked.get((a, row, column))
            if target is None or target.gt is None:
                overlaps = [iou(predicted, box.astype(np.float64)) for box in boxes[n]]
                if max(overlaps) <= ignore_thresh:
                    sums["loss_obj"] += entropy(values[4], 0)
                continue
            box, weight = boxes[n, target.gt].astype(np.float64), float(weights[n, target.gt])
            width, height = box[2] - box[0], box[3] - box[1]
            size = weight * (2 - width * height / (rows * columns * stride**2))
            offset = [(box[0] + box[2]) / 2 / stride - column, (box[1] + box[3]) / 2 / stride - row]
            for i in range(2):
                if scale_x_y == 1:
                    sums["loss_xy"] += size * entropy(values[i], offset[i])
                else:
                    x = scale_x_y * sigmoid(values[i]) - 0.5 * (scale_x_y - 1)
                    sums["loss_xy"] += size * abs(x - offset[i])
                sums["loss_wh"] += size * abs(values[2 + i] - math.log([width, height][i] / anchor[i]))
            sums["loss_obj"] += weight * entropy(values[4], 1)
            for k in range(num_classes):
                wanted = 1 - smooth if k in target.classes else smooth
                sums["loss_cls"] += weight * entropy(values[5 + k], wanted)
            overlap = iou(predicted, box)
            if iou_weight is not None:
                sums["loss_iou"] += size * iou_weight * (1 - overlap**2)
            if iou_aware:
                sums["loss_iou_aware"] += weight * entropy(float(output[n, a, row, column]), overlap)
    return {name: value / count for name, value in sums.items()}
