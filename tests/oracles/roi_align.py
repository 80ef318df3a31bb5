"""Slow truth for RoIAlign: one bilinear sample at a time."""

from __future__ import annotations

import math

import numpy as np


def bilinear(feature, y, x):
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
    return upper * (1 - dy) + lower * dy


def roi_align(feature, box, *, resolution, stride, sampling_ratio=0, aligned=True):
    """``[C, S, S]`` of one box on one map ``[C, H, W]``."""
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


def level(box, first_level, last_level):
    """Pyramid level of a box."""
    side = math.sqrt(max(box[2] - box[0], 0) * max(box[3] - box[1], 0))
    if side == 0:
        return first_level
    return min(max(math.floor(4 + math.log2(side / 224 + 1e-6)), first_level), last_level)
