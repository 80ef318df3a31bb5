"""Protects losses: values by their formulas, gradients, and that nothing breaks without positives."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ppdet.ops import losses
from tests.ops.test_boxes import check_gradient
from tests.support import load_golden


def t(array):
    return paddle.to_tensor(np.asarray(array))


def test_smooth_l1_by_hand():
    values = losses.smooth_l1(t([0.0, 1.0, -3.0]), t([0.0, 0.5, 0.0]), beta=2.0)
    assert_allclose(values.numpy(), [0, 0.5 * 0.25 / 2, 3 - 1])
    assert_allclose(losses.smooth_l1(t([0.0, -3.0]), t([0.5, 0.0]), beta=0).numpy(), [0.5, 3])


@pytest.mark.parametrize("beta", [0, 0.5, 1])
def test_smooth_l1_gradient(beta):
    point = np.array([-2.0, -0.3, 0.2, 0.9, 3.0])
    check_gradient(lambda x: losses.smooth_l1(x, paddle.zeros_like(x), beta=beta), point)


def focal(logit, target, alpha, gamma):
    p = 1 / (1 + np.exp(-logit))
    p = np.where(target == 1, p, 1 - p)
    weight = np.where(target == 1, alpha, 1 - alpha) if alpha >= 0 else 1
    return -weight * (1 - p) ** gamma * np.log(p)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (-1, 0.0), (0.5, 1.0)])
def test_focal_loss(alpha, gamma):
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(4, 5)) * 3, rng.integers(0, 2, (4, 5)).astype(float)
    ours = losses.sigmoid_focal_loss(t(logits), t(targets), alpha=alpha, gamma=gamma)
    assert_allclose(ours.numpy(), focal(logits, targets, alpha, gamma), rtol=1e-6)
    check_gradient(lambda x: losses.sigmoid_focal_loss(x, t(targets), alpha=alpha, gamma=gamma), logits)


def test_focal_loss_is_finite_at_the_extremes():
    logits = t(np.array([-100.0, 100.0, 0.0], "float32"))
    logits.stop_gradient = False
    for target in (0.0, 1.0):
        loss = losses.sigmoid_focal_loss(logits, paddle.full([3], target))
        loss.sum().backward()
        assert np.isfinite(loss.numpy()).all()
        assert np.isfinite(logits.grad.numpy()).all()


def test_cross_entropy_leaves_out_ignored_rows():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 3))
    labels = np.array([2, -1, 0, -1])
    x = t(logits)
    x.stop_gradient = False
    ours = losses.cross_entropy(x, t(labels))
    expected = np.log(np.exp(logits).sum(1)) - logits[np.arange(4), labels]
    assert_allclose(ours.numpy(), np.where(labels < 0, 0, expected), rtol=1e-6)
    ours.sum().backward()
    assert not x.grad.numpy()[labels < 0].any()
    assert x.grad.numpy()[labels >= 0].all()
    check_gradient(lambda v: losses.cross_entropy(v, t(labels)), logits)


def test_binary_cross_entropy_leaves_out_ignored_elements():
    logits, targets = np.array([1.5, -2.0, 0.3, 9.0]), np.array([1.0, 0.0, -1.0, 0.25])
    p = 1 / (1 + np.exp(-logits))
    expected = -(targets * np.log(p) + (1 - targets) * np.log(1 - p))
    expected[2] = 0
    assert_allclose(losses.binary_cross_entropy(t(logits), t(targets)).numpy(), expected, rtol=1e-6)
    check_gradient(lambda v: losses.binary_cross_entropy(v, t(targets)), logits)


def test_everything_ignored_gives_zero_and_no_gradient():
    x = paddle.rand([3, 4])
    x.stop_gradient = False
    loss = losses.cross_entropy(x, paddle.full([3], -1, dtype="int64")).sum()
    loss = loss + losses.binary_cross_entropy(x, paddle.full([3, 4], -1.0)).sum()
    loss.backward()
    assert float(loss) == 0
    assert_array_equal(x.grad.numpy(), np.zeros((3, 4)))


@pytest.mark.parametrize("shape", [[0, 4], [2, 0, 4]])
def test_no_elements(shape):
    x = paddle.zeros(shape)
    assert losses.smooth_l1(x, x).shape == shape
    assert losses.sigmoid_focal_loss(x, x).shape == shape
    assert losses.binary_cross_entropy(x, x).shape == shape
    assert losses.iou_loss(x, x, kind="giou").shape == shape[:-1]
    assert losses.cross_entropy(paddle.zeros([0, 3]), paddle.zeros([0], "int64")).shape == [0]


def test_iou_loss():
    a, b = t([[0.0, 0, 10, 10]]), t([[0.0, 0, 10, 5]])
    assert_allclose(losses.iou_loss(a, b).numpy(), [0.5])
    assert_allclose(losses.iou_loss(a, b, squared=True).numpy(), [0.75])
    assert_allclose(losses.iou_loss(a, a, kind="ciou").numpy(), [0.0], atol=1e-6)
    with pytest.raises(ValueError, match="giou"):
        losses.iou_loss(a, b, kind="giou", squared=True)


def entropy(p, target):
    return -(target * np.log(p) + (1 - target) * np.log(1 - p))


def test_varifocal_loss():
    rng = np.random.default_rng(0)
    logits, positive = rng.normal(size=(4, 5)) * 2, rng.integers(0, 2, (4, 5)).astype(float)
    targets = rng.random((4, 5)) * positive
    p = 1 / (1 + np.exp(-logits))
    expected = np.where(positive == 1, targets, 0.6 * p**1.5) * entropy(p, targets)
    options = {"alpha": 0.6, "gamma": 1.5}
    assert_allclose(losses.varifocal_loss(t(logits), t(targets), t(positive), **options).numpy(), expected)
    check_gradient(lambda x: losses.varifocal_loss(x, t(targets), t(positive), **options), logits)


@pytest.mark.parametrize("alpha", [-1, 0.25])
def test_quality_focal_loss(alpha):
    rng = np.random.default_rng(1)
    logits, targets = rng.normal(size=(3, 4)) * 2, rng.random((3, 4))
    p = 1 / (1 + np.exp(-logits))
    weight = alpha * targets + (1 - alpha) * (1 - targets) if alpha >= 0 else 1
    expected = weight * np.abs(p - targets) ** 2 * entropy(p, targets)
    assert_allclose(losses.quality_focal_loss(t(logits), t(targets), alpha=alpha).numpy(), expected)


def test_distribution_focal_loss():
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(6, 4))
    targets = np.array([0.0, 0.25, 1.0, 1.9, 2.5, 3.0])
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = []
    for row, target in zip(log_p, targets):
        left = min(int(target), 2)
        expected.append(-(row[left] * (left + 1 - target) + row[left + 1] * (target - left)))
    assert_allclose(losses.distribution_focal_loss(t(logits), t(targets)).numpy(), expected)
    check_gradient(lambda x: losses.distribution_focal_loss(x, t(targets)), logits)


def test_losses_of_one_stage_heads_equal_the_goldens():
    """The goldens have scores; d loss / d score = d loss / d logit / (p (1 - p))."""
    units, _ = load_golden("modern_units")
    p = units["varifocal/score"].astype("float64")
    targets, positive = t(units["varifocal/target"].astype("float64")), t(units["varifocal/label"] * 1.0)
    alpha = float(units["focal_on_scores/alpha"])
    for key, name, loss in (
        ("varifocal", "sum", lambda z: losses.varifocal_loss(z, targets, positive.astype("float64"))),
        ("focal_on_scores", "sum", lambda z: losses.quality_focal_loss(z, targets, alpha=alpha)),
        ("focal_on_scores", "sum_alpha_minus_1", lambda z: losses.quality_focal_loss(z, targets)),
    ):
        logits = t(np.log(p / (1 - p)))
        logits.stop_gradient = False
        total = loss(logits).sum()
        assert float(total) == pytest.approx(float(units[f"{key}/{name}"]), rel=1e-5)
        if name == "sum":
            total.backward()
            expected = units[f"{key}/grad_score"]
            ours = logits.grad.numpy() / (p * (1 - p))
            assert_allclose(ours, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    ours = losses.distribution_focal_loss(t(units["dfl/logits"]), t(units["dfl/target"])).mean(axis=-1)
    assert_allclose(ours.numpy(), units["dfl/loss"][:, 0], rtol=0, atol=1e-5 * units["dfl/loss"].max())
