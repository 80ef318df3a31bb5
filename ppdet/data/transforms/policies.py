"""Augmentation policies by name.

AutoAugment for detection: Zoph et al., arXiv:1906.11172. RandAugment: Cubuk et al., arXiv:1909.13719.
TrivialAugment: Mueller and Hutter, arXiv:2103.10158.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Optional

import numpy as np

from ppdet.config.ranges import Level, PositiveInt
from ppdet.data.transforms.base import Transform, pixels_hwc
from ppdet.data.transforms.policy_operations import (
    MAX_LEVEL,
    PlannedOperation,
    amount_of,
    run_operation,
)
from ppdet.structures import Sample

#: A policy: lists of operations of which one is drawn, each operation with probability and level.
Policy = Sequence[Sequence[tuple[str, float, float]]]

#: An operation on boxes is drawn for each box; this keeps the number of boxes that it changes low.
_SHARE_OF_BOXES = 1 / 3

_V1: Policy = (
    (("TranslateX_BBox", 0.6, 4), ("Equalize", 0.8, 10)),
    (("TranslateY_Only_BBoxes", 0.2, 2), ("Cutout", 0.8, 8)),
    (("Sharpness", 0.0, 8), ("ShearX_BBox", 0.4, 0)),
    (("ShearY_BBox", 1.0, 2), ("TranslateY_Only_BBoxes", 0.6, 6)),
    (("Rotate_BBox", 0.6, 10), ("Color", 1.0, 6)),
    (("Color", 0.0, 0), ("ShearX_Only_BBoxes", 0.8, 4)),
    (("ShearY_Only_BBoxes", 0.8, 2), ("Flip_Only_BBoxes", 0.0, 10)),
    (("Equalize", 0.6, 10), ("TranslateX_BBox", 0.2, 2)),
    (("Color", 1.0, 10), ("TranslateY_Only_BBoxes", 0.4, 6)),
    (("Rotate_BBox", 0.8, 10), ("Contrast", 0.0, 10)),
    (("Cutout", 0.2, 2), ("Brightness", 0.8, 10)),
    (("Color", 1.0, 6), ("Equalize", 1.0, 2)),
    (("Cutout_Only_BBoxes", 0.4, 6), ("TranslateY_Only_BBoxes", 0.8, 2)),
    (("Color", 0.2, 8), ("Rotate_BBox", 0.8, 10)),
    (("Sharpness", 0.4, 4), ("TranslateY_Only_BBoxes", 0.0, 4)),
    (("Sharpness", 1.0, 4), ("SolarizeAdd", 0.4, 4)),
    (("Rotate_BBox", 1.0, 8), ("Sharpness", 0.2, 8)),
    (("ShearY_BBox", 0.6, 10), ("Equalize_Only_BBoxes", 0.6, 8)),
    (("ShearX_BBox", 0.2, 6), ("TranslateY_Only_BBoxes", 0.2, 10)),
    (("SolarizeAdd", 0.6, 8), ("Brightness", 0.8, 10)),
)
_V2: Policy = (
    (("Color", 0.0, 6), ("Cutout", 0.6, 8), ("Sharpness", 0.4, 8)),
    (("Rotate_BBox", 0.4, 8), ("Sharpness", 0.4, 2), ("Rotate_BBox", 0.8, 10)),
    (("TranslateY_BBox", 1.0, 8), ("AutoContrast", 0.8, 2)),
    (("AutoContrast", 0.4, 6), ("ShearX_BBox", 0.8, 8), ("Brightness", 0.0, 10)),
    (("SolarizeAdd", 0.2, 6), ("Contrast", 0.0, 10), ("AutoContrast", 0.6, 0)),
    (("Cutout", 0.2, 0), ("Solarize", 0.8, 8), ("Color", 1.0, 4)),
    (("TranslateY_BBox", 0.0, 4), ("Equalize", 0.6, 8), ("Solarize", 0.0, 10)),
    (("TranslateY_BBox", 0.2, 2), ("ShearY_BBox", 0.8, 8), ("Rotate_BBox", 0.8, 8)),
    (("Cutout", 0.8, 8), ("Brightness", 0.8, 8), ("Cutout", 0.2, 2)),
    (("Color", 0.8, 4), ("TranslateY_BBox", 1.0, 6), ("Rotate_BBox", 0.6, 6)),
    (("Rotate_BBox", 0.6, 10), ("BBox_Cutout", 1.0, 4), ("Cutout", 0.2, 8)),
    (("Rotate_BBox", 0.0, 0), ("Equalize", 0.6, 6), ("ShearY_BBox", 0.6, 8)),
    (("Brightness", 0.8, 8), ("AutoContrast", 0.4, 2), ("Brightness", 0.2, 2)),
    (("TranslateY_BBox", 0.4, 8), ("Solarize", 0.4, 6), ("SolarizeAdd", 0.2, 10)),
    (("Contrast", 1.0, 10), ("SolarizeAdd", 0.2, 8), ("Equalize", 0.2, 4)),
)
_V3: Policy = (
    (("Posterize", 0.8, 2), ("TranslateX_BBox", 1.0, 8)),
    (("BBox_Cutout", 0.2, 10), ("Sharpness", 1.0, 8)),
    (("Rotate_BBox", 0.6, 8), ("Rotate_BBox", 0.8, 10)),
    (("Equalize", 0.8, 10), ("AutoContrast", 0.2, 10)),
    (("SolarizeAdd", 0.2, 2), ("TranslateY_BBox", 0.2, 8)),
    (("Sharpness", 0.0, 2), ("Color", 0.4, 8)),
    (("Equalize", 1.0, 8), ("TranslateY_BBox", 1.0, 8)),
    (("Posterize", 0.6, 2), ("Rotate_BBox", 0.0, 10)),
    (("AutoContrast", 0.6, 0), ("Rotate_BBox", 1.0, 6)),
    (("Equalize", 0.0, 4), ("Cutout", 0.8, 10)),
    (("Brightness", 1.0, 2), ("TranslateY_BBox", 1.0, 6)),
    (("Contrast", 0.0, 2), ("ShearY_BBox", 0.8, 0)),
    (("AutoContrast", 0.8, 10), ("Contrast", 0.2, 10)),
    (("Rotate_BBox", 1.0, 10), ("Cutout", 1.0, 10)),
    (("SolarizeAdd", 0.8, 6), ("Equalize", 0.8, 8)),
)
#: The published policies. v0 is that of the paper's appendix B, the first five lists of v1.
POLICIES: Mapping[str, Policy] = {"v0": _V1[:5], "v1": _V1, "v2": _V2, "v3": _V3}

#: What RandAugment and TrivialAugment draw from (table 6 and section 3 of their papers), beside "nothing".
UNIFORM = (
    "AutoContrast",
    "Equalize",
    "Rotate_BBox",
    "Solarize",
    "Color",
    "Posterize",
    "Contrast",
    "Brightness",
    "Sharpness",
    "ShearX_BBox",
    "ShearY_BBox",
    "TranslateX_BBox",
    "TranslateY_BBox",
)


class _PolicyTransform(Transform[tuple[PlannedOperation, ...]]):
    """Applies drawn operations one after the other."""

    def apply(self, sample: Sample, params: tuple[PlannedOperation, ...]) -> Sample:
        """Apply the operations to image, boxes and masks. The image keeps its dtype."""
        image = pixels_hwc(sample)
        if not params:
            return sample
        if image.dtype != np.uint8:
            sample = sample.replace(image=np.clip(image, 0, 255).astype(np.uint8))
        for planned in params:
            sample = run_operation(sample, planned)
        return sample.replace(image=np.ascontiguousarray(pixels_hwc(sample)).astype(image.dtype, copy=False))


class AutoAugment(_PolicyTransform):
    """One of the lists of operations of a policy that was learned on COCO.

    Distances are in pixels, as learned on images of 640 and more; on smaller ones they are in proportion.

    Args:
        autoaug_type: Name of the policy.
    """

    def __init__(self, *, autoaug_type: Literal["v0", "v1", "v2", "v3"] = "v1") -> None:
        self.policy = POLICIES[autoaug_type]

    def draw(self, sample: Sample, rng: np.random.Generator) -> tuple[PlannedOperation, ...]:
        """Draw a list, which of its operations are done, and directions."""
        del sample
        planned = []
        for name, prob, level in self.policy[int(rng.integers(len(self.policy)))]:
            share = prob * _SHARE_OF_BOXES if name.endswith("_Only_BBoxes") else 1.0
            done = share < 1 or rng.random() < prob
            amount, seed = amount_of(name, level, rng), int(rng.integers(2**32))
            if done:
                planned.append(PlannedOperation(name, amount, share, seed))
        return tuple(planned)


class RandAugment(_PolicyTransform):
    """A few operations drawn alike, all of one strength.

    Args:
        num_ops: Number of operations.
        magnitude: Strength, 0..10.
    """

    def __init__(self, *, num_ops: PositiveInt = 2, magnitude: Level = 5.0) -> None:
        self.num_ops = num_ops
        self.magnitude = magnitude

    def draw(self, sample: Sample, rng: np.random.Generator) -> tuple[PlannedOperation, ...]:
        """Draw operations and directions."""
        del sample
        drawn = (_draw_alike(self.magnitude, rng) for _ in range(self.num_ops))
        return tuple(planned for planned in drawn if planned is not None)


class TrivialAugment(_PolicyTransform):
    """One operation of a drawn strength."""

    def draw(self, sample: Sample, rng: np.random.Generator) -> tuple[PlannedOperation, ...]:
        """Draw the operation, its strength and direction."""
        del sample
        planned = _draw_alike(float(rng.uniform(0, MAX_LEVEL)), rng)
        return () if planned is None else (planned,)


def _draw_alike(strength: float, rng: np.random.Generator) -> Optional[PlannedOperation]:
    """One of `UNIFORM` and "nothing", whose effect grows with the strength 0..10, upwards or downwards."""
    index = int(rng.integers(len(UNIFORM) + 1))
    if index == len(UNIFORM):
        return None
    name = UNIFORM[index]
    level = strength
    if name == "Solarize":
        level = MAX_LEVEL - strength
    elif name in ("Color", "Contrast", "Brightness", "Sharpness"):  # which change nothing in the middle
        level = (MAX_LEVEL + (strength if rng.random() < 0.5 else -strength)) / 2
    return PlannedOperation(name, amount_of(name, level, rng), 1.0, int(rng.integers(2**32)))
