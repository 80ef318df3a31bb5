"""Slow truth for pasting masks."""

from __future__ import annotations

import numpy as np


def paste_densely(probs, boxes, height, width):
    """Probabilities ``[D, H, W]`` float64 of whole images, pixel by pixel.

    The probability at a pixel centre is interpolated bilinearly between cell centres of an S x S grid over
    the box, cells beyond the grid counting as 0.
    """
    size = probs.shape[-1]
    out = np.zeros((len(probs), height, width))
    for n, (x1, y1, x2, y2) in enumerate(boxes.astype("float64")):
        if x2 <= x1 or y2 <= y1:
            continue
        for row in range(height):
            v = (row + 0.5 - y1) / (y2 - y1) * size - 0.5
            for column in range(width):
                u = (column + 0.5 - x1) / (x2 - x1) * size - 0.5
                for i in (int(np.floor(v)), int(np.floor(v)) + 1):
                    for j in (int(np.floor(u)), int(np.floor(u)) + 1):
                        if 0 <= i < size and 0 <= j < size:
                            out[n, row, column] += (1 - abs(v - i)) * (1 - abs(u - j)) * probs[n, i, j]
    return out
