"""Anchors for a dataset's objects, in the place where a configuration has its own."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np

from ppdet.config.spec import Spec
from ppdet.data.datasets.base import AnnotatedDataset
from ppdet.data.tools.input_size import InputSize, object_sides
from ppdet.data.tools.recipe import DETECTOR
from ppdet.experiment.config import Experiment

#: Quantiles of the objects' sides that the smallest and the largest anchor have.
_FROM, _TO = 0.05, 0.95


def fit_anchors(
    base: Experiment, dataset: AnnotatedDataset, size: InputSize, start: str
) -> Optional[tuple[str, dict[str, Any], str]]:
    """Anchors that fit the objects.

    The anchors of an RPN stay where the weights of a detector are the start: it has learnt what they are.

    Returns:
        Block of the configuration, its arguments, and why; None for a detector without anchors, or whose
        anchors stay.
    """
    rpn = base.architecture.arguments.get("rpn_head")
    if isinstance(rpn, Spec) and start != DETECTOR:
        packaged = rpn.arguments["anchor_generator"].arguments["anchor_sizes"]
        nested = isinstance(packaged[0], (list, tuple))
        sizes = _spread(object_sides(dataset, size), len(packaged))
        generator = {"anchor_sizes": [[side] for side in sizes] if nested else sizes}
        why = "Anchors from the sides of the objects, in pixels of the input."
        return "RPNHead", {"anchor_generator": generator}, why
    return None


def _spread(sides: np.ndarray, count: int) -> list[int]:
    """`count` sizes in equal ratios, from a small to a large object; each at least 4 and above the last."""
    low, high = (max(4.0, float(np.quantile(sides, share))) for share in (_FROM, _TO))
    sizes = np.round(np.geomspace(low, max(high, low), count)).astype(int)
    for row in range(1, count):
        sizes[row] = max(sizes[row], sizes[row - 1] + 1)
    return [int(value) for value in sizes]
