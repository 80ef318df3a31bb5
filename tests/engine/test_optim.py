"""Protects the update rule: decay, own decay, rate factors, clipping and frozen parameters, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest
from paddle import ParamAttr, nn
from paddle.optimizer import Optimizer
from paddle.regularizer import L2Decay

from ppdet.config import Derived, Spec
from ppdet.config.components import COMPONENTS
from ppdet.engine import optimizers
from ppdet.engine.optim import OptimizerBuilder
from ppdet.engine.schedules import ScheduleError


def of(name: str, **arguments: Any) -> Spec[Optimizer]:
    """One of Paddle's optimisers."""
    return Spec.of(getattr(optimizers, name), **arguments)


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
        optimizer=of("Momentum", momentum=0.5), regularizer={"type": "L2", "factor": 0.01}
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
    builder = OptimizerBuilder(optimizer=of("SGD"), regularizer=regularizer)
    assert run(builder, Two()) == pytest.approx([1.7, 1.6])


def test_l1() -> None:
    builder = OptimizerBuilder(optimizer=of("SGD"), regularizer={"type": "L1", "factor": 1.0})
    assert run(builder, Two()) == pytest.approx([1.6, 1.5])


def test_clipping() -> None:
    by_norm = OptimizerBuilder(optimizer=of("SGD"), regularizer=None, clip_grad_by_norm=1.0)
    assert run(by_norm, Two()) == pytest.approx([2 - 0.06, 2 - 0.08], rel=1e-5)
    by_value = OptimizerBuilder(optimizer=of("SGD"), regularizer=None, clip_grad_by_value=3.5)
    assert run(by_value, Two()) == pytest.approx([1.7, 1.65])


def test_frozen_parameters_stay() -> None:
    assert run(OptimizerBuilder(optimizer=of("SGD"), regularizer=None), Two(trainable=False)) == [
        2.0,
        pytest.approx(1.6),
    ]


def test_groups_multiply_the_rate_and_spare_from_decay() -> None:
    builder = OptimizerBuilder(
        optimizer=of("SGD"),
        regularizer={"type": "L2", "factor": 1.0},
        param_groups=[{"params": ["first"], "learning_rate": 0.5}],
        without_weight_decay_params=["second"],
    )
    assert run(builder, Two(learning_rate=2.0)) == pytest.approx([2 - 0.1 * 5, 2 - 0.1 * 4])


@pytest.mark.parametrize("kind", ["Adam", "AdamW"])
def test_adam_steps_by_the_rate(kind: str) -> None:
    own = {"weight_decay": 0.0} if kind == "AdamW" else {}
    builder = OptimizerBuilder(optimizer=of(kind, beta1=0.8, **own), regularizer=None)
    assert run(builder, Two()) == pytest.approx([1.9, 1.9])


def test_adamw_decays_apart_from_the_gradient() -> None:
    builder = OptimizerBuilder(optimizer=of("AdamW", weight_decay=0.5), without_weight_decay_params=["first"])
    found = run(builder, Two())
    assert found == pytest.approx([1.9, 2 * (1 - 0.1 * 0.5) - 0.1])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"regularizer": {"type": "L3"}}, "L3"),
        ({"regularizer": {"kind": "L2"}}, "kind"),
        ({"clip_grad_by_norm": 1.0, "clip_grad_by_value": 1.0}, "exclude"),
    ],
)
def test_nonsense_is_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ScheduleError, match=text):
        OptimizerBuilder(**arguments)


def test_names_that_fit_nothing_are_refused() -> None:
    with pytest.raises(ScheduleError, match="'norm'"):
        OptimizerBuilder(without_weight_decay_params=["norm"]).build(0.1, Two())
    with pytest.raises(ScheduleError, match="params, learning_rate"):
        OptimizerBuilder(param_groups=[{"lr": 1}]).build(0.1, Two())
    model = Two()
    for parameter in model.parameters():
        parameter.trainable = False
    with pytest.raises(ScheduleError, match="trainable"):
        OptimizerBuilder().build(0.1, model)


def test_settings_of_one_model_do_not_leak_into_the_next() -> None:
    builder = OptimizerBuilder(
        optimizer=of("SGD"), param_groups=[{"params": ["first"], "learning_rate": 0.5}]
    )
    assert np.allclose(run(builder, Two()), run(builder, Two()))


def sign_descent(*, learning_rate: Derived[Any], parameters: Derived[Any]) -> Optimizer:
    """An optimiser of a user's own, that neither clips nor decays."""
    return paddle.optimizer.Rprop(
        learning_rate=learning_rate, parameters=parameters, learning_rate_range=(1e-9, 1.0)
    )


def test_an_optimiser_of_ones_own_takes_what_it_needs() -> None:
    assert run(OptimizerBuilder(optimizer=Spec.of(sign_descent)), Two()) == pytest.approx([1.9, 1.9])
    builder = OptimizerBuilder(optimizer=Spec.of(sign_descent), clip_grad_by_norm=1.0)
    with pytest.raises(ScheduleError, match="sign_descent takes no grad_clip"):
        builder.build(0.1, Two())


@pytest.mark.parametrize("name", [n for n, target in COMPONENTS.items() if "engine.optimizers:" in target])
def test_each_of_paddles_goes_downhill_clips_and_decays(name: str) -> None:
    """With a gradient that clipping makes nothing of, decay alone moves a parameter."""
    assert min(run(OptimizerBuilder(optimizer=of(name), clip_grad_by_norm=1.0), Two())) < 2.0
    own = {"weight_decay": 0.5} if name == "AdamW" else {}
    builder = OptimizerBuilder(
        optimizer=of(name, **own),
        regularizer={"type": "L2", "factor": 0.5},
        clip_grad_by_value=1e-30,
        without_weight_decay_params=["second"],
    )
    first, second = run(builder, Two(), steps=3)
    assert first < 2.0
    assert second == pytest.approx(2.0, abs=1e-6)
