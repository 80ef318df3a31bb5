"""Protects the update rule: decay, own decay, rate factors, clipping and frozen parameters, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from paddle import ParamAttr, nn
from paddle.regularizer import L2Decay

from ppdet.engine.optim import OptimizerBuilder
from ppdet.engine.schedules import ScheduleError


class Two(nn.Layer):
    """Two numbers with a gradient each: the loss is 3 * first + 4 * second."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__()
        start = nn.initializer.Constant(2.0)
        self.first = self.create_parameter([1], attr=ParamAttr(initializer=start, **attributes))
        self.second = self.create_parameter([1], attr=ParamAttr(initializer=start))

    def forward(self) -> Any:
        return 3.0 * self.first.sum() + 4.0 * self.second.sum()


def run(builder: OptimizerBuilder, model: Two, steps: int = 1, rate: float = 0.1) -> list[float]:
    optimizer = builder.build(rate, model)
    for _ in range(steps):
        model().backward()
        optimizer.step()
        optimizer.clear_grad()
    return [float(model.first.sum()), float(model.second.sum())]


def test_momentum_with_decay_and_the_parameters_own() -> None:
    builder = OptimizerBuilder(
        optimizer={"type": "Momentum", "momentum": 0.5}, regularizer={"type": "L2", "factor": 0.01}
    )
    found = run(builder, Two(regularizer=L2Decay(0.1), learning_rate=2.0), steps=2)
    expected = []
    for gradient, decay, rate in ((3.0, 0.1, 0.2), (4.0, 0.01, 0.1)):
        value, velocity = 2.0, 0.0
        for _ in range(2):
            velocity = 0.5 * velocity + gradient + decay * value
            value -= rate * velocity
        expected.append(value)
    assert found == pytest.approx(expected, rel=1e-6)


def test_defaults_are_those_of_2x() -> None:
    assert run(OptimizerBuilder(), Two()) == pytest.approx([2 - 0.1 * 3.0002, 2 - 0.1 * 4.0002])


@pytest.mark.parametrize("regularizer", [None, False, "None"])
def test_without_decay(regularizer: Any) -> None:
    builder = OptimizerBuilder(optimizer={"type": "SGD"}, regularizer=regularizer)
    assert run(builder, Two()) == pytest.approx([1.7, 1.6])


def test_l1() -> None:
    builder = OptimizerBuilder(optimizer={"type": "SGD"}, regularizer={"type": "L1", "factor": 1.0})
    assert run(builder, Two()) == pytest.approx([1.6, 1.5])


def test_clipping() -> None:
    by_norm = OptimizerBuilder(optimizer={"type": "SGD"}, regularizer=None, clip_grad_by_norm=1.0)
    assert run(by_norm, Two()) == pytest.approx([2 - 0.06, 2 - 0.08], rel=1e-5)
    by_value = OptimizerBuilder(optimizer={"type": "SGD"}, regularizer=None, clip_grad_by_value=3.5)
    assert run(by_value, Two()) == pytest.approx([1.7, 1.65])


def test_frozen_parameters_stay() -> None:
    assert run(OptimizerBuilder(optimizer={"type": "SGD"}, regularizer=None), Two(trainable=False)) == [
        2.0,
        pytest.approx(1.6),
    ]


def test_groups_multiply_the_rate_and_spare_from_decay() -> None:
    settings = {
        "type": "SGD",
        "param_groups": [{"params": ["first"], "learning_rate": 0.5}],
        "without_weight_decay_params": ["second"],
    }
    builder = OptimizerBuilder(optimizer=settings, regularizer={"type": "L2", "factor": 1.0})
    assert run(builder, Two(learning_rate=2.0)) == pytest.approx([2 - 0.1 * 5, 2 - 0.1 * 4])


@pytest.mark.parametrize("kind", ["Adam", "AdamW"])
def test_adam_steps_by_the_rate(kind: str) -> None:
    settings: dict[str, Any] = {"type": kind, "beta1": 0.8}
    if kind == "AdamW":
        settings["weight_decay"] = 0.0
    assert run(OptimizerBuilder(optimizer=settings, regularizer=None), Two()) == pytest.approx([1.9, 1.9])


def test_adamw_decays_apart_from_the_gradient() -> None:
    settings = {"type": "AdamW", "weight_decay": 0.5, "without_weight_decay_params": ["first"]}
    found = run(OptimizerBuilder(optimizer=settings), Two())
    assert found == pytest.approx([1.9, 2 * (1 - 0.1 * 0.5) - 0.1])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"optimizer": {"type": "Lion"}}, "Lion.*Momentum"),
        ({"optimizer": {"type": "SGD", "momentum": 0.9}}, "takes no momentum"),
        ({"regularizer": {"type": "L3"}}, "L3"),
        ({"regularizer": {"kind": "L2"}}, "kind"),
        ({"clip_grad_by_norm": 1.0, "clip_grad_by_value": 1.0}, "exclude"),
    ],
)
def test_nonsense_is_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ScheduleError, match=text):
        OptimizerBuilder(**arguments)


def test_names_that_fit_nothing_are_refused() -> None:
    settings = {"type": "SGD", "without_weight_decay_params": ["norm"]}
    with pytest.raises(ScheduleError, match="'norm'"):
        OptimizerBuilder(optimizer=settings).build(0.1, Two())
    with pytest.raises(ScheduleError, match="params, learning_rate"):
        OptimizerBuilder(optimizer={"type": "SGD", "param_groups": [{"lr": 1}]}).build(0.1, Two())
    model = Two()
    for parameter in model.parameters():
        parameter.trainable = False
    with pytest.raises(ScheduleError, match="trainable"):
        OptimizerBuilder().build(0.1, model)


def test_settings_of_one_model_do_not_leak_into_the_next() -> None:
    builder = OptimizerBuilder(
        optimizer={"type": "SGD", "param_groups": [{"params": ["first"], "learning_rate": 0.5}]}
    )
    assert np.allclose(run(builder, Two()), run(builder, Two()))
