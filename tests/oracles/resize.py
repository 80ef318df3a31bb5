"""Bicubic interpolation as OpenCV means it, in float64: half-pixel centres, a = -0.75, edges repeated.

Keys, "Cubic convolution interpolation for digital image processing", IEEE Trans. ASSP 29 (1981), eq. 15.
"""

from __future__ import annotations

import numpy as np

_A = -0.75


def _axis(source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """``[target, 4]`` rows that each new one is made of, and their weights."""
    position = (np.arange(target) + 0.5) * (source / target) - 0.5
    first = np.floor(position).astype(int)
    offsets = np.arange(-1, 3)
    d = np.abs((position - first)[:, None] - offsets)
    near = ((_A + 2) * d - (_A + 3)) * d * d + 1
    far = ((_A * d - 5 * _A) * d + 8 * _A) * d - 4 * _A
    return np.clip(first[:, None] + offsets, 0, source - 1), np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def bicubic(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """``[height, width, C]`` float64, before rounding, clipped to 0..255."""
    rows, row_weights = _axis(image.shape[0], height)
    columns, column_weights = _axis(image.shape[1], width)
    wide = (image.astype(np.float64)[:, columns] * column_weights[None, :, :, None]).sum(axis=2)
    return np.clip((wide[rows] * row_weights[:, :, None, None]).sum(axis=1), 0, 255)
