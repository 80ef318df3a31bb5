"""Protects that transforms of pixels do what they say, keep the dtype, and leave boxes and masks alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppdet.config.errors import ArgumentError
from ppdet.data.transforms.base import Transform
from ppdet.data.transforms.degradation import (
    NoiseParams,
    RandomGaussianBlur,
    RandomGaussianNoise,
    RandomGrayscale,
    RandomJpegCompression,
)
from ppdet.data.transforms.erasing import RandomErasingImage
from ppdet.structures import Sample, Target
from tests.data.augmentation.scenes import same, samples, scene
from tests.data.support import sample_of, target_of

PHOTO = np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8)
TRANSFORMS: list[Transform[Any]] = [
    RandomErasingImage(prob=1.0),
    RandomGrayscale(prob=1.0),
    RandomGaussianBlur(prob=1.0),
    RandomGaussianNoise(prob=1.0),
    RandomJpegCompression(prob=1.0),
]
by_name = pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: type(t).__name__)


@by_name
@settings(max_examples=30, deadline=None)
@given(sample=samples(), seed=st.integers(0, 2**32 - 1))
def test_ground_truth_stays(transform: Transform[Any], sample: Sample, seed: int) -> None:
    assert sample.image is not None
    before = sample.image.copy()
    done = transform(sample, np.random.default_rng(seed))
    assert done.image is not None
    assert done.target is sample.target
    assert done.image.dtype == np.uint8
    assert done.image.shape == before.shape
    np.testing.assert_array_equal(sample.image, before)
    assert same(done, transform(sample, np.random.default_rng(seed)))


@by_name
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_dtype_and_range_stay(transform: Transform[Any], dtype: Any) -> None:
    sample = sample_of(PHOTO.astype(dtype), target_of([[0, 0, 40, 30]]))
    done = transform(sample, np.random.default_rng(0))
    assert done.image is not None
    assert done.image.dtype == dtype
    assert done.image.min() >= 0
    assert done.image.max() <= 255
    assert not np.array_equal(done.image, sample.image)


@pytest.mark.parametrize(
    "kind",
    [RandomErasingImage, RandomGrayscale, RandomGaussianBlur, RandomGaussianNoise, RandomJpegCompression],
)
def test_the_probability_is_kept(kind: Any) -> None:
    sample = sample_of(PHOTO, target_of([[0, 0, 40, 30]]))
    changed = [kind(prob=0.3)(sample, np.random.default_rng(seed)).image is not PHOTO for seed in range(200)]
    assert 40 < sum(changed) < 80
    assert kind(prob=0.0)(sample, np.random.default_rng(0)).image is PHOTO


def test_gray_is_the_brightness() -> None:
    done = RandomGrayscale().apply(sample_of(PHOTO), True).image
    assert done is not None
    expected = PHOTO @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(done, expected[..., None].repeat(3, axis=2), atol=0.51)


def test_blur_is_a_weighted_mean() -> None:
    point = np.zeros((31, 31, 3), np.float32)
    point[15, 15] = 1000
    done = RandomGaussianBlur().apply(sample_of(point), 1.5).image
    assert done is not None
    squares = (np.arange(31) - 15) ** 2
    weights = np.exp(-(squares[:, None] + squares[None, :]) / (2 * 1.5**2))
    np.testing.assert_allclose(done[..., 0], 1000 * weights / weights.sum(), atol=0.3)


def test_noise_has_the_deviation() -> None:
    gray = np.full((100, 100, 3), 128, np.uint8)
    done = RandomGaussianNoise().apply(sample_of(gray), NoiseParams(12.0, 7)).image
    assert done is not None
    difference = done.astype(float) - 128
    assert abs(difference.mean()) < 0.3
    assert difference.std() == pytest.approx(12, rel=0.03)
    channels = difference.reshape(-1, 3).T
    assert abs(np.corrcoef(channels)[0, 1]) < 0.05
    drawn = RandomGaussianNoise(std=[3, 3]).draw(sample_of(gray), np.random.default_rng(0))
    assert drawn is None or drawn.deviation == 3


def test_compression_takes_more_the_lower_the_quality() -> None:
    errors = []
    for quality in (20, 60, 100):
        done = RandomJpegCompression().apply(sample_of(PHOTO), quality).image
        assert done is not None
        errors.append(np.abs(done.astype(float) - PHOTO).mean())
    assert errors[0] > errors[1] > errors[2]
    flat = np.zeros((16, 16, 3), np.uint8)
    flat[..., 0] = 200
    red = RandomJpegCompression().apply(sample_of(flat), 100).image
    assert red is not None
    np.testing.assert_allclose(red[8, 8], [200, 0, 0], atol=3)


@settings(max_examples=60, deadline=None)
@given(samples(), st.integers(0, 2**32 - 1))
def test_erasing_stays_in_boxes_and_in_its_shares(sample: Sample, seed: int) -> None:
    erasing = RandomErasingImage(prob=1.0, lower=0.1, higher=0.3)
    params = erasing.draw(sample, np.random.default_rng(seed))
    done = erasing.apply(sample, params)
    assert done.image is not None
    assert sample.image is not None
    assert sample.target is not None
    boxes = sample.target.boxes[~sample.target.is_crowd].tolist()
    changed = (done.image != sample.image).any(axis=2)
    for x1, y1, x2, y2 in params.rectangles:
        changed[y1:y2, x1:x2] = False
        around = [b for b in boxes if b[0] <= x1 < x2 <= b[2] and b[1] <= y1 < y2 <= b[3]]
        areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in around]
        # Sides are whole pixels.
        assert any(0.02 * area <= (x2 - x1) * (y2 - y1) <= 0.45 * area for area in areas)
    assert not changed.any()


def test_erasing_leaves_crowds_and_specks() -> None:
    crowd = scene([np.array([[0.0, 0], [20, 0], [20, 20], [0, 20]])], (30, 30), is_crowd=[True])
    erasing = RandomErasingImage(prob=1.0)
    assert erasing.draw(crowd, np.random.default_rng(0)).rectangles == ()
    speck = sample_of(PHOTO, target_of([[3.2, 3.2, 3.9, 3.9]]))
    assert erasing.draw(speck, np.random.default_rng(0)).rectangles == ()
    for target in (None, Target.empty()):
        assert erasing.draw(sample_of(PHOTO, target), np.random.default_rng(0)).rectangles == ()


@pytest.mark.parametrize(
    ("kind", "arguments", "name"),
    [
        (RandomErasingImage, {"lower": 0.5, "higher": 0.4}, "lower"),
        (RandomErasingImage, {"aspect_ratio": 2.0}, "aspect_ratio"),
        (RandomGaussianBlur, {"sigma": [2.0, 1.0]}, "sigma"),
        (RandomGaussianNoise, {"std": [2.0]}, "std"),
        (RandomJpegCompression, {"quality": [50, 101]}, "quality"),
    ],
)
def test_arguments_without_sense_are_named(kind: Any, arguments: dict[str, Any], name: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        kind(**arguments)
    assert caught.value.argument == name
