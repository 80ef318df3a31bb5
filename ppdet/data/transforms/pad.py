"""Padding images, one by one or those of a batch to a common size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import numpy as np

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import Colour, IntFromMinusOne, PositiveInt
from ppdet.data.transforms.base import BatchTransform, Transform, filled, pixels, pixels_hwc
from ppdet.data.transforms.resize import Size, as_size
from ppdet.structures import Sample
from ppdet.utils.errors import DataError


class Pad(Transform[None]):
    """Pads an image ``[H, W, 3]`` at the right and bottom with a colour; sizes and boxes stay.

    Args:
        size: (height, width) in pixels, or one number for both; None pads to a multiple of `size_divisor`.
        size_divisor: Both sides become a multiple of this where `size` is None.
        fill_value: Colour of the padding, RGB.

    Raises:
        ValueError: If a value is out of range.
    """

    def __init__(
        self,
        *,
        size: Optional[Size] = None,
        size_divisor: PositiveInt = 32,
        fill_value: Sequence[Colour] = (127.5, 127.5, 127.5),
    ) -> None:
        if size_divisor < 1:
            raise ArgumentError("size_divisor", f"expected 1 or more, got {size_divisor}")
        if len(fill_value) != 3:
            raise ArgumentError("fill_value", f"expected a colour (R, G, B), got {list(fill_value)}")
        self.size = None if size is None else as_size(size, "size")
        self.size_divisor = size_divisor
        self.fill_value = fill_value

    def apply(self, sample: Sample, params: None) -> Sample:
        """Pad the image.

        Raises:
            DataError: If the image is larger than `size`.
        """
        del params
        image = pixels_hwc(sample)
        (height, width), step = image.shape[:2], self.size_divisor
        full = self.size or (-(-height // step) * step, -(-width // step) * step)
        if height > full[0] or width > full[1]:
            raise DataError(
                f"{sample.path}: an image of {height}x{width} is larger than Pad.size {full[0]}x{full[1]}; "
                "put a Resize with keep_ratio before it"
            )
        canvas = filled(full, self.fill_value, image.dtype)
        canvas[:height, :width] = image
        return sample.replace(image=canvas)


class PadBatch(BatchTransform[None]):
    """Pads images ``[3, H, W]`` with zeros at the right and bottom to the largest height and width of the
    batch.

    Args:
        pad_to_stride: Then up to a multiple of this many pixels; <= 0 for none.
    """

    def __init__(self, *, pad_to_stride: IntFromMinusOne = 0) -> None:
        self.pad_to_stride = pad_to_stride

    def size_of(self, sizes: list[tuple[int, int]]) -> tuple[int, int]:
        """Common (height, width) of images of these sizes."""
        height, width = (max(side) for side in zip(*sizes))
        stride = max(self.pad_to_stride, 1)
        return -(-height // stride) * stride, -(-width // stride) * stride

    def apply(self, samples: list[Sample], params: None) -> list[Sample]:
        """Pad every image; sizes and boxes stay."""
        del params
        images = [pixels(sample) for sample in samples]
        height, width = self.size_of([(image.shape[1], image.shape[2]) for image in images])
        padded = []
        for sample, image in zip(samples, images):
            if image.shape[1:] != (height, width):
                canvas = np.zeros((image.shape[0], height, width), image.dtype)
                canvas[:, : image.shape[1], : image.shape[2]] = image
                image = canvas
            padded.append(sample.replace(image=image))
        return padded
