"""Protects gradients: accumulated ones are those of the whole batch, also when the last window is short."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest

from ppdet.engine.amp import AmpSettings, Precision
from ppdet.engine.ema import EmaSettings
from ppdet.engine.settings import TrainSettings
from ppdet.engine.step import TrainStep
from ppdet.structures import Batch, BatchTargets
from ppdet.utils.errors import TrainingError
from tests.engine.toys import ToyDetector, ToyLoader, make_batch, make_trainer, weights_of


def joined(batches: list[Batch]) -> Batch:
    def cat(name: str, owner: Any = None) -> Any:
        return paddle.concat([getattr(b if owner is None else b.targets, name) for b in batches])

    return Batch(
        **{name: cat(name) for name in ("images", "image_sizes", "scale_factors")},
        image_ids=tuple(i for b in batches for i in b.image_ids),
        paths=tuple(p for b in batches for p in b.paths),
        targets=BatchTargets(**{n: cat(n, "targets") for n in ("boxes", "labels", "is_crowd", "weights")}),
    )


class Windows(ToyLoader):
    """The batches of another loader, in groups as one batch each; the last group may be short."""

    def __init__(self, inner: ToyLoader, group: int) -> None:
        super().__init__(batches=-(-len(inner) // group))
        self._inner, self._group = inner, group

    def batch(self, epoch: int, index: int) -> Batch:
        last = min(len(self._inner), (index + 1) * self._group)
        return joined([self._inner.batch(epoch, i) for i in range(index * self._group, last)])


@pytest.mark.parametrize("ema", [None, EmaSettings(decay=0.9)])
def test_accumulated_run_equals_large_batches(ema: Any) -> None:
    """5 batches of 2 in windows of 2: the last window of an epoch has one batch."""
    small, large = ToyLoader(batches=5), Windows(ToyLoader(batches=5), 2)
    runs = [
        make_trainer(
            model=ToyDetector(noise=False, norm=False),
            loader=loader,
            settings=TrainSettings(epochs=3, log_iter=100, accumulate=accumulate, ema=ema),
        )
        for loader, accumulate in ((small, 2), (large, 1))
    ]
    runs[1].model.set_state_dict(runs[0].model.state_dict())
    for run in runs:
        run.train()
        assert run.progress.step == 9
    one, other = (run.state.weights() for run in runs)
    for key in one:
        np.testing.assert_allclose(one[key], other[key], rtol=1e-5, atol=1e-6, err_msg=key)


def test_batches_of_unequal_size_weigh_by_their_images() -> None:
    window = [make_batch(1, 3), make_batch(2, 1)]
    model = ToyDetector(noise=False, norm=False)
    step = TrainStep(model, make_trainer(model=model).optimizer)
    losses = step.backward(window)
    gradient = model.head.weight.grad.numpy().copy()
    step.discard()
    whole = step.backward([joined(window)])
    np.testing.assert_allclose(gradient, model.head.weight.grad.numpy(), rtol=1e-5)
    assert float(losses["loss"]) == pytest.approx(float(whole["loss"]), rel=1e-5)


def test_accumulated_run_resumes(tmp_path: Any) -> None:
    from ppdet.engine.checkpoint import RunFolder

    def make(**more: Any) -> Any:
        settings = TrainSettings(epochs=2, accumulate=2, ema=EmaSettings(), **more)
        return make_trainer(settings=settings, folder=RunFolder(tmp_path))

    whole, first, second = make(), make(max_iters=2), make()
    whole.train()
    expected, average = weights_of(whole), whole.state.weights()
    first.train()
    second.resume("auto")
    assert (second.progress.step, second.progress.batch) == (2, 4)
    second.train()
    for key, value in weights_of(second).items():
        np.testing.assert_array_equal(value, expected[key])
    for key, value in second.state.weights().items():
        np.testing.assert_array_equal(value, average[key])


def test_memory_error_names_shapes_and_images(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer()

    def full(*_: Any) -> Any:
        raise RuntimeError("ResourceExhaustedError: Out of memory error on GPU 0.")

    monkeypatch.setattr(trainer.model, "forward", full)
    with pytest.raises(TrainingError, match=r"\(2, 3, 8, 8\) with 1 boxes \(images 0, 1\).*batch_size"):
        trainer.train()


def test_other_errors_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer()

    def broken(*_: Any) -> Any:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(trainer.model, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        trainer.train()


# -- mixed precision; Paddle has none on CPUs, so the scaler is played


class Scaler:
    """Overflows at the steps it is told; the interface of paddle.amp.GradScaler."""

    def __init__(self, overflows: list[bool]) -> None:
        self._overflows, self.count, self.scale_value = overflows, 0, 8.0

    def scale(self, loss: Any) -> Any:
        return loss * self.scale_value

    def unscale_(self, optimizer: Any) -> None:
        for parameter in optimizer._parameter_list:
            if parameter.grad is not None:
                parameter.grad.set_value(parameter.grad / self.scale_value)
        self._found_inf = paddle.to_tensor([self._overflows[self.count]])

    def step(self, optimizer: Any) -> None:
        if not bool(self._found_inf):
            optimizer.step()

    def update(self) -> None:
        self.scale_value *= 0.5 if bool(self._found_inf) else 1.0
        self.count += 1

    def state_dict(self) -> dict[str, Any]:
        return {"scale": np.float32(self.scale_value), "incr_count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scale_value, self.count = float(state["scale"]), int(state["incr_count"])


def test_overflowing_steps_are_counted_and_leave_weights_and_average_alone() -> None:
    trainer = make_trainer(settings=TrainSettings(epochs=1, log_iter=9, ema=EmaSettings()))
    trainer._step.precision._scaler = Scaler([True, True, False, True, False])
    trainer.train()
    assert trainer._step.precision.skipped == 3
    assert trainer.ema is not None
    assert trainer.ema.step == 2
    assert trainer.progress.step == 5
    assert trainer.progress.skipped == 0


def test_scaler_state_is_saved() -> None:
    model = ToyDetector()
    optimizer = make_trainer(model=model).optimizer
    one, other = (Precision(None, model, optimizer) for _ in range(2))
    one._scaler, other._scaler = Scaler([True, False]), Scaler([])
    for _ in range(2):
        one.backward(model(make_batch(0))["loss_box"])
        one.step(optimizer)
    other.set_state(one.state())
    assert (other._scaler.scale_value, other._scaler.count, other.skipped) == (4.0, 2, 1)


def test_cpu_goes_on_in_float32_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    plain, mixed = (
        make_trainer(settings=TrainSettings(epochs=1, amp=amp)) for amp in (None, AmpSettings(level="O2"))
    )
    assert "Paddle has it on GPUs only" in caplog.text
    for run in (plain, mixed):
        run.train()
    for key, value in weights_of(plain).items():
        np.testing.assert_array_equal(value, weights_of(mixed)[key])


def test_scaler_state_is_resumed(tmp_path: Any) -> None:
    from ppdet.engine.checkpoint import RunFolder

    first, second = (
        make_trainer(settings=TrainSettings(epochs=epochs), folder=RunFolder(tmp_path)) for epochs in (1, 2)
    )
    first._step.precision._scaler = Scaler([True, False, False, False, False])
    second._step.precision._scaler = Scaler([])
    first.train()
    second.resume("auto")
    precision = second._step.precision
    assert (precision._scaler.scale_value, precision._scaler.count, precision.skipped) == (4.0, 5, 1)


def test_draws_differ_by_step_and_process_and_seed_and_repeat() -> None:
    from ppdet.engine.state_dicts import seed_step

    def draw(*place: int) -> tuple[float, float]:
        seed_step(*place)
        return float(paddle.rand([1]).sum()), float(np.random.rand())

    places = [(0, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 0)]
    draws = [draw(*place) for place in places]
    assert len({first for first, _ in draws}) == len({second for _, second in draws}) == 4
    assert [draw(*place) for place in places] == draws
