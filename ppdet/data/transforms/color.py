"""Changes colours (the photometric distortion of Liu et al., "SSD", arXiv:1512.02325, section 2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import AnyFloat, Fraction, NonNegative, NonNegativeInt
from ppdet.data.transforms.base import Transform, pixels_hwc
from ppdet.structures import Sample

#: Weights of R, G, B in the brightness of a pixel (ITU-R BT.601).
_LUMA = np.array([0.299, 0.587, 0.114])
#: RGB to YIQ, the colour space of NTSC television, in which hue is an angle; and back.
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
_FROM_YIQ = np.array([[1.0, 0.956, 0.621], [1.0, -0.272, -0.647], [1.0, -1.107, 1.705]])


class DistortParams(NamedTuple):
    """Operations in order, each a name and an amount; and the order of the channels."""

    operations: tuple[tuple[str, float], ...]
    channels: tuple[int, int, int]


class RandomDistort(Transform[DistortParams]):
    """Changes hue, saturation, contrast and brightness, each now and then. The result is float32, not
    clipped.

    Each of the four is [low, high, prob] with an amount drawn in low..high. As in 2.x, `prob` is the
    probability of NOT doing it.

    Args:
        hue: Amount times pi is the angle in radians by which colours turn in YIQ.
        saturation: Amount is the share of colour that stays; 0 is gray, above 1 is more colourful.
        contrast: Amount is a factor on all values.
        brightness: Amount is added to all values (0..255).
        random_apply: Take the four in a drawn order, else in a fixed one, hue before or after contrast.
        count: With `random_apply`, only the first so many of the order.
        random_channel: Swap the channels in one of two images.
        prob: Probability of doing anything at all.
    """

    def __init__(
        self,
        *,
        hue: Sequence[AnyFloat] = (-18, 18, 0.5),
        saturation: Sequence[NonNegative] = (0.5, 1.5, 0.5),
        contrast: Sequence[NonNegative] = (0.5, 1.5, 0.5),
        brightness: Sequence[NonNegative] = (0.5, 1.5, 0.5),
        random_apply: bool = True,
        count: NonNegativeInt = 4,
        random_channel: bool = False,
        prob: Fraction = 1.0,
    ) -> None:
        self.ranges = {"hue": hue, "saturation": saturation, "contrast": contrast, "brightness": brightness}
        for name, values in self.ranges.items():
            if len(values) != 3 or values[0] > values[1] or not 0 <= values[2] <= 1:
                raise ArgumentError(name, f"expected [low, high, probability of doing nothing], got {values}")
        if not 0 <= prob <= 1:
            raise ArgumentError("prob", f"expected 0..1, got {prob}")
        self.prob = prob
        self.random_apply = random_apply
        self.count = count
        self.random_channel = random_channel

    def draw(self, sample: Sample, rng: np.random.Generator) -> DistortParams:
        """Draw which operations, their order and amounts."""
        del sample
        if self.prob < 1 and rng.random() >= self.prob:
            return DistortParams((), (0, 1, 2))
        if self.random_apply:
            order = [str(name) for name in rng.permutation(list(self.ranges))][: self.count]
        elif rng.random() < 0.5:
            order = ["brightness", "contrast", "saturation", "hue"]
        else:
            order = ["brightness", "saturation", "hue", "contrast"]
        operations = []
        for name in order:
            low, high, nothing = self.ranges[name]
            if rng.random() >= nothing:
                operations.append((name, float(rng.uniform(low, high))))
        channels = (0, 1, 2)
        if self.random_channel and rng.random() < 0.5:
            channels = tuple(int(c) for c in rng.permutation(3))  # type: ignore[assignment]  # has length 3
        return DistortParams(tuple(operations), channels)

    def apply(self, sample: Sample, params: DistortParams) -> Sample:
        """Apply the operations in order."""
        image = distort(pixels_hwc(sample), params.operations)
        if params.channels != (0, 1, 2):
            image = np.ascontiguousarray(image[..., list(params.channels)])
        return sample.replace(image=image)


def distort(image: np.ndarray, operations: Sequence[tuple[str, float]]) -> np.ndarray:
    """Operations on ``[H, W, 3]``, float32 if there are any; see `RandomDistort` for what the amounts mean.

    Each is an affine map of a pixel's colour, so all of them are one.
    """
    import cv2

    if not operations:
        return image
    matrix, offset = np.eye(3), np.zeros(3)
    for name, amount in operations:
        step, shift = _affine(name, amount)
        matrix, offset = step @ matrix, step @ offset + shift
    mapped: np.ndarray = cv2.transform(
        image.astype(np.float32, copy=False), np.column_stack([matrix, offset])
    )
    return mapped


def _affine(name: str, amount: float) -> tuple[np.ndarray, float]:
    """Matrix ``[3, 3]`` and shift of one operation."""
    if name == "hue":
        cos, sin = np.cos(amount * np.pi), np.sin(amount * np.pi)
        turn = np.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])
        return _FROM_YIQ @ turn @ _TO_YIQ, 0.0
    if name == "saturation":
        gray = np.tile(_LUMA, (3, 1))
        return gray + amount * (np.eye(3) - gray), 0.0
    if name == "contrast":
        return np.eye(3) * amount, 0.0
    return np.eye(3), amount
