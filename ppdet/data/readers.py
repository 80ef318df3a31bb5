"""Readers: how a dataset becomes batches, in the vocabulary of 2.x."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Optional, TypeVar

import numpy as np

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import IntFromMinusOne, PositiveInt
from ppdet.config.spec import Spec
from ppdet.data.datasets.base import Dataset
from ppdet.data.finish import Parts, parts_of
from ppdet.data.loader import Loader
from ppdet.data.sampler import Sampler
from ppdet.data.source import BatchSource
from ppdet.data.transforms.base import Step, Transform
from ppdet.data.transforms.mixup import Mixup
from ppdet.data.transforms.mosaic import Mosaic
from ppdet.utils.errors import DataError

S = TypeVar("S", bound=Step)


class Reader:
    """What the three readers have in common.

    Args:
        sample_transforms: Steps on each image, in order.
        batch_transforms: Steps on the images of a batch, in order; steps on single images may be among them.
        batch_size: Images per batch and process.
        shuffle: Draw a new order for every epoch.
        drop_last: Leave out images that do not fill a batch.
        skip_corrupt: Count and log image files that cannot be read instead of stopping. Training takes
            another image in their place; evaluation goes on without them.
    """

    #: Whether ranks must have equally many batches, at the price of a few images twice.
    _training = False

    def __init__(
        self,
        *,
        sample_transforms: list[Spec[Transform]],
        batch_transforms: Optional[list[Spec[Step]]] = None,
        batch_size: PositiveInt = 1,
        shuffle: bool = False,
        drop_last: bool = False,
        skip_corrupt: bool = False,
    ) -> None:
        if batch_size < 1:
            raise DataError(f"batch_size {batch_size}: it must be 1 or more")
        self.batch_size = batch_size
        self.sample_transforms = [spec.build() for spec in sample_transforms]
        self.batch_transforms = [spec.build() for spec in batch_transforms or ()]
        self._shuffle = shuffle
        self._drop_last = drop_last
        self.skips_corrupt = skip_corrupt
        if not self._training:
            _without_epochs([*self.sample_transforms, *self.batch_transforms])
        self._by_aspect_ratio = False

    @property
    def parts(self) -> Parts:
        """The transforms by where they run."""
        return parts_of(self.sample_transforms, self.batch_transforms)

    def find(self, kind: type[S]) -> Iterator[S]:
        """The transforms of one class, e.g. to check what they state against the model."""
        for step in (*self.sample_transforms, *self.batch_transforms):
            if isinstance(step, kind):
                yield step

    def loader(
        self,
        dataset: Dataset,
        *,
        seed: int,
        num_workers: int,
        rank: int = 0,
        world_size: int = 1,
        with_masks: bool = False,
    ) -> Loader:
        """Batches of a dataset for one process.

        Args:
            dataset: Where images come from.
            seed: Fixes order and draws. Batches are identical for any number of workers.
            num_workers: Processes that load; 0 loads in this one.
            rank: This process among `world_size` that share the dataset.
            world_size: Number of processes. In evaluation every image occurs exactly once over all of them.
            with_masks: Whether the model needs masks.

        Raises:
            DataError: If there are too few images for a batch, or no masks where they are needed.
        """
        if with_masks and not dataset.has_masks:
            raise DataError(
                "the model trains on masks, but the dataset has none. Add gt_poly to data_fields of the "
                "dataset; its annotations need a segmentation for every object"
            )
        if len(dataset) == 0:
            raise DataError("the dataset has no images")
        sampler = Sampler(
            length=len(dataset),
            batch_size=self.batch_size,
            seed=seed,
            shuffle=self._shuffle,
            drop_last=self._drop_last,
            even=self._training,
            rank=rank,
            world_size=world_size,
            groups=orientations(dataset) if self._by_aspect_ratio else None,
        )
        if self._training and len(sampler) == 0:
            raise DataError(
                f"{len(dataset)} images do not fill one batch of {self.batch_size} x {world_size} processes. "
                "Make batch_size smaller, or set drop_last: false"
            )
        source = BatchSource(
            dataset=dataset,
            parts=self.parts,
            seed=seed,
            with_masks=with_masks,
            skip_corrupt=self.skips_corrupt,
            replace_corrupt=self._training,
        )
        return Loader(source, sampler, num_workers=num_workers, endless=self._training)


class TrainReader(Reader):
    """Batches for training.

    Args:
        sample_transforms: As in `Reader`.
        batch_transforms: As in `Reader`.
        batch_size: As in `Reader`.
        shuffle: As in `Reader`.
        drop_last: As in `Reader`.
        skip_corrupt: As in `Reader`.
        mixup_epoch: `Mixup` runs in the first so many epochs; 0 for always, -1 for never. The key `epochs` of
            the transform says the same.
        mosaic_epoch: The same of `Mosaic`.
        group_by_aspect_ratio: Put wide images into batches of their own, and tall ones too, so that less of a
            batch is padding. Changes which images meet in a batch.
    """

    _training = True

    def __init__(
        self,
        *,
        sample_transforms: list[Spec[Transform]],
        batch_transforms: Optional[list[Spec[Step]]] = None,
        batch_size: PositiveInt = 1,
        shuffle: bool = True,
        drop_last: bool = True,
        skip_corrupt: bool = False,
        mixup_epoch: IntFromMinusOne = -1,
        mosaic_epoch: IntFromMinusOne = 0,
        group_by_aspect_ratio: bool = False,
    ) -> None:
        super().__init__(
            sample_transforms=sample_transforms,
            batch_transforms=batch_transforms,
            batch_size=batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            skip_corrupt=skip_corrupt,
        )
        for mixup in self.find(Mixup):
            _limit(mixup, mixup_epoch, "mixup_epoch", default=-1)
        for mosaic in self.find(Mosaic):
            _limit(mosaic, mosaic_epoch, "mosaic_epoch", default=0)
        self._by_aspect_ratio = group_by_aspect_ratio


class EvalReader(Reader):
    """Batches for evaluation: every image once, in the order of the dataset. Keys as in `Reader`."""


class TestReader(Reader):
    """Batches for inference. Keys as in `Reader`."""

    __test__ = False  # pytest takes every class named Test... for a test


def _limit(step: Step, epochs: int, key: str, *, default: int) -> None:
    """Give a step the limit that a key of its reader states in the manner of 2.x."""
    if step.limited:
        if epochs != default:
            raise ArgumentError(key, f"{type(step).__name__} has the key epochs too; remove one of them")
    elif epochs != 0:
        step.epochs = (0, max(epochs, 0))


def _without_epochs(steps: Sequence[Step]) -> None:
    """Check the steps of a reader that knows no epochs and gives no partners."""
    for step in steps:
        if step.limited:
            name = type(step).__name__
            raise DataError(f"{name} has the key epochs, which only a TrainReader counts; remove it")
        if step.needs_partners:
            step.epochs = (0, 0)


def orientations(dataset: Dataset) -> np.ndarray:
    """Whether each image is wider than tall, ``[I]`` of 0 and 1.

    Raises:
        DataError: If the dataset does not know the sizes of its images.
    """
    sizes = dataset.sizes
    if sizes is None or not sizes.all():
        missing = "all" if sizes is None else int((sizes == 0).any(axis=1).sum())
        raise DataError(
            f"group_by_aspect_ratio needs the size of every image in the annotations; {missing} of "
            f"{len(dataset)} have none. Set it to false"
        )
    wider: np.ndarray = (sizes[:, 1] > sizes[:, 0]).astype(np.int64)
    return wider
