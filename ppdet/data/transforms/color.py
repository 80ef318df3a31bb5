"""Changes colours (the photometric distortion of Liu et al., "SSD", arXiv:1512.02325, section 2.2).

By Pillow's rules, as 2.x does: on whole numbers of 0..255, in which results are cut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import AnyFloat, Fraction, NonNegative, NonNegativeInt
from ppdet.data.transforms.base import Transform, pixels_hwc
from ppdet.structures import Sample


class DistortParams(NamedTuple):
    """Operations in order, each a name and an amount; and the order of the channels."""

    operations: tuple[tuple[str, float], ...]
    channels: tuple[int, int, int]


class RandomDistort(Transform[DistortParams]):
    """Changes hue, saturation, contrast and brightness, each now and then. The result is float32.

    Each of the four is [low, high, prob] with an amount drawn in low..high. As in 2.x, `prob` is the
    probability of NOT doing it, while that of the whole transform is the probability of doing anything.

    Args:
        hue: Amount is added to the hue, of which 256 are a full turn.
        saturation: Amount is the share of colour that stays; 0 is gray, above 1 is more colourful.
        contrast: Amount is a factor on the distance to the mean gray of the image.
        brightness: Amount is a factor on all values.
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
    """Operations on ``[H, W, 3]`` RGB of 0..255, one after the other; see `RandomDistort` for their amounts.

    Returns:
        ``[H, W, 3]`` float32. Whole numbers if there is any operation.
    """
    if operations and image.dtype != np.uint8:
        image = np.clip(image, 0, 255).astype(np.uint8)
    for name, amount in operations:
        image = _OPERATIONS[name](image, amount)
    return image.astype(np.float32)


def _hue(image: np.ndarray, amount: float) -> np.ndarray:
    from PIL import Image

    turned = np.trunc(np.arange(256) + amount).astype(np.int64) % 256
    hsv = Image.fromarray(image).convert("HSV").point([*turned.tolist(), *range(256), *range(256)])
    return np.asarray(hsv.convert("RGB"))


def _saturation(image: np.ndarray, amount: float) -> np.ndarray:
    import cv2

    # There are 65,536 pairs of a gray and a value, fewer than a photograph has pixels: hence a table.
    levels = np.arange(256, dtype=np.float32)
    mixed = levels[:, None] + np.float32(amount) * (levels - levels[:, None])
    table = np.clip(mixed, 0, 255).astype(np.uint8)
    places = cv2.cvtColor(_gray(image), cv2.COLOR_GRAY2RGB).astype(np.uint16)
    places <<= 8
    places |= image
    return np.take(table, places)


def _contrast(image: np.ndarray, amount: float) -> np.ndarray:
    return _away_from(image, int(_gray(image).mean() + 0.5), amount)


def _brightness(image: np.ndarray, amount: float) -> np.ndarray:
    return _away_from(image, 0, amount)


_OPERATIONS: Mapping[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "hue": _hue,
    "saturation": _saturation,
    "contrast": _contrast,
    "brightness": _brightness,
}


def _gray(image: np.ndarray) -> np.ndarray:
    """Brightness of each pixel (ITU-R BT.601), ``[H, W]`` uint8, in Pillow's fixed-point arithmetic."""
    from PIL import Image

    return np.asarray(Image.fromarray(image).convert("L"))


def _away_from(image: np.ndarray, value: int, amount: float) -> np.ndarray:
    """Every value moved to `amount` times its distance from one value, cut to 0..255 and to whole numbers."""
    import cv2

    levels = value + np.float32(amount) * (np.arange(256, dtype=np.float32) - np.float32(value))
    return cv2.LUT(image, np.clip(levels, 0, 255).astype(np.uint8))
