"""Protects box arithmetic: the IoU family against slow code and by its properties, and the delta coding."""

from __future__ import annotations

import math

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from ppdet.ops import boxes as ops
from tests.oracles import boxes as oracle

quick = settings(deadline=None, max_examples=40)

SEEDS = st.integers(0, 2**32 - 1)
KINDS = {"iou": oracle.iou, "giou": oracle.giou, "diou": oracle.diou, "ciou": oracle.ciou}


def some_boxes(rng, count, *, degenerate=False):
    """Boxes of 1..60 pixels; some empty or inside out where `degenerate`."""
    corner = rng.uniform(-20, 80, (count, 2))
    sides = rng.uniform(1, 60, (count, 2))
    if degenerate:
        sides[rng.random((count, 2)) < 0.2] = 0
        sides[rng.random((count, 2)) < 0.1] *= -1
    return np.concatenate([corner, corner + sides], axis=1).astype("float32")


def t(array):
    return paddle.to_tensor(array)


@quick
@given(SEEDS, st.integers(1, 8), st.integers(1, 8))
def test_pairwise_iou_equals_slow_code(seed, a, b):
    rng = np.random.default_rng(seed)
    first, second = some_boxes(rng, a, degenerate=True), some_boxes(rng, b, degenerate=True)
    second[0] = first[0]
    expected = [[oracle.iou(x, y) for y in second.astype(float)] for x in first.astype(float)]
    assert_allclose(ops.pairwise_iou(t(first), t(second)).numpy(), expected, atol=1e-5)


@quick
@given(SEEDS)
def test_pairwise_iou_is_symmetric_and_blind_to_translation_and_scale(seed):
    rng = np.random.default_rng(seed)
    first, second = some_boxes(rng, 5), some_boxes(rng, 7)
    ious = ops.pairwise_iou(t(first), t(second)).numpy()
    assert_allclose(ops.pairwise_iou(t(second), t(first)).numpy(), ious.T, atol=1e-6)
    move = np.tile(rng.uniform(-100, 100, 2), 2).astype("float32")
    moved = ops.pairwise_iou(t((first + move) * 3), t((second + move) * 3)).numpy()
    assert_allclose(moved, ious, atol=1e-4)
    order = rng.permutation(7)
    assert_allclose(ops.pairwise_iou(t(first), t(second[order])).numpy(), ious[:, order])


def test_pairwise_iou_of_a_batch_equals_each_image():
    rng = np.random.default_rng(0)
    anchors, gt = some_boxes(rng, 6), some_boxes(rng, 8).reshape(2, 4, 4)
    ours = ops.pairwise_iou(t(anchors), t(gt)).numpy()
    assert ours.shape == (2, 6, 4)
    for i in range(2):
        assert_allclose(ours[i], ops.pairwise_iou(t(anchors), t(gt[i])).numpy())


@pytest.mark.parametrize(("a", "b"), [(0, 3), (3, 0), (0, 0)])
def test_pairwise_iou_of_nothing(a, b):
    assert ops.pairwise_iou(paddle.zeros([a, 4]), paddle.zeros([b, 4])).shape == [a, b]


def test_empty_boxes_overlap_nothing_not_even_themselves():
    boxes = t(np.array([[5, 5, 5, 5], [9, 9, 1, 1], [0, 0, 10, 10]], "float32"))
    assert_allclose(ops.box_area(boxes).numpy(), [0, 0, 100])
    assert_allclose(ops.pairwise_iou(boxes, boxes).numpy(), np.diag([0, 0, 1]))
    assert ops.non_empty(boxes).tolist() == [False, False, True]
    assert ops.non_empty(boxes, 10).tolist() == [False, False, False]


