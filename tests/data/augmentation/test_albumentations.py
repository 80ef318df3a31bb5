"""Protects that transforms of Albumentations get and give back every object, and that faults are told."""

from __future__ import annotations

import importlib.metadata
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppdet.config.errors import ArgumentError
from ppdet.data.transforms.albumentations import Albumentations
from ppdet.data.transforms.flip import RandomFlip
from ppdet.structures import Sample, Target
from ppdet.utils.errors import DataError
from ppdet.utils.packages import MissingPackageError
from tests.data.augmentation.scenes import check_target, rasterised, same, samples, scene
from tests.data.support import sample_of, target_of

PHOTO = np.random.default_rng(3).integers(0, 256, (40, 60, 3), np.uint8)
TRIANGLE = np.array([[12.0, 8.0], [50.0, 14.0], [22.0, 40.0]])
SPATIAL: list[Any] = [
    {"Affine": {"rotate": [-40, 40], "scale": [0.6, 1.4], "shear": [-10, 10], "p": 1.0}},
    {"RandomSizedCrop": {"min_max_height": [10, 12], "size": [24, 32], "p": 0.5}},
    {"OneOf": {"transforms": ["HorizontalFlip", {"Transpose": {"p": 1.0}}], "p": 0.7}},
    "CLAHE",
]


@settings(max_examples=50, deadline=None)
@given(sample=samples(), seed=st.integers(0, 2**32 - 1))
def test_any_object_comes_back_or_is_outside(sample: Sample, seed: int) -> None:
    transform = Albumentations(transforms=SPATIAL)
    done = transform(sample, np.random.default_rng(seed))
    check_target(done)
    assert same(done, transform(sample, np.random.default_rng(seed)))
    assert sample.target is not None
    assert done.target is not None
    kept = done.target.labels.tolist()
    np.testing.assert_array_equal(done.target.is_crowd, sample.target.is_crowd[kept])
    assert (done.target.masks is None) == (sample.target.masks is None)


@pytest.mark.parametrize("runs", [False, True])
@pytest.mark.parametrize("masks", [False, True])
def test_its_flip_is_ours(runs: bool, masks: bool) -> None:
    sample = scene([TRIANGLE], (56, 64), runs=runs, masks=masks)
    theirs = Albumentations(transforms=[{"HorizontalFlip": {"p": 1.0}}]).apply(sample, 0)
    ours = RandomFlip().apply(sample, True)
    np.testing.assert_array_equal(theirs.image, ours.image)
    assert theirs.target is not None
    assert ours.target is not None
    np.testing.assert_allclose(theirs.target.boxes, ours.target.boxes, atol=1.6 if masks else 1e-4)
    if masks:
        assert theirs.target.masks is not None
        assert ours.target.masks is not None
        pair = [rasterised(one.masks[0], (56, 64)) for one in (theirs.target, ours.target)]
        assert np.abs(pair[0] - pair[1]).mean() < 0.02


def test_masks_move_with_the_pixels() -> None:
    sample = scene([TRIANGLE], (56, 64))
    turn = Albumentations(transforms=[{"Affine": {"rotate": [30, 30], "p": 1.0}}])
    done = turn.apply(sample, 0)
    check_target(done)
    assert done.image is not None
    assert done.target is not None
    assert done.target.masks is not None
    white = done.image[..., 0] / 255
    assert np.abs(white - rasterised(done.target.masks[0], (56, 64))).mean() < 0.02


def test_pixel_transforms_leave_ground_truth_alone() -> None:
    sample = sample_of(PHOTO, target_of([[-3, 0, 20, 20]], (np.zeros((0,)),)))
    steps: list[Any] = [{"GaussNoise": {"p": 1.0}}, {"OneOf": {"transforms": ["CLAHE", "Blur"], "p": 1.0}}]
    done = Albumentations(transforms=steps).apply(sample, 1)
    assert done.target is sample.target
    assert not np.array_equal(done.image, PHOTO)
    floats = Albumentations(transforms=steps).apply(sample_of(PHOTO.astype(np.float32)), 1)
    assert floats.image is not None
    assert floats.image.dtype == np.float32
    np.testing.assert_array_equal(floats.image, done.image)


