"""Protects the fixed-shape ways of picking rows that everything else is built on."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from numpy.testing import assert_array_equal

from ppdet.ops.indexing import LOWEST, gather_rows, place_rows, top_k


@pytest.mark.parametrize("length", [0, 2, 4, 9])
def test_top_k_pads(length):
    scores = np.random.default_rng(0).permutation(3 * length).reshape(3, length).astype("float32")
    best = top_k(paddle.to_tensor(scores), 4)
    real = min(length, 4)
    assert best.values.shape == best.columns.shape == [3, 4]
    order = np.argsort(-scores, axis=1)[:, :4]
    assert_array_equal(best.columns.numpy()[:, :real], order)
    assert_array_equal(best.values.numpy()[:, :real], np.take_along_axis(scores, order, axis=1))
    assert (best.values.numpy()[:, real:] == np.float32(LOWEST)).all()
    assert (best.columns.numpy()[:, real:] >= length).all()


def test_gather_rows():
    x = np.arange(24).reshape(2, 4, 3)
    index = np.array([[3, 0, 0, 1, 2], [1, 1, 3, 2, 0]])
    expected = np.take_along_axis(x, index[..., None], axis=1)
    assert_array_equal(gather_rows(paddle.to_tensor(x), paddle.to_tensor(index)).numpy(), expected)
    flat = gather_rows(paddle.to_tensor(x[..., 0]), paddle.to_tensor(index)).numpy()
    assert_array_equal(flat, expected[..., 0])


def test_place_rows_drops_the_spare_slot():
    values = paddle.to_tensor([[1.0, 1], [2, 2], [3, 3], [4, 4]])
    placed = place_rows(values, paddle.to_tensor([2, 3, 0, 3]), 3, fill=-1)
    assert placed.tolist() == [[3, 3], [-1, -1], [1, 1]]
    assert place_rows(values[:0], paddle.zeros([0], "int64"), 2, fill=7).tolist() == [[7, 7], [7, 7]]
