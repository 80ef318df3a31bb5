"""Protects `Pad` and `MultiscaleTestResize` of 2.x: where the pixels go, and which sizes are tried."""

from __future__ import annotations

import numpy as np
import pytest

from ppdet.data.transforms.pad import Pad
from ppdet.data.transforms.resize import MultiscaleTestResize
from ppdet.utils.errors import DataError
from tests.data.support import sample_of

RNG = np.random.default_rng(0)


def test_padding_is_at_the_right_and_bottom() -> None:
    sample = sample_of(np.full((20, 30, 3), 7, np.uint8))
    padded = Pad(size=40, fill_value=[10.0, 20.9, 30.0])(sample, RNG)
    assert padded.image is not None
    assert padded.image.shape == (40, 40, 3)
    assert (padded.image[:20, :30] == 7).all()
    assert (padded.image[20:] == [10, 20, 30]).all()
    assert (padded.image[:, 30:] == [10, 20, 30]).all()
    assert padded.image_size == sample.image_size
    assert padded.scale_factor == sample.scale_factor


def test_without_a_size_sides_become_multiples() -> None:
    padded = Pad(size_divisor=16)(sample_of(np.zeros((16, 33, 3), np.float32)), RNG)
    assert padded.image is not None
    assert padded.image.shape == (16, 48, 3)
    assert padded.image[0, 47, 0] == np.float32(127.5)


def test_what_cannot_be_is_named() -> None:
    with pytest.raises(DataError, match=r"20x30 is larger than Pad.size 16x64"):
        Pad(size=[16, 64])(sample_of(np.zeros((20, 30, 3), np.uint8)), RNG)
    with pytest.raises(ValueError, match="size_divisor"):
        Pad(size_divisor=0)
    with pytest.raises(ValueError, match="fill_value"):
        Pad(fill_value=[1.0])


def test_sizes_of_multiscale_testing() -> None:
    step = MultiscaleTestResize(origin_target_size=[40, 60], target_size=[30, [50, 70]], use_flip=True)
    resized = step(sample_of(np.zeros((20, 30, 3), np.uint8)), RNG)
    assert resized.image is not None
    assert resized.image.shape == (40, 60, 3), "as one step it takes the first size"
    assert [params.target for params in step.sizes] == [(40, 60), (30, 45), (50, 70)]
    assert all(params.keep_ratio for params in step.sizes)
    assert step.use_flip
