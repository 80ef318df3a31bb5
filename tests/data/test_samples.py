"""Protects datasets from Python: what is required of them, and what is said where it is missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ppdet.data.datasets.samples import SampleDataset, as_dataset
from ppdet.structures import Categories, Sample, Target
from ppdet.utils.errors import DataError


def sample(image_id: int, *labels: int, **changes: Any) -> Sample:
    boxes = np.tile(np.array([[2, 3, 20, 30]], np.float32), (len(labels), 1))
    target = Target(boxes, np.array(labels, np.int64), np.zeros(len(labels), bool))
    return Sample(**{"image_id": image_id, "path": f"{image_id}.jpg", "target": target, **changes})


class Own:
    """A user's dataset that derives from nothing."""

    categories = ("cat", "dog")

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Sample:
        return sample(index, index % 2)


def labels_of(dataset: Any) -> list[list[int]]:
    return [dataset[i].target.labels.tolist() for i in range(len(dataset))]


def test_an_object_of_a_users_own_class() -> None:
    dataset = as_dataset(Own())
    assert dataset.categories == Categories.from_names(["cat", "dog"])
    assert labels_of(dataset) == [[0], [1], [0]]
    assert not dataset.has_masks


def test_classes_are_matched_by_name_in_samples_and_truth() -> None:
    shared = Categories.from_names(["ant", "dog", "cat"])
    dataset = as_dataset(Own(), categories=shared)
    assert dataset.categories == shared
    assert labels_of(dataset) == [[2], [1], [2]]
    truth = dataset.ground_truth()
    assert [image.labels.tolist() for image in truth.images] == [[2], [1], [2]]
    assert truth.class_names == shared.names
    assert truth.category_ids == (None, 2, 1)  # those of the object's own table
    with pytest.raises(DataError, match="'cat'"):
        as_dataset(Own(), categories=Categories.from_names(["dog"]))


def test_a_list_takes_the_classes_that_are_given() -> None:
    shared = Categories.from_names(["cat", "dog"])
    samples = [sample(4, 1), sample(5)]
    assert labels_of(as_dataset(samples, categories=shared)) == [[1], []]
    assert labels_of(SampleDataset(samples, ["cat", "dog"])) == [[1], []]
    with pytest.raises(DataError, match=r"train: a list has no class names; .*ppdet\.SampleDataset"):
        as_dataset(samples, name="train")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (3, "val: expected a ppdet.Dataset or a sequence of ppdet.Sample, got a int, which has no __len__"),
        (Own, "got the class Own"),
        ("folder", "got a str"),
        ([], "val has no samples"),
    ],
)
def test_what_is_no_dataset(source: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        as_dataset(source, name="val", categories=Categories.from_names(["cat"]))


@pytest.mark.parametrize("names", ["cat", [], ["cat", "cat"], [1, 2]])
def test_class_names_that_are_none(names: Any) -> None:
    with pytest.raises(DataError, match="categories: "):
        SampleDataset([sample(0)], names)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("1.jpg", r"val\[0\]: expected a ppdet\.Sample, got an object of type str"),
        (sample(7, 2), r"val\[0\] \(7\.jpg\): label 2; labels of 2 classes are 0 to 1"),
        (sample(7, -1), "label -1"),
        (
            sample(7, target=Target(np.array([[9, 3, 2, 8.0]]), np.zeros(1, np.int64), np.zeros(1, bool))),
            r"box \[9\.0, 3\.0, 2\.0, 8\.0\]; expected x1, y1, x2, y2",
        ),
        (
            sample(7, target=Target(np.array([[0, 0, np.nan, 8]]), np.zeros(1, np.int64), np.zeros(1, bool))),
            "box .*nan",
        ),
    ],
)
def test_items_are_checked_when_they_are_read(item: Any, words: str) -> None:
    dataset = SampleDataset([item], ["cat", "dog"], name="val")
    with pytest.raises(DataError, match=words):
        dataset[0]


def test_indices_beyond_the_end() -> None:
    dataset = SampleDataset([sample(0)], ["cat"])
    with pytest.raises(IndexError):
        dataset[1]
    assert len(list(dataset)) == 1  # iteration ends there
