"""Protects RoIAlign: numbers against slow code, levels, order of results, empty levels, gradients."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from ppdet.doctor import oracles
from ppdet.ops.roi_align import assign_levels, flatten_regions, multi_level_roi_align, roi_align
from tests.oracles.roi_align import level as level_of
from tests.support_sync import count_host_syncs

quick = settings(deadline=None, max_examples=15)
SEEDS = st.integers(0, 2**32 - 1)
STRIDES = [4, 8, 16, 32]


def pyramid(rng, images=2, channels=2, size=128):
    return [rng.normal(size=(images, channels, size // s, size // s)).astype("float32") for s in STRIDES]


def regions(rng, count, longest=700):
    corner = rng.uniform(-20, 100, (count, 2))
    sides = np.exp(rng.uniform(np.log(0.5), np.log(longest), (count, 2)))
    return np.concatenate([corner, corner + sides], axis=1).astype("float32")


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 1, 2])
@quick
@given(seed=SEEDS)
def test_single_level_equals_slow_code(seed, aligned, sampling_ratio):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(2, 2, 12, 15)).astype("float32")
    boxes = regions(rng, 5, longest=150)
    options = {"resolution": 3, "stride": 8, "sampling_ratio": sampling_ratio, "aligned": aligned}
    ours = roi_align(paddle.to_tensor(features), paddle.to_tensor(boxes), counts(2, 3), **options).numpy()
    for k, box in enumerate(boxes):
        expected = oracles.roi_align(features[0 if k < 2 else 1], box.astype(float), **options)
        assert_allclose(ours[k], expected, atol=1e-3)


def counts(*numbers):
    return paddle.to_tensor(numbers, dtype="int32")


@pytest.mark.parametrize("per_image", [(9, 0), (0, 9), (3, 6)])
def test_multi_level_equals_each_region_alone(per_image):
    rng = np.random.default_rng(5)
    features, boxes = pyramid(rng), regions(rng, 9)
    boxes[:3] = [[0, 0, 120, 130], [0, 0, 230, 300], [5, 5, 70, 60]]
    boxes[3] = 0
    boxes[4] = boxes[4, [2, 3, 0, 1]]
    ours = multi_level_roi_align(
        [paddle.to_tensor(f) for f in features],
        paddle.to_tensor(boxes),
        counts(*per_image),
        resolution=2,
        strides=STRIDES,
    ).numpy()
    # Restoring the order by the permutation itself instead of its inverse would go unnoticed otherwise.
    order = np.argsort([level_of(b.astype(float), 2, 5) for b in boxes], kind="stable")
    assert (order[order] != np.arange(9)).any()
    for k, box in enumerate(boxes):
        level = level_of(box.astype(float), 2, 5)
        image = 0 if k < per_image[0] else 1
        expected = oracles.roi_align(
            features[level - 2][image], box.astype(float), resolution=2, stride=2**level
        )
        assert_allclose(ours[k], expected, atol=1e-3)


def test_levels():
    sides = np.array([0, 1, 111.9, 112, 223.9, 224, 447.9, 448, 895, 5000])
    boxes = np.stack([0 * sides, 0 * sides, sides, sides], axis=1).astype("float32")
    levels = assign_levels(paddle.to_tensor(boxes), first_level=2, last_level=5)
    assert levels.tolist() == [2, 2, 2, 3, 3, 4, 4, 5, 5, 5]
    inside_out = assign_levels(paddle.to_tensor([[500.0, 500, 0, 0]]), first_level=3, last_level=5)
    assert inside_out.tolist() == [3]


@pytest.mark.parametrize("strides", [[8], STRIDES])
def test_no_regions(strides):
    features = [paddle.ones([2, 3, 32, 32]) for _ in strides]
    for f in features:
        f.stop_gradient = False
    pooled = multi_level_roi_align(
        features, paddle.zeros([0, 4]), counts(0, 0), resolution=7, strides=strides
    )
    assert pooled.shape == [0, 3, 7, 7]
    (pooled.sum() + sum(f.sum() for f in features)).backward()
    for f in features:
        assert_array_equal(f.grad.numpy(), np.ones(f.shape))


def test_all_regions_on_one_level_leave_the_others_without_gradient():
    features = [paddle.rand([1, 1, 128 // s, 128 // s]) for s in STRIDES]
    for f in features:
        f.stop_gradient = False
    boxes = paddle.to_tensor([[10.0, 10, 50, 50], [30.0, 30, 60, 60]])
    multi_level_roi_align(features, boxes, counts(2), resolution=7, strides=STRIDES).sum().backward()
    assert features[0].grad.abs().sum() > 0
    for f in features[1:]:
        assert f.grad is None or not f.grad.numpy().any()


@pytest.mark.parametrize("aligned", [True, False])
def test_gradient(aligned):
    """The mean of samples is linear in the features, so differences are exact up to float32."""
    rng = np.random.default_rng(2)
    features = [f.astype("float32") for f in pyramid(rng, images=1, channels=1, size=64)]
    boxes = paddle.to_tensor(np.array([[3, 5, 40, 50], [0, 0, 200, 180], [10, 10, 400, 300]], "float32"))
    weights = paddle.to_tensor(rng.normal(size=(3, 1, 3, 3)).astype("float32"))

    def loss(values):
        return (
            multi_level_roi_align(values, boxes, counts(3), resolution=3, strides=STRIDES, aligned=aligned)
            * weights
        ).sum()

    tensors = [paddle.to_tensor(f) for f in features]
    for x in tensors:
        x.stop_gradient = False
    loss(tensors).backward()
    seen = 0
    for level, feature in enumerate(features):
        for index in list(np.ndindex(feature.shape))[::7]:
            moved = []
            for sign in (-1, 1):
                changed = [f.copy() for f in features]
                changed[level][index] += sign
                moved.append(float(loss([paddle.to_tensor(f) for f in changed])))
            ours = tensors[level].grad
            ours = 0.0 if ours is None else float(ours.numpy()[index])
            assert_allclose(ours, (moved[1] - moved[0]) / 2, atol=1e-4)
            seen += ours != 0
    assert seen > 10


def test_flatten_regions():
    boxes = paddle.arange(24, dtype="float32").reshape([2, 3, 4])
    everything = flatten_regions(boxes)
    assert everything.per_image.tolist() == [3, 3]
    assert_array_equal(everything.boxes.numpy(), boxes.reshape([6, 4]).numpy())
    some = flatten_regions(boxes, paddle.to_tensor([[True, False, True], [False, False, False]]))
    assert some.per_image.tolist() == [2, 0]
    assert_array_equal(some.boxes.numpy(), boxes.numpy()[0, [0, 2]])
    assert some.rows is not None
    assert some.rows.tolist() == [0, 2]


@pytest.mark.parametrize("strides", [[4, 16], [4, 8, 16], [6, 12]])
def test_strides_that_are_no_pyramid_are_refused(strides):
    with pytest.raises(ValueError, match="powers of two"):
        multi_level_roi_align(
            [paddle.zeros([1, 1, 8, 8])] * 2, paddle.zeros([0, 4]), counts(0), resolution=7, strides=strides
        )


def test_nothing_is_read_back_from_the_device():
    features = [paddle.zeros([2, 1, 128 // s, 128 // s]) for s in STRIDES]
    boxes = paddle.rand([2, 5, 4]) * 300
    with count_host_syncs() as reads:
        flat = flatten_regions(boxes, boxes[..., 0] > 100)
        multi_level_roi_align(features, flat.boxes, flat.per_image, resolution=2, strides=STRIDES)
    assert not reads, reads


def test_boxes_that_are_no_numbers_pool_as_empty_ones() -> None:
    boxes = paddle.to_tensor([[[float("nan")] * 4, [0.0, 0.0, 16.0, 16.0]]])
    flat = flatten_regions(boxes)
    np.testing.assert_array_equal(flat.boxes.numpy(), [[0, 0, 0, 0], [0, 0, 16, 16]])
