"""Protects models built to be loaded: nothing is drawn, and constructors may compute with weights."""

from __future__ import annotations

import paddle
import pytest
from paddle import nn

from ppdet.modeling.initial_weights import without_random_weights


def test_what_would_be_drawn_is_zero_and_the_rest_as_ever() -> None:
    with without_random_weights():
        linear, norm = nn.Linear(3, 4), nn.BatchNorm2D(2)
        given = nn.Linear(
            2, 1, weight_attr=paddle.ParamAttr(initializer=nn.initializer.Assign([[2.0], [3.0]]))
        )
        weighted = nn.utils.weight_norm(nn.Linear(3, 4))  # computes with the weight that it finds
    assert not linear.weight.numpy().any()
    assert norm.weight.numpy().tolist() == [1.0, 1.0]
    assert given.weight.numpy().tolist() == [[2.0], [3.0]]
    assert abs(weighted.weight_g.numpy()).max() < 1e-5
    assert nn.Linear(3, 4).weight.numpy().any(), "drawn again afterwards"


def test_drawing_comes_back_after_an_error() -> None:
    with pytest.raises(KeyError), without_random_weights():
        raise KeyError
    assert nn.Linear(3, 4).weight.numpy().any()
