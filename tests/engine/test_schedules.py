"""Protects learning rates: those of 2.x at every recorded step, and what 2.x gets wrong done right."""

from __future__ import annotations

import json
import math
from typing import Any

import paddle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppdet.config.spec import Spec
from ppdet.engine.schedules import (
    BurninWarmup,
    CosineDecay,
    ExpWarmup,
    LearningRate,
    LinearWarmup,
    PiecewiseDecay,
    ScheduleError,
    batch_scale,
)
from tests.support import golden_file

SCHEDULES = json.loads(golden_file("learning_rates.json").read_text())["schedules"]


@pytest.mark.parametrize("name", SCHEDULES)
def test_golden(name: str) -> None:
    row: dict[str, Any] = SCHEDULES[name]
    decay = Spec.of(PiecewiseDecay, gamma=row["gamma"], milestones=row["milestones"])
    warmup = Spec.of(LinearWarmup, start_factor=row["start_factor"], steps=row["warmup_steps"])
    schedule = LearningRate(base_lr=row["base_lr"], schedulers=[decay, warmup]).build(row["step_per_epoch"])
    assert len(row["iterations"]) > 15
    for step, expected in zip(row["iterations"], row["lr"]):
        assert schedule.rate_at(step) == pytest.approx(expected, rel=0, abs=1e-12), step


def rates(*schedulers: Spec[Any], steps: range, per_epoch: int = 10, base_lr: float = 1.0) -> list[float]:
    schedule = LearningRate(base_lr=base_lr, schedulers=list(schedulers)).build(per_epoch)
    return [schedule.rate_at(step) for step in steps]


def test_one_gamma_is_a_power_per_milestone() -> None:
    assert rates(
        Spec.of(PiecewiseDecay, gamma=0.5, milestones=[1, 2, 3]), steps=range(5, 40, 10)
    ) == pytest.approx([1, 0.5, 0.25, 0.125])


def test_values_are_rates_and_the_warm_up_leads_to_the_first() -> None:
    decay = Spec.of(PiecewiseDecay, milestones=[1], values=[0.4, 0.1])
    assert rates(decay, Spec.of(LinearWarmup, steps=4, start_factor=0), steps=range(5)) == pytest.approx(
        [0, 0.1, 0.2, 0.3, 0.4]
    )
    assert rates(decay, steps=range(9, 11)) == [0.4, 0.1]


def test_warm_up_in_epochs_and_left_out() -> None:
    warmup = Spec.of(LinearWarmup, epochs=1, steps=3, start_factor=0.0)
    assert rates(warmup, steps=range(0, 11, 5)) == [0.0, 0.5, 1.0]
    by_steps = Spec.of(LinearWarmup, epochs=1, steps=3, start_factor=0.0, epochs_first=False)
    assert rates(by_steps, steps=range(3, 4)) == [1.0]
    assert rates(Spec.of(PiecewiseDecay, use_warmup=False), warmup, steps=range(1)) == [1.0]


def test_powers() -> None:
    assert rates(Spec.of(ExpWarmup, steps=10), steps=range(5, 11, 5)) == [0.25, 1.0]
    assert rates(Spec.of(BurninWarmup, steps=10), steps=range(5, 6)) == [0.0625]


def test_cosine() -> None:
    cosine = Spec.of(CosineDecay, max_epochs=3, min_lr_ratio=0.1, last_plateau_epochs=1)
    found = rates(cosine, Spec.of(LinearWarmup, steps=4), steps=range(4, 40), base_lr=2.0)
    expected = [0.2 + 1.8 * 0.5 * (math.cos(math.pi * i / 16) + 1) for i in range(16)] + [0.2] * 20
    assert found == pytest.approx(expected)


def test_cosine_is_paddles_without_extras() -> None:
    theirs = paddle.optimizer.lr.CosineAnnealingDecay(0.5, T_max=40, eta_min=0.0)
    for ours in rates(Spec.of(CosineDecay, max_epochs=4), steps=range(40), base_lr=0.5):
        assert ours == pytest.approx(theirs(), abs=1e-9)
        theirs.step()


def test_state_goes_on_in_another_schedule() -> None:
    def make() -> Any:
        return LearningRate(base_lr=1.0).build(100)

    first, second = make(), make()
    for _ in range(321):
        first.step()
    second.set_state_dict(first.state_dict())
    second.step()
    first.step()
    assert second() == first() == first.rate_at(322)


@given(st.integers(1, 10**4), st.integers(1, 10**4))
def test_scale_is_linear_in_the_batch(total: int, reference: int) -> None:
    assert batch_scale(total, reference) * reference == pytest.approx(total)
    assert batch_scale(total, None) == 1.0


def test_scale_reaches_every_rate() -> None:
    schedule = LearningRate(base_lr=0.01).build(1000, scale=0.25)
    assert schedule.rate_at(0) == pytest.approx(0.01 / 3 / 4)
    assert schedule.rate_at(9000) == pytest.approx(0.001 / 4)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: PiecewiseDecay(milestones=[11, 8]), "rise"),
        (lambda: PiecewiseDecay(gamma=[0.1]), "1 gammas for 2"),
        (lambda: PiecewiseDecay(values=[0.1]), "1 values for 2"),
        (lambda: LinearWarmup(steps=-1), "-1"),
        (lambda: CosineDecay(max_epochs=2, last_plateau_epochs=2), "outside"),
        (lambda: LearningRate(schedulers=[Spec.of(PiecewiseDecay)] * 2), "one decay"),
        (lambda: batch_scale(4, 0), "reference_batch_size 0"),
    ],
)
def test_nonsense_is_refused(make: Any, text: str) -> None:
    with pytest.raises(ScheduleError, match=text):
        make()