@pytest.mark.parametrize("kind", KINDS)
@quick
@given(seed=SEEDS)
def test_paired_iou_equals_slow_code(kind, seed):
    rng = np.random.default_rng(seed)
    first, second = some_boxes(rng, 8), some_boxes(rng, 8)
    second[0] = first[0]
    expected = [KINDS[kind](x, y) for x, y in zip(first.astype(float), second.astype(float))]
    assert_allclose(ops.paired_iou(t(first), t(second), kind=kind).numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_paired_iou_has_a_finite_gradient_everywhere(kind):
    first = t(np.array([[0, 0, 10, 10], [0, 0, 0, 0], [5, 5, 2, 2], [0, 0, 9, 9], [1, 1, 1, 8]], "float32"))
    second = t(
        np.array([[0, 0, 10, 10], [0, 0, 0, 0], [0, 0, 9, 9], [20, 20, 30, 30], [0, 0, 9, 9]], "float32")
    )
    first.stop_gradient = False
    value = ops.paired_iou(first, second, kind=kind)
    value.sum().backward()
    assert np.isfinite(value.numpy()).all()
    assert np.isfinite(first.grad.numpy()).all()


@pytest.mark.parametrize("kind", ["giou", "diou", "ciou"])
def test_apart_boxes_are_pulled_together(kind):
    """Plain IoU has no gradient between boxes that do not touch; these three were invented to have one."""
    prediction = t(np.array([[0.0, 0, 10, 10]], "float32"))
    prediction.stop_gradient = False
    ops.paired_iou(prediction, t(np.array([[30.0, 0, 40, 10]], "float32")), kind=kind).sum().backward()
    assert prediction.grad.numpy()[0, [0, 2]].sum() > 0


@pytest.mark.parametrize("kind", ["iou", "giou", "diou"])
def test_gradient_of_paired_iou(kind):
    rng = np.random.default_rng(3)
    first, second = (some_boxes(rng, 6).astype("float64") for _ in range(2))
    first[:3] = second[:3] + rng.uniform(-0.4, 0.4, (3, 4))
    check_gradient(lambda x: ops.paired_iou(x, t(second), kind=kind), first)


def check_gradient(function, point, step=1e-5, atol=1e-6):
    """Backward against central differences of the sum, in double precision."""
    x = paddle.to_tensor(point)
    x.stop_gradient = False
    function(x).sum().backward()
    for index in np.ndindex(point.shape):
        moved = [point.copy(), point.copy()]
        moved[0][index] -= step
        moved[1][index] += step
        low, high = (float(function(paddle.to_tensor(m)).sum()) for m in moved)
        assert_allclose(x.grad.numpy()[index], (high - low) / (2 * step), atol=atol)


def test_gradient_of_ciou_holds_alpha_constant():
    """As the paper has it: the weight of the aspect-ratio term is no way to a smaller loss."""
    ours, target = np.array([[0.0, 0, 10, 30]]), np.array([[1.0, 2, 14, 16]])
    first, second = ours[0], target[0]
    x = paddle.to_tensor(ours)
    x.stop_gradient = False
    ops.paired_iou(x, t(target), kind="ciou").sum().backward()

    def v_of(box):
        angles = [math.atan((b[2] - b[0]) / (b[3] - b[1])) for b in (box, second)]
        return 4 / math.pi**2 * (angles[0] - angles[1]) ** 2

    alpha = v_of(first) / (1 - oracle.iou(first, second) + v_of(first))
    for i in range(4):
        values = []
        for step in (-1e-5, 1e-5):
            moved = first.copy()
            moved[i] += step
            values.append(oracle.diou(moved, second) - alpha * v_of(moved))
        assert_allclose(x.grad.numpy()[0, i], (values[1] - values[0]) / 2e-5, atol=1e-6)


def test_unknown_kind_is_named():
    with pytest.raises(ValueError, match="siou"):
        ops.paired_iou(paddle.zeros([1, 4]), paddle.zeros([1, 4]), kind="siou")


def test_clip_uses_height_for_y_and_each_image_its_own_size():
    boxes = t(np.array([[[-5, -5, 500, 500]], [[-5, -5, 500, 500]]], "float32"))
    clipped = ops.clip_boxes(boxes, t(np.array([[100, 200], [30, 40]], "float32")))
    assert clipped.tolist() == [[[0, 0, 200, 100]], [[0, 0, 40, 30]]]
    per_class = ops.clip_boxes(boxes.unsqueeze(2), t(np.array([[100, 200], [30, 40]], "float32")))
    assert per_class.squeeze(2).tolist() == clipped.tolist()


@quick
@given(SEEDS, st.sampled_from([(1, 1, 1, 1), (10, 10, 5, 5), (30, 30, 15, 15)]))
def test_decoding_inverts_encoding(seed, weights):
    rng = np.random.default_rng(seed)
    boxes, targets = some_boxes(rng, 9), some_boxes(rng, 9)
    deltas = ops.encode_deltas(t(boxes), t(targets), weights=weights)
    assert_allclose(ops.decode_deltas(t(boxes), deltas, weights=weights).numpy(), targets, atol=1e-2)
    moved = ops.encode_deltas(t(boxes + 50), t(targets + 50), weights=weights)
    assert_allclose(moved.numpy(), deltas.numpy(), rtol=1e-4, atol=1e-2)


def test_decoding_stays_finite_and_grows_a_box_at_most_62_times():
    boxes = t(np.array([[0, 0, 10, 10]], "float32"))
    huge = ops.decode_deltas(boxes, paddle.full([1, 4], 1000.0)).numpy()[0]
    assert np.isfinite(huge).all()
    assert_allclose(huge[2] - huge[0], 625, rtol=1e-4)


def test_encoding_empty_boxes_is_finite():
    empty = paddle.zeros([2, 4])
    assert np.isfinite(ops.encode_deltas(empty, empty).numpy()).all()
    assert ops.encode_deltas(paddle.zeros([0, 4]), paddle.zeros([0, 4])).shape == [0, 4]


def test_gradient_of_decoding():
    rng = np.random.default_rng(1)
    boxes = some_boxes(rng, 4).astype("float64")
    check_gradient(lambda d: ops.decode_deltas(t(boxes), d, weights=(10, 10, 5, 5)), rng.normal(size=(4, 4)))
