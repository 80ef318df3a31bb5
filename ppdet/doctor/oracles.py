"""NMS and RoIAlign in plain NumPy, one box and one sample at a time: slow, and easy to see right."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Box = Sequence[float]


def area(box: Box) -> float:
    """Of x1 y1 x2 y2; 0 for a box whose corners are in the wrong order."""
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def intersection(a: Box, b: Box) -> float:
    """Area that two boxes share."""
    return area([max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])])


def iou(a: Box, b: Box) -> float:
    """Shared area by that of both together."""
    shared = intersection(a, b)
    return shared / (area(a) + area(b) - shared) if shared > 0 else 0.0


def nms(boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray, iou_threshold: float) -> list[int]:
    """Rows kept, by falling score, equal scores by rising row; groups do not suppress each other."""
    order = sorted(range(len(boxes)), key=lambda i: (-scores[i], i))
    kept: list[int] = []
    for i in order:
        if all(groups[i] != groups[j] or iou(boxes[i], boxes[j]) <= iou_threshold for j in kept):
            kept.append(i)
    return kept


def bilinear(feature: np.ndarray, y: float, x: float) -> float:
    """Value of a map ``[H, W]`` between cell centres; 0 more than one cell outside, the border within."""
    height, width = feature.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - top, x - left
    upper = feature[top, left] * (1 - dx) + feature[top, right] * dx
    lower = feature[bottom, left] * (1 - dx) + feature[bottom, right] * dx
    return float(upper * (1 - dy) + lower * dy)


def roi_align(
    feature: np.ndarray,
    box: Box,
    *,
    resolution: int,
    stride: int,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> np.ndarray:
    """``[C, S, S]`` of one box on one map ``[C, H, W]`` (He et al., Mask R-CNN, section 3)."""
    shift = 0.5 if aligned else 0.0
    x1, y1, x2, y2 = box
    x2, y2 = max(x2, x1 + 0.01), max(y2, y1 + 0.01)
    x1, y1, x2, y2 = (v / stride - shift for v in (x1, y1, x2, y2))
    width, height = x2 - x1, y2 - y1
    if not aligned:
        width, height = max(width, 1.0), max(height, 1.0)
    per_row = sampling_ratio or math.ceil(height / resolution)
    per_column = sampling_ratio or math.ceil(width / resolution)
    out = np.zeros((len(feature), resolution, resolution))
    for c, plane in enumerate(feature):
        for i in range(resolution):
            for j in range(resolution):
                samples = [
                    bilinear(
                        plane,
                        y1 + (i + (p + 0.5) / per_row) * height / resolution,
                        x1 + (j + (q + 0.5) / per_column) * width / resolution,
                    )
                    for p in range(per_row)
                    for q in range(per_column)
                ]
                out[c, i, j] = sum(samples) / len(samples)
    return out
