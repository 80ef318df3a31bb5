"""Protects the spelling of 2x upsampling that all runtimes share: it must equal interpolation."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle.nn import functional

from ppdet.modeling.layers.upsample import double_nearest


@pytest.mark.parametrize(
    ("small", "large"), [((3, 4), (6, 8)), ((3, 4), (5, 7)), ((1, 1), (1, 2)), ((5, 2), (9, 4))]
)
def test_equals_nearest_interpolation_and_its_gradient(
    small: tuple[int, int], large: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((2, 3, *small)).astype(np.float32)
    weights = paddle.to_tensor(rng.standard_normal((2, 3, *large)).astype(np.float32))
    results = []
    for double in (
        lambda x: double_nearest(x, paddle.zeros([2, 7, *large])),
        lambda x: functional.interpolate(x, size=list(large), mode="nearest"),
    ):
        features = paddle.to_tensor(values, stop_gradient=False)
        doubled = double(features)
        (doubled * weights).sum().backward()
        results.append((doubled.numpy(), features.grad.numpy()))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-5, atol=1e-6)
