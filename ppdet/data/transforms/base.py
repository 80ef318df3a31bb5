"""Base classes of transforms: on one image, and on the images of a batch together.

Each has two methods: `draw` draws parameters at random, `apply` is a function of sample and parameters that
transforms image, boxes and masks together. So `apply` can be tested without randomness, and `draw` without
pixels.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, Optional, TypeVar, Union

import numpy as np

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import NonNegativeInt, PositiveInt
from ppdet.structures import Sample
from ppdet.utils.errors import DataError

P = TypeVar("P")


class Step(ABC):
    """Anything that may stand among the batch transforms.

    Attributes:
        epochs: (first, end) of the epochs from 0 in which it runs, `end` excluded. In a YAML, where any step
            takes the key, and when it is set, also one number: it runs in the first so many epochs.
        limited: Whether `epochs` was set.
        needs_partners: Number of further images that it takes from `Sample.partners`.
    """

    yaml_attributes: ClassVar[Mapping[str, Any]] = {
        "epochs": Union[PositiveInt, list[NonNegativeInt], None],
    }
    needs_partners: int = 0
    _epochs: Optional[tuple[int, float]] = None

    @property
    def epochs(self) -> tuple[int, float]:
        """As above."""
        return self._epochs or (0, math.inf)

    @epochs.setter
    def epochs(self, value: Union[int, Sequence[int], None]) -> None:
        if value is None:
            return
        limits = (0, value) if isinstance(value, int) else tuple(value)
        if len(limits) != 2 or not 0 <= limits[0] <= limits[1]:
            raise ArgumentError(
                "epochs", f"expected a number of epochs, or [first, end] counted from 0, got {value}"
            )
        self._epochs = limits

    @property
    def limited(self) -> bool:
        """As above."""
        return self._epochs is not None

    def runs_in(self, epoch: int) -> bool:
        """Whether it runs in an epoch, from 0."""
        first, end = self.epochs
        return first <= epoch < end

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
        """Draw and apply. Partners that are left are transformed too, each with a draw of its own."""
        done = self.apply(sample, self.draw(sample, rng))
        if done.partners:
            done = done.replace(partners=tuple(self(partner, rng) for partner in done.partners))
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


def filled(size: tuple[int, int], colour: Sequence[float], dtype: Any) -> np.ndarray:
    """An image ``[H, W, 3]`` of one colour; fractions are cut off where `dtype` has none."""
    # Filled row by row: a colour at a time is ten times as slow.
    canvas = np.empty((*size, 3), dtype)
    canvas.reshape(size[0], -1)[:] = np.tile(np.asarray(colour, np.float32).astype(dtype), size[1])
    return canvas


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
