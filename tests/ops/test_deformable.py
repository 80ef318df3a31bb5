"""Protects deformable sampling: values against slow loops, gradients against finite differences."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from ppdet.ops.deformable import deformable_sampling
from ppdet.ops.normalized_boxes import inverse_sigmoid, to_centres, to_corners
from tests.oracles import deformable as oracle

GRIDS = [(4, 6), (2, 3), (1, 2)]


def arguments(queries: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    value = rng.standard_normal((2, 32, 2, 3))
    locations = rng.uniform(-0.3, 1.3, (2, queries, 2, 3, 2, 2))  # some lie outside
    return value, locations, rng.uniform(0, 1, (2, queries, 2, 3, 2))


@pytest.mark.parametrize("queries", [1, 5])
def test_values(queries: int) -> None:
    value, locations, weights = arguments(queries)
    ours = deformable_sampling(
        *(paddle.to_tensor(value, "float64"), GRIDS),
        paddle.to_tensor(locations, "float64"),
        paddle.to_tensor(weights, "float64"),
    )
    expected = oracle.deformable_sampling(value, GRIDS, locations, weights)
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-9, atol=1e-9)


def test_gradients() -> None:
    value, locations, weights = arguments(2, seed=3)
    tensors = [paddle.to_tensor(x, "float64", stop_gradient=False) for x in (value, locations, weights)]
    factor = np.random.default_rng(5).standard_normal((2, 2, 6))
    result = deformable_sampling(tensors[0], GRIDS, tensors[1], tensors[2])
    (result * paddle.to_tensor(factor)).sum().backward()
    rng = np.random.default_rng(7)
    for which, array in enumerate((value, locations, weights)):
        for flat in rng.choice(array.size, 12, replace=False):
            sides = []
            for step in (1e-6, -1e-6):
                moved = [value.copy(), locations.copy(), weights.copy()]
                moved[which].ravel()[flat] += step
                sides.append((oracle.deformable_sampling(moved[0], GRIDS, moved[1], moved[2]) * factor).sum())
            slope = (sides[0] - sides[1]) / 2e-6
            assert tensors[which].grad.numpy().ravel()[flat] == pytest.approx(slope, rel=1e-5, abs=1e-6)


def test_boxes_there_and_back() -> None:
    boxes = paddle.to_tensor([[0.1, 0.2, 0.5, 0.4], [0.0, 0.0, 1.0, 1.0], [0.3, 0.3, 0.3, 0.3]])
    np.testing.assert_allclose(to_corners(to_centres(boxes)).numpy(), boxes.numpy(), atol=1e-7)
    np.testing.assert_allclose(to_centres(boxes).numpy()[0], [0.3, 0.3, 0.4, 0.2], atol=1e-7)


def test_logits_are_finite_everywhere() -> None:
    probability = paddle.to_tensor([-1.0, 0.0, 1e-6, 0.5, 0.9, 1.0, 2.0])
    logits = inverse_sigmoid(probability).numpy()
    edge = np.log(1e5)
    np.testing.assert_allclose(logits, [-edge, -edge, -edge, 0, np.log(9), edge, edge], rtol=1e-5, atol=1e-6)
