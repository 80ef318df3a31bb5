"""Assigns images to batches, as a function of seed, epoch and position alone; there is no state.

So an epoch can be resumed at any batch, a worker needs only the indices, and N ranks with batches of B
process the same images in a step as one rank with batches of N * B.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

import numpy as np

#: Streams of randomness that must not meet: entropy is (seed, stream, epoch, index).
_ORDER, _SAMPLE, _BATCH = 0, 1, 2


@dataclass(frozen=True)
class BatchPlan:
    """One batch, with everything that a worker needs.

    Attributes:
        epoch: Number of the epoch, from 0.
        index: Number of the batch within the epoch and rank, from 0.
        positions: Places of its images in the epoch's global order.
        images: Indices into the dataset.
    """

    epoch: int
    index: int
    positions: tuple[int, ...]
    images: tuple[int, ...]


@dataclass(frozen=True)
class Sampler:
    """Batches of one rank.

    Attributes:
        length: Images in the dataset, > 0.
        batch_size: Images per batch and rank.
        seed: Seed of the order and of all draws.
        shuffle: Draw a new order for every epoch.
        drop_last: Leave out the images that do not fill a batch on every rank.
        even: Give every rank equally many full batches by repeating images from the start of the order
            (training: ranks wait for each other). Otherwise each image occurs once, on one rank (evaluation).
        rank: This process, 0..world_size-1.
        world_size: Number of processes.
        groups: ``[length]`` number of the group of every image: batches keep to one group, but for the last
            batches of an epoch, which hold what is left of each. None for no groups.
    """

    length: int
    batch_size: int
    seed: int
    shuffle: bool
    drop_last: bool
    even: bool
    rank: int = 0
    world_size: int = 1
    groups: Optional[np.ndarray] = None

    def __post_init__(self) -> None:
        if self.length < 1 or self.batch_size < 1:
            raise ValueError(f"{self.length} images in batches of {self.batch_size}: both must be 1 or more")
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank {self.rank} of {self.world_size}")

    def __len__(self) -> int:
        """Batches per epoch on this rank."""
        step = self.batch_size * self.world_size
        if self.drop_last:
            return self.length // step
        if self.even:
            return -(-self.length // step)
        full, rest = divmod(self.length, step)
        return full + (1 if rest > self.rank * self.batch_size else 0)

    def order(self, epoch: int) -> np.ndarray:
        """Image at every position of an epoch, ``[length]`` int64; the same on all ranks."""
        order = np.arange(self.length)
        if self.shuffle:
            order = np.random.default_rng([self.seed, _ORDER, epoch]).permutation(self.length)
        return order if self.groups is None else _grouped(order, self.groups[order], self.batch_size)

    def batches(self, epoch: int, first: int = 0) -> Iterator[BatchPlan]:
        """Batches of an epoch, from number `first` on."""
        order = self.order(epoch)
        for index in range(first, len(self)):
            start = (index * self.world_size + self.rank) * self.batch_size
            positions = range(start, start + self.batch_size)
            if not self.even:
                positions = range(start, min(start + self.batch_size, self.length))
            yield BatchPlan(
                epoch, index, tuple(positions), tuple(int(order[p % self.length]) for p in positions)
            )


def _grouped(order: np.ndarray, groups: np.ndarray, batch_size: int) -> np.ndarray:
    """An order whose batches keep to one group each, the batch whose images are complete first coming first.

    Args:
        order: ``[length]`` images.
        groups: ``[length]`` group of each.
        batch_size: Images per batch.
    """
    full: list[np.ndarray] = []
    left: list[np.ndarray] = []
    for group in np.unique(groups):
        places = np.flatnonzero(groups == group)
        whole = len(places) // batch_size * batch_size
        full += list(places[:whole].reshape(-1, batch_size))
        left.append(places[whole:])
    full.sort(key=lambda batch: int(batch[-1]))
    arranged: np.ndarray = order[np.concatenate([*full, np.sort(np.concatenate(left))])]
    return arranged


def sample_rng(seed: int, epoch: int, position: int) -> np.random.Generator:
    """Randomness of one image in one epoch, the same for any number of workers and ranks."""
    return np.random.default_rng([seed, _SAMPLE, epoch, position])


def batch_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Randomness of one batch, shared by the ranks, so that all of them train at the same size."""
    return np.random.default_rng([seed, _BATCH, epoch, index])
