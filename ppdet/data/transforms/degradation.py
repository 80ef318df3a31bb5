"""What cameras and files do to a picture: no colour, blur, noise, compression. Boxes and masks stay."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, Optional

import numpy as np

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import Fraction, NonNegative, Positive, PositiveInt
from ppdet.data.transforms.base import Transform, pixels_hwc
from ppdet.structures import Sample

_MOST_QUALITY = 100
#: As many as 16 bits tell apart; the farthest are 4.2 deviations from the mean.
_QUANTILES = 2**16


class RandomGrayscale(Transform[bool]):
    """Takes the colours away; the image keeps three channels.

    Args:
        prob: Probability of doing it.
    """

    def __init__(self, *, prob: Fraction = 0.2) -> None:
        self.prob = prob

    def draw(self, sample: Sample, rng: np.random.Generator) -> bool:
        """Whether to do it."""
        del sample
        return bool(rng.random() < self.prob)

    def apply(self, sample: Sample, params: bool) -> Sample:
        """Replace every channel by the brightness (ITU-R BT.601)."""
        if not params:
            return sample
        import cv2

        gray = cv2.cvtColor(pixels_hwc(sample), cv2.COLOR_RGB2GRAY)
        return sample.replace(image=cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB))


class RandomGaussianBlur(Transform[Optional[float]]):
    """Blurs.

    Args:
        prob: Probability of doing it.
        sigma: [low, high] standard deviation of the Gaussian, in pixels.
    """

    def __init__(self, *, prob: Fraction = 0.5, sigma: Sequence[Positive] = (0.1, 2.0)) -> None:
        self.prob = prob
        self.sigma = _range("sigma", sigma)

    def draw(self, sample: Sample, rng: np.random.Generator) -> Optional[float]:
        """Draw the deviation; None to leave the image as it is."""
        del sample
        return float(rng.uniform(*self.sigma)) if rng.random() < self.prob else None

    def apply(self, sample: Sample, params: Optional[float]) -> Sample:
        """Blur the image."""
        if params is None:
            return sample
        import cv2

        image = cv2.GaussianBlur(pixels_hwc(sample), (0, 0), params, borderType=cv2.BORDER_REFLECT_101)
        return sample.replace(image=image)


class NoiseParams(NamedTuple):
    """Standard deviation in 0..255, and the seed of the noise."""

    deviation: float
    seed: int


class RandomGaussianNoise(Transform[Optional[NoiseParams]]):
    """Adds noise, of its own at every pixel and channel.

    Args:
        prob: Probability of doing it.
        std: [low, high] standard deviation, of values in 0..255.
    """

    def __init__(self, *, prob: Fraction = 0.5, std: Sequence[NonNegative] = (2.0, 15.0)) -> None:
        self.prob = prob
        self.std = _range("std", std)

    def draw(self, sample: Sample, rng: np.random.Generator) -> Optional[NoiseParams]:
        """Draw the deviation; None to leave the image as it is."""
        del sample
        if rng.random() >= self.prob:
            return None
        return NoiseParams(float(rng.uniform(*self.std)), int(rng.integers(2**32)))

    def apply(self, sample: Sample, params: Optional[NoiseParams]) -> Sample:
        """Add noise; values stay in 0..255."""
        if params is None:
            return sample
        image = pixels_hwc(sample)
        # Numbers of a table, drawn alike: three times as fast as drawing from the distribution.
        rows = np.random.default_rng(params.seed).integers(0, _QUANTILES, image.shape, np.uint16)
        noisy = (_normal_quantiles() * np.float32(params.deviation))[rows]
        noisy += image
        np.clip(noisy, 0, 255, out=noisy)
        return sample.replace(image=np.round(noisy, out=noisy).astype(image.dtype))


class RandomJpegCompression(Transform[Optional[int]]):
    """Compresses as a JPEG file, and decodes.

    Args:
        prob: Probability of doing it.
        quality: [low, high] quality, 1..100.
    """

    def __init__(self, *, prob: Fraction = 0.5, quality: Sequence[PositiveInt] = (40, 95)) -> None:
        low, high = _range("quality", quality)
        if high > _MOST_QUALITY:
            raise ArgumentError("quality", f"expected at most {_MOST_QUALITY}, got {high}")
        self.prob = prob
        self.quality = (int(low), int(high))

    def draw(self, sample: Sample, rng: np.random.Generator) -> Optional[int]:
        """Draw the quality; None to leave the image as it is."""
        del sample
        return int(rng.integers(self.quality[0], self.quality[1] + 1)) if rng.random() < self.prob else None

    def apply(self, sample: Sample, params: Optional[int]) -> Sample:
        """Encode and decode the image."""
        if params is None:
            return sample
        import cv2

        image = pixels_hwc(sample)
        picture = cv2.cvtColor(np.clip(image, 0, 255).astype(np.uint8), cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, params])
        decoded: Any = cv2.imdecode(data, cv2.IMREAD_COLOR)
        return sample.replace(image=cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB).astype(image.dtype, copy=False))


@cache
def _normal_quantiles() -> np.ndarray:
    """Equally likely values of the standard normal distribution, ``[_QUANTILES]`` float32."""
    from scipy.special import ndtri

    values: np.ndarray = ndtri((np.arange(_QUANTILES) + 0.5) / _QUANTILES).astype(np.float32)
    return values


def _range(name: str, pair: Sequence[float]) -> tuple[float, float]:
    if len(pair) != 2 or pair[0] > pair[1]:
        raise ArgumentError(name, f"expected [low, high], got {list(pair)}")
    return pair[0], pair[1]
