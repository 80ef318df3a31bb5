"""From bytes to what a backbone takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import AnyFloat, Positive
from ppdet.data.transforms.base import Transform, pixels, pixels_hwc
from ppdet.structures import Sample

_FULL_SCALE = 255.0


class NormalizeImage(Transform[None]):
    """Pixel values to (x - mean) / std, float32.

    Args:
        mean: Of R, G, B, in 0..1 if `is_scale`, else in 0..255.
        std: Of R, G, B, in the same unit.
        is_scale: Divide by 255 first.
        norm_type: ``mean_std``, or ``none`` for the division by 255 alone.
    """

    def __init__(
        self,
        *,
        mean: Sequence[AnyFloat] = (0.485, 0.456, 0.406),
        std: Sequence[Positive] = (0.229, 0.224, 0.225),
        is_scale: bool = True,
        norm_type: str = "mean_std",
    ) -> None:
        if norm_type not in ("mean_std", "none"):
            raise ArgumentError("norm_type", f"expected mean_std or none, got {norm_type!r}")
        if len(mean) != 3:
            raise ArgumentError("mean", f"expected three numbers, got {mean}")
        if len(std) != 3 or min(std) <= 0:
            raise ArgumentError("std", f"expected three numbers > 0, got {std}")
        plain = norm_type == "none"
        self.mean = np.zeros(3, np.float32) if plain else np.array(mean, np.float32)
        self.std = np.ones(3, np.float32) if plain else np.array(std, np.float32)
        self.scale = np.float32(1 / _FULL_SCALE if is_scale else 1)
        # Bytes have 256 values: looking them up is four times as fast as the arithmetic, and gives the same
        # bits.
        self._table = self._normalize(np.arange(256, dtype=np.float32)[:, None].repeat(3, axis=1))[None]

    def _normalize(self, image: np.ndarray) -> np.ndarray:
        result: np.ndarray = (image * self.scale - self.mean) / self.std
        return result

    def apply(self, sample: Sample, params: None) -> Sample:
        """Normalise the image."""
        import cv2

        del params
        image = pixels_hwc(sample)
        if image.dtype == np.uint8:
            return sample.replace(image=cv2.LUT(image, self._table))
        return sample.replace(image=self._normalize(image.astype(np.float32)))

    def to_planes(self, image: np.ndarray, planes: np.ndarray) -> None:
        """Normalise and permute at once.

        Args:
            image: ``[H, W, 3]`` uint8 or float32.
            planes: ``[3, H, W]`` float32; receives what `apply` and then `Permute` give, bit for bit.
        """
        import cv2

        for channel, (values, plane) in enumerate(zip(cv2.split(image), planes)):
            if image.dtype == np.uint8:
                cv2.LUT(values, self._table[:, :, channel], dst=plane)
            else:
                np.multiply(values, self.scale, out=plane)
                plane -= self.mean[channel]
                plane /= self.std[channel]


class Permute(Transform[None]):
    """``[H, W, 3]`` to ``[3, H, W]`` float32."""

    def apply(self, sample: Sample, params: None) -> Sample:
        """Permute the image."""
        del params
        return sample.replace(image=np.ascontiguousarray(pixels(sample).transpose(2, 0, 1), np.float32))
