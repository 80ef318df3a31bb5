"""Protects optimisers and schedules in a YAML: those of Paddle, those of 2.x's spelling, and a user's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from paddle import nn

from ppdet.config import ConfigError
from ppdet.experiment.config import Experiment, load_config
from tests.config.toys import load

OWN = """
from typing import Any

import paddle
import ppdet
from ppdet.config import Derived
from ppdet.engine.schedules import Decay


@ppdet.register
def Halving(
    *, learning_rate: Derived[Any], parameters: Derived[Any], factor: float = 0.5
) -> paddle.optimizer.Optimizer:
    return paddle.optimizer.Momentum(learning_rate, momentum=factor, parameters=parameters)


@ppdet.register
class PolyDecay(Decay):
    def __init__(self, *, power: float = 0.9, epochs: int = 10) -> None:
        super().__init__()
        self.power, self.epochs = power, epochs

    def rate(self, base_lr: float, step: int, steps_per_epoch: int, warmup_steps: int) -> float:
        return base_lr * (1 - step / (self.epochs * steps_per_epoch)) ** self.power
"""


def optimizer_of(experiment: Experiment) -> object:
    assert experiment.OptimizerBuilder is not None
    return experiment.OptimizerBuilder.build().build(0.1, nn.Linear(2, 2))


def test_paddles_optimisers_by_name(tmp_path: Path) -> None:
    for text, name in (
        ("{type: RMSProp, rho: 0.8}", "RMSProp"),
        ("{momentum: 0.8, use_nesterov: true}", "Momentum"),
        ("{type: AdamW, weight_decay: 0.05}", "AdamW"),
        ("!Adam {beta1: 0.8}", "Adam"),
    ):
        experiment = load(tmp_path, f"OptimizerBuilder: {{optimizer: {text}}}\n")
        assert type(optimizer_of(experiment)).__name__ == name
        (tmp_path / "again.yml").write_text(experiment.to_yaml(), "utf-8")
        assert load_config(tmp_path / "again.yml").OptimizerBuilder == experiment.OptimizerBuilder


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{type: Lion}",
            "x.yml:2: OptimizerBuilder.optimizer: not provided: Lion .*Optimizers here: Adadelta, ",
        ),
        ("{type: Adm}", "there is no component Adm; did you mean 'Adam'"),
        ("{type: SGD, momentum: 0.9}", "OptimizerBuilder.optimizer.momentum: SGD has no argument 'momentum'"),
        ("{type: Adam, beta1: x}", "beta1: expected a number from 0 and below 1, got the string 'x'"),
        ("{type: ResNet}", "ResNet is no Optimizer; there are: Adadelta, .*SGD$"),
    ],
)
def test_what_is_no_optimiser(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, f"OptimizerBuilder: {{optimizer: {text}}}\n")


def test_groups_are_taken_where_2x_has_them(tmp_path: Path) -> None:
    groups = "[{params: [weight], learning_rate: 0.5}]"
    spared = "without_weight_decay_params: [bias]"
    inside = load(
        tmp_path, f"OptimizerBuilder: {{optimizer: {{type: AdamW, param_groups: {groups}, {spared}}}}}\n"
    )
    outside = load(
        tmp_path, f"OptimizerBuilder: {{optimizer: {{type: AdamW}}, param_groups: {groups}, {spared}}}\n"
    )
    assert inside.OptimizerBuilder == outside.OptimizerBuilder
    assert inside.OptimizerBuilder is not None
    assert inside.OptimizerBuilder.arguments["param_groups"] == [{"params": ["weight"], "learning_rate": 0.5}]
    twice = f"{{optimizer: {{type: AdamW, param_groups: {groups}}}, param_groups: {groups}}}"
    with pytest.raises(
        ConfigError, match=r"OptimizerBuilder.optimizer.param_groups: is written twice, .* remove one"
    ):
        load(tmp_path, f"OptimizerBuilder: {twice}\n")


def test_an_optimiser_and_a_schedule_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN, "utf-8")
    text = "plugins: [own.py]\nOptimizerBuilder: {optimizer: {type: Halving, factor: 0.25}}\n"
    text += "LearningRate: {base_lr: 1.0, schedulers: [{PolyDecay: {power: 1.0}}]}\n"
    experiment = load(tmp_path, text)
    assert optimizer_of(experiment)._momentum == 0.25  # type: ignore[attr-defined]
    assert experiment.LearningRate is not None
    schedule = experiment.LearningRate.build().build(steps_per_epoch=2)
    assert [schedule.rate_at(step) for step in (0, 5, 10)] == pytest.approx([1.0, 0.75, 0.5])
    assert "Halving" in experiment.to_yaml()
