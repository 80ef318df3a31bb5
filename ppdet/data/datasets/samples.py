"""Datasets from Python: a user's object or a plain sequence of samples takes the place of a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional, Protocol, Union

import numpy as np

from ppdet.data.category_tables import labels_of_ids
from ppdet.data.datasets.base import Dataset
from ppdet.structures import Categories, GroundTruth, Sample, Target
from ppdet.utils.errors import DataError


class Samples(Protocol):
    """What is required of an object that takes the place of a dataset: a length, and samples by index.

    A sample has an `image_id` of its own, a `path` or pixels (`image`), and a `target` unless it is for
    inference. With an attribute ``categories`` (`Categories`, or class names by label) the object can be
    trained on; without, its labels are those of the model that is evaluated.
    """

    def __len__(self) -> int:
        """Number of images."""

    def __getitem__(self, index: int, /) -> Sample:
        """Image `index` in 0..len-1; the same whenever it is asked for."""


class SampleDataset(Dataset):
    """A dataset over samples that an object holds or makes.

    Args:
        samples: The object.
        categories: Class names by label, or a category table.
        name: Name of the dataset, for messages.

    Raises:
        DataError: If it has no samples, or no classes. An item raises it when it is read: if it is not a
            `Sample`, or a label is not one of the classes.
    """

    def __init__(
        self, samples: Samples, categories: Union[Categories, Sequence[str]], *, name: str = "the dataset"
    ) -> None:
        if not isinstance(categories, Categories):
            categories = _categories(categories, name)
        if len(samples) == 0:
            raise DataError(f"{name} has no samples")
        self._samples = samples
        self._categories = categories
        self._name = name

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        sample = self._samples[index]
        if not isinstance(sample, Sample):
            kind = type(sample).__name__
            raise DataError(f"{self._name}[{index}]: expected a ppdet.Sample, got an object of type {kind}")
        if sample.target is not None:
            self._check(sample.target, f"{self._name}[{index}] ({sample.path})")
        return sample

    def _check(self, target: Target, place: str) -> None:
        outside = (target.labels < 0) | (target.labels >= len(self._categories))
        if outside.any():
            raise DataError(
                f"{place}: label {target.labels[outside][0]}; labels of {len(self._categories)} classes are "
                f"0 to {len(self._categories) - 1}"
            )
        finite = np.isfinite(target.boxes).all(axis=1)
        ordered = (target.boxes[:, 2:] >= target.boxes[:, :2]).all(axis=1)
        if not (finite & ordered).all():
            box = target.boxes[~(finite & ordered)][0].tolist()
            raise DataError(f"{place}: box {box}; expected x1, y1, x2, y2 in pixels with x1 <= x2, y1 <= y2")

    @property
    def categories(self) -> Categories:
        """The table that labels refer to."""
        return self._categories

    @property
    def has_masks(self) -> bool:
        """Whether the first sample has masks."""
        target = self._samples[0].target
        return target is not None and target.masks is not None


class _Relabelled(Dataset):
    """A dataset whose labels are changed to those of another table, by class name."""

    def __init__(self, dataset: Dataset, categories: Categories, name: str) -> None:
        own = dataset.categories
        label_of_id = labels_of_ids(own, categories, name)
        self._label_of_own = np.array([label_of_id[id_] for id_ in own.ids], np.int64)
        self._dataset = dataset
        self._categories = categories

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self._dataset[index]
        if sample.target is None:
            return sample
        labels = self._label_of_own[sample.target.labels]
        return sample.replace(target=sample.target.replace(labels=labels))

    @property
    def categories(self) -> Categories:
        """The other table."""
        return self._categories

    @property
    def has_masks(self) -> bool:
        """As of the dataset."""
        return self._dataset.has_masks

    def ground_truth(self, *, with_masks: bool = False) -> GroundTruth:
        """That of the dataset, with the labels of the other table."""
        return self._dataset.ground_truth(with_masks=with_masks).relabelled(
            self._label_of_own, self._categories.names
        )


def as_dataset(source: Any, *, name: str = "the dataset", categories: Optional[Categories] = None) -> Dataset:
    """Make a dataset of what a user provides.

    Args:
        source: A `Dataset`, or an object as `Samples` describes it: one of the user's own, or a list of
            samples.
        name: What messages call it.
        categories: The table that labels shall refer to. Classes are matched by name if `source` has class
            names of its own; labels are taken as they are if it has none. None takes the source's own.

    Raises:
        DataError: If something is missing; says what.
    """
    if not isinstance(source, Dataset):
        source = _wrapped(source, name, categories)
    if categories is None or source.categories.names == categories.names:
        dataset: Dataset = source
        return dataset
    return _Relabelled(source, categories, name)


def _wrapped(source: Any, name: str, categories: Optional[Categories]) -> SampleDataset:
    missing = [method for method in ("__len__", "__getitem__") if not hasattr(source, method)]
    if missing or isinstance(source, (str, bytes, dict, type)):
        lacks = f", which has no {' and no '.join(missing)}" if missing else ""
        raise DataError(
            f"{name}: expected a ppdet.Dataset or a sequence of ppdet.Sample, got {_kind(source)}{lacks}"
        )
    own = getattr(source, "categories", None)
    classes = own if own is not None else categories
    if classes is None:
        raise DataError(
            f"{name}: {_kind(source)} has no class names; give it an attribute `categories`, or pass "
            'ppdet.SampleDataset(samples, ["cat", "dog"])'
        )
    return SampleDataset(source, classes, name=name)


def _kind(source: Any) -> str:
    return f"the class {source.__name__}" if isinstance(source, type) else f"a {type(source).__name__}"


def _categories(names: Sequence[str], name: str) -> Categories:
    if isinstance(names, str) or not all(isinstance(n, str) for n in names) or not names:
        raise DataError(f'{name}: categories: expected class names by label, ["cat", "dog"], got {names!r}')
    try:
        return Categories.from_names(names)
    except ValueError as error:
        raise DataError(f"{name}: categories: {error}") from None
