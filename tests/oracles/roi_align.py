"""Pyramid levels of boxes; RoIAlign itself is `ppdet.doctor.oracles.roi_align`."""

from __future__ import annotations

import math


def level(box, first_level, last_level):
    """Pyramid level of a box."""
    side = math.sqrt(max(box[2] - box[0], 0) * max(box[3] - box[1], 0))
    if side == 0:
        return first_level
    return min(max(math.floor(4 + math.log2(side / 224 + 1e-6)), first_level), last_level)
