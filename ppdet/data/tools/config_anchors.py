"""The anchors of a configuration, and others that fit a dataset's objects, in the same place of a YAML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from ppdet.config.dump import plain_text
from ppdet.config.spec import Spec
from ppdet.data.datasets.base import AnnotatedDataset
from ppdet.data.tools.anchors import AnchorFit, fit_anchors, measure_anchors
from ppdet.data.tools.input_size import InputSize, object_sizes
from ppdet.experiment.config import Experiment

#: Quantiles of the objects' sides that the smallest and the largest anchor of an RPN have.
_FROM, _TO = 0.05, 0.95


@dataclass(frozen=True)
class BetterAnchors:
    """Anchors for a configuration.

    Attributes:
        block: Block of the configuration that they stand in.
        arguments: Its arguments.
        today: Cover of the objects by the anchors of the configuration.
        fitted: Cover by the new ones.
    """

    block: str
    arguments: dict[str, Any]
    today: AnchorFit
    fitted: AnchorFit

    def yaml(self) -> str:
        """The block, to be pasted."""
        lines = (f"  {key}: {plain_text(value)}" for key, value in self.arguments.items())
        return "\n".join([f"{self.block}:", *lines])


def better_anchors(
    base: Experiment, dataset: AnnotatedDataset, size: InputSize, *, seed: int = 0
) -> Optional[BetterAnchors]:
    """Anchors that fit the objects.

    Args:
        base: The configuration.
        dataset: Its training images.
        size: What they are resized to.
        seed: As of `ppdet.data.tools.anchors.fit_anchors`.

    Returns:
        As many as the configuration has; None for a detector without anchors, or whose anchors follow from
        its strides (RetinaNet).

    Raises:
        DataError: If there are too few different objects.
    """
    sizes = object_sizes(dataset, size)
    head, rpn = (base.architecture.arguments.get(name) for name in ("yolo_head", "rpn_head"))
    if isinstance(head, Spec) and "anchors" in head.arguments:
        own = np.array(head.arguments["anchors"], float)
        fitted = fit_anchors(sizes, len(own), seed=seed)
        pairs = [[round(width), round(height)] for width, height in fitted.anchors]
        return BetterAnchors(head.name, {"anchors": pairs}, measure_anchors(sizes, own), fitted)
    if isinstance(rpn, Spec):
        generator = rpn.arguments["anchor_generator"].arguments
        own_sizes = generator["anchor_sizes"]
        nested = isinstance(own_sizes[0], (list, tuple))
        flat = [side for level in own_sizes for side in level] if nested else list(own_sizes)
        if nested and any(len(level) != 1 for level in own_sizes):
            return None
        ratios = generator.get("aspect_ratios") or [0.5, 1.0, 2.0]
        spread = _spread(np.sqrt(sizes.prod(axis=1)), len(flat))
        new = [[side] for side in spread] if nested else spread
        covers = (measure_anchors(sizes, _shapes(sides, ratios)) for sides in (flat, spread))
        return BetterAnchors(rpn.name, {"anchor_generator": {"anchor_sizes": new}}, *covers)
    return None


def _shapes(sides: list[Any], ratios: list[float]) -> np.ndarray:
    """(width, height) of anchors of these sides and ratios (height over width), ``[K, 2]``."""
    return np.array([[side / ratio**0.5, side * ratio**0.5] for side in sides for ratio in ratios], float)


def _spread(sides: np.ndarray, count: int) -> list[int]:
    """`count` sizes in equal ratios, from a small to a large object; each at least 4 and above the last."""
    low, high = (max(4.0, float(np.quantile(sides, share))) for share in (_FROM, _TO))
    sizes = np.round(np.geomspace(low, max(high, low), count)).astype(int)
    for row in range(1, count):
        sizes[row] = max(sizes[row], sizes[row - 1] + 1)
    return [int(value) for value in sizes]