def test_images_without_objects_and_without_ground_truth_go_through() -> None:
    transform = Albumentations(transforms=SPATIAL)
    for target in (None, Target.empty(), Target.empty(with_masks=True)):
        done = transform(sample_of(PHOTO, target), np.random.default_rng(0))
        assert (done.target is None) == (target is None)


def test_a_worker_can_be_sent_one() -> None:
    transform = Albumentations(transforms=SPATIAL)
    sample = scene([TRIANGLE], (56, 64))
    assert same(pickle.loads(pickle.dumps(transform)).apply(sample, 5), transform.apply(sample, 5))


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        (["HorizontalFlp"], "has no transform HorizontalFlp; did you mean 'HorizontalFlip'"),
        (["os"], "has no transform os"),
        ([{"CLAHE": {"clip": 3}}], "CLAHE: .*'clip'"),
        ([{"CLAHE": {"clip_limit": "x"}}], "CLAHE: .*clip_limit"),
        ([{"CLAHE": {}, "Blur": {}}], "expected Name"),
        ([{"OneOf": {"transforms": ["Blurr"]}}], "did you mean 'Blur'"),
    ],
)
def test_faults_are_named(transforms: list[Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Albumentations(transforms=transforms)


def test_what_does_not_fit_the_pipeline_is_told() -> None:
    with pytest.raises(DataError, match="NormalizeImage and Permute"):
        Albumentations(transforms=["Normalize"]).apply(sample_of(PHOTO), 0)


def test_an_object_in_parts_is_told() -> None:
    shuffle = Albumentations(transforms=[{"RandomGridShuffle": {"grid": [3, 3], "p": 1.0}}])
    with pytest.raises(DataError, match="for 1 objects; leave out"):
        for seed in range(20):
            shuffle.apply(scene([TRIANGLE], (56, 64)), seed)


def test_a_transform_that_needs_other_inputs_is_told() -> None:
    with pytest.raises(
        DataError, match=r"made\.jpg: Albumentations failed: ValueError: MaskDropout requires"
    ):
        Albumentations(transforms=[{"MaskDropout": {"p": 1.0}}]).apply(scene([TRIANGLE], (56, 64)), 0)


def test_advice_of_the_package_is_no_error() -> None:
    with pytest.warns(UserWarning, match="special case"):
        Albumentations(transforms=["ShiftScaleRotate"])


def test_a_box_that_does_not_follow_its_mask_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    transform = Albumentations(transforms=["HorizontalFlip"])
    right = transform._compose

    def wrong(**given: Any) -> dict[str, Any]:
        return {**given, "masks": [np.roll(mask, 12, axis=1) for mask in given["masks"]]}

    wrong.set_random_seed = right.set_random_seed  # type: ignore[attr-defined]  # a stand-in
    monkeypatch.setattr(transform, "_compose", wrong)
    with pytest.raises(DataError, match="moved the box of object 0"):
        transform.apply(scene([TRIANGLE], (56, 64)), 0)


@pytest.mark.parametrize(
    ("size", "polygon", "seed"),
    [((20, 14), [[3, 12], [13, 12], [13, 17]], 3590), ((27, 40), [[4, 1], [15, 1], [15, 12]], 12944)],
)
def test_a_mask_that_a_small_crop_enlarges_may_reach_out_of_its_box(
    size: tuple[int, int], polygon: list[list[int]], seed: int
) -> None:
    done = Albumentations(transforms=SPATIAL).apply(scene([np.array(polygon, float)], size), seed)
    check_target(done)
    assert done.target is not None
    assert len(done.target) == 1


def test_the_package_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ppdet.utils.packages.find_spec", lambda asked: None)
    with pytest.raises(MissingPackageError, match=r"ppdet\[albumentations\]"):
        Albumentations(transforms=["CLAHE"])


def test_its_successor_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.5.1")
    with pytest.raises(DataError, match="AGPL"):
        Albumentations(transforms=["CLAHE"])
