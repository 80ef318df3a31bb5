"""Base classes of transforms: on one image, and on the images of a batch together.

Each has two methods: `draw` draws parameters at random, `apply` is a function of sample and parameters that
transforms image, boxes and masks together. So `apply` can be tested without randomness, and `draw` without
pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import numpy as np

from ppdet.structures import Sample
from ppdet.utils.errors import DataError

P = TypeVar("P")


class Step(ABC):
    """Anything that may stand among the batch transforms."""

    @abstractmethod
    def run(self, samples: list[Sample], rng: np.random.Generator) -> list[Sample]:
        """Transform the samples of a batch."""


class Transform(Step, Generic[P]):
    """A step on one image. `P` is what it draws; None if nothing."""

    def draw(self, sample: Sample, rng: np.random.Generator) -> P:
        """Draw the parameters. The default draws nothing."""
        del sample, rng
        return None  # type: ignore[return-value]  # P is None in every subclass that does not override this

    @abstractmethod
    def apply(self, sample: Sample, params: P) -> Sample:
        """Apply parameters to image, boxes and masks. Deterministic; leaves `sample` as it is."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Draw and apply. The second image of a mixup pair is transformed too, with a draw of its own."""
        done = self.apply(sample, self.draw(sample, rng))
        if sample.mixup_with is not None and done.mixup_with is not None:
            done = done.replace(mixup_with=self(sample.mixup_with, rng))
        return done

    def run(self, samples: list[Sample], rng: np.random.Generator) -> list[Sample]:
        """Transform every sample with a draw of its own."""
        return [self(sample, rng) for sample in samples]


class BatchTransform(Step, Generic[P]):
    """A step on all images of a batch, with one draw for all of them."""

    def draw(self, samples: list[Sample], rng: np.random.Generator) -> P:
        """Draw the parameters of the batch. The default draws nothing."""
        del samples, rng
        return None  # type: ignore[return-value]  # P is None in every subclass that does not override this

    @abstractmethod
    def apply(self, samples: list[Sample], params: P) -> list[Sample]:
        """Apply parameters to every sample. Deterministic."""

    def run(self, samples: list[Sample], rng: np.random.Generator) -> list[Sample]:
        """Draw once and apply to all."""
        return self.apply(samples, self.draw(samples, rng))


def pixels(sample: Sample) -> np.ndarray:
    """The image of a sample.

    Raises:
        DataError: If it is not decoded yet.
    """
    if sample.image is None:
        raise DataError(f"{sample.path}: not decoded; put Decode first in sample_transforms")
    return sample.image


def pixels_hwc(sample: Sample) -> np.ndarray:
    """The image of a sample as ``[H, W, 3]``.

    Raises:
        DataError: If it is not decoded yet, or already permuted.
    """
    image = pixels(sample)
    if image.shape[2] != 3:
        raise DataError(
            f"{sample.path}: image of shape {image.shape}; Permute must come after this transform"
        )
    return image
