"""Padding images of a batch to a common size."""

from __future__ import annotations

import numpy as np

from ppdet.data.transforms.base import BatchTransform, pixels
from ppdet.structures import Sample


class PadBatch(BatchTransform[None]):
    """Pads images ``[3, H, W]`` with zeros at the right and bottom to the largest height and width of the
    batch.

    Args:
        pad_to_stride: Then up to a multiple of this many pixels; <= 0 for none.
    """

    def __init__(self, *, pad_to_stride: int = 0) -> None:
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
