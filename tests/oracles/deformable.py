"""Multi-scale deformable sampling with loops (Zhu et al., "Deformable DETR", arXiv:2010.04159, eq. 3)."""

from __future__ import annotations

import math

import numpy as np


def bilinear(grid: np.ndarray, x: float, y: float) -> np.ndarray:
    """Value ``[C]`` of a map ``[h, w, C]`` at x, y in 0..1; cells outside of the map are zero."""
    height, width, channels = grid.shape
    column, row = x * width - 0.5, y * height - 0.5
    left, top = math.floor(column), math.floor(row)
    value = np.zeros(channels)
    for i in (top, top + 1):
        for j in (left, left + 1):
            if 0 <= i < height and 0 <= j < width:
                value += (1 - abs(row - i)) * (1 - abs(column - j)) * grid[i, j]
    return value


def deformable_sampling(
    value: np.ndarray, grids: list[tuple[int, int]], locations: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """As `ppdet.ops.deformable.deformable_sampling`, in float64."""
    images, _, heads, channels = value.shape
    queries, points = locations.shape[1], locations.shape[4]
    result = np.zeros((images, queries, heads, channels))
    for n in range(images):
        for m in range(heads):
            start = 0
            for level, (height, width) in enumerate(grids):
                grid = value[n, start : start + height * width, m].reshape(height, width, channels)
                start += height * width
                for q in range(queries):
                    for p in range(points):
                        x, y = locations[n, q, m, level, p]
                        result[n, q, m] += weights[n, q, m, level, p] * bilinear(grid, x, y)
    return result.reshape(images, queries, heads * channels)
