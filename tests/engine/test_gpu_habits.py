"""Protects what runs on GPUs only, with recorders in the place of Paddle's functions.

Copies, layouts, mixed precision, averaging. No GPU is needed, and none is tested: what Paddle does with these
calls is not known here.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any, Optional

import numpy as np
import paddle
import paddle.distributed as dist
import pytest
from paddle import nn

from ppdet.data.finish import Finish
from ppdet.data.transforms.normalize import NormalizeImage
from ppdet.engine import distributed
from ppdet.engine.amp import AmpSettings, Precision
from ppdet.engine.ema import EmaSettings
from ppdet.engine.settings import TrainSettings
from ppdet.engine.step import TrainStep
from ppdet.engine.tuning import tune
from ppdet.modeling.layers.norm import build_norm
from ppdet.structures import Batch
from ppdet.utils import device as device_module
from tests.engine.toys import ToyDetector, ToyLoader, make_trainer


class Calls:
    """What was called, in order, with which arguments."""

    def __init__(self) -> None:
        self.made: list[tuple[str, dict[str, Any]]] = []

    def note(self, name: str, **options: Any) -> None:
        self.made.append((name, options))

    def of(self, name: str) -> list[dict[str, Any]]:
        return [options for found, options in self.made if found == name]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """A GPU, as far as the functions that ask for one can tell."""
    recorded = Calls()
    monkeypatch.setattr(paddle, "get_device", lambda: "gpu:0")
    monkeypatch.setattr(paddle, "CUDAPinnedPlace", lambda: "pinned")
    plain = paddle.to_tensor

    def to_tensor(data: Any, dtype: Any = None, place: Any = None, stop_gradient: bool = True) -> Any:
        recorded.note("to_tensor", place=place)
        return plain(data, dtype=dtype, stop_gradient=stop_gradient)

    def cuda(tensor: Any, device_id: Optional[int] = None, blocking: bool = True) -> Any:
        recorded.note("cuda", blocking=blocking)
        return tensor

    monkeypatch.setattr(paddle, "to_tensor", to_tensor)
    monkeypatch.setattr(paddle.Tensor, "cuda", cuda)
    monkeypatch.setattr(paddle.device.cuda, "max_memory_allocated", lambda: 0)
    monkeypatch.setattr(
        paddle.incubate.autotune, "set_config", lambda config: recorded.note("set_config", **config)
    )
    return recorded


def test_a_batch_is_copied_from_pinned_memory_without_waiting(calls: Calls) -> None:
    loaded = ToyLoader(batches=1, size=2).batch(0, 0)
    arrays = {name: value.numpy() for name, value in loaded.tensors().items()}
    calls.made.clear()
    batch = Batch.from_arrays({**arrays, "image_ids": loaded.image_ids, "paths": loaded.paths})
    assert calls.of("to_tensor") == [{"place": "pinned"}] * len(arrays)
    assert calls.of("cuda") == [{"blocking": False}] * len(arrays)
    for name, value in batch.tensors().items():
        np.testing.assert_array_equal(value.numpy(), arrays[name])
    # The device may still read what was copied last.
    assert len(device_module._IN_FLIGHT) >= len(arrays)


def test_pixels_travel_as_bytes(calls: Calls) -> None:
    finish = Finish(NormalizeImage(mean=[0.5] * 3, std=[0.5] * 3, is_scale=True), None)
    pixels = np.full((2, 4, 6, 3), 255, np.uint8)
    image = finish(pixels, np.array([[4, 6], [2, 6]]))
    assert calls.of("to_tensor")[:2] == [{"place": "pinned"}] * 2
    assert image.shape == [2, 3, 4, 6]
    np.testing.assert_allclose(image[0].numpy(), 1.0)
    np.testing.assert_array_equal(image[1, :, 2:].numpy(), 0.0)


def test_on_a_processor_nothing_is_pinned() -> None:
    before = len(device_module._IN_FLIGHT)
    assert device_module.to_device(np.ones(3, np.float32)).place.is_cpu_place()
    assert len(device_module._IN_FLIGHT) == before


@pytest.mark.parametrize(("layout", "search"), [(True, False), (False, True), (True, True)])
def test_tuning_is_asked_for(calls: Calls, layout: bool, search: bool) -> None:
    tune(channels_last=False, cudnn_exhaustive_search=False)
    assert calls.of("set_config") == []
    tune(channels_last=layout, cudnn_exhaustive_search=search)
    assert calls.of("set_config") == [{"layout": {"enable": layout}, "kernel": {"enable": search}}]


def test_tuning_is_left_out_on_a_processor(caplog: pytest.LogCaptureFixture) -> None:
    tune(channels_last=True, cudnn_exhaustive_search=True)
    assert "channels_last and cudnn_exhaustive_search left out: for GPUs only, this is cpu" in caplog.text


class FakeScaler:
    """The scaler's state machine as Paddle documents it; overflows come as told.

    Each overflow divides the scale by 2 and leaves the update out; two good steps in a row double it.
    """

    overflows: Iterator[bool] = iter(())

    def __init__(self, *, init_loss_scaling: float) -> None:
        self._scale: Any = paddle.full([1], init_loss_scaling)
        self._found_inf: Any = paddle.zeros([1], "bool")
        self._good = 0

    def scale(self, loss: Any) -> Any:
        return loss * self._scale

    def unscale_(self, optimizer: Any) -> None:
        for parameter in optimizer._parameter_list:
            if parameter.grad is not None:
                parameter.grad = parameter.grad / self._scale
        self._found_inf = paddle.full([1], next(self.overflows), "bool")

    def step(self, optimizer: Any) -> None:
        if not bool(self._found_inf):
            optimizer.step()

    def update(self) -> None:
        if bool(self._found_inf):
            self._scale, self._good = self._scale / 2, 0
        else:
            self._good += 1
            if self._good == 2:
                self._scale, self._good = self._scale * 2, 0

    def state_dict(self) -> dict[str, Any]:
        return {"scale": self._scale.numpy(), "incr_count": self._good}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._scale, self._good = paddle.to_tensor(state["scale"]), state["incr_count"]


@pytest.fixture
def half(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """A GPU with float16 and without bfloat16; what is cast is recorded."""
    monkeypatch.setattr(paddle.amp, "is_bfloat16_supported", lambda: False)
    monkeypatch.setattr(paddle.amp, "is_float16_supported", lambda: True)
    monkeypatch.setattr(paddle.amp, "GradScaler", FakeScaler)

    @contextlib.contextmanager
    def auto_cast(**options: Any) -> Iterator[None]:
        calls.note("auto_cast", **options)
        yield

    monkeypatch.setattr(paddle.amp, "auto_cast", auto_cast)
    monkeypatch.setattr(
        paddle.amp, "decorate", lambda model, optimizer, **options: calls.note("decorate", **options)
    )
    return calls


def test_the_forward_pass_is_cast_and_the_backward_pass_scaled(half: Calls) -> None:
    FakeScaler.overflows = iter([False])
    model = ToyDetector(noise=False)
    optimizer = paddle.optimizer.Momentum(0.1, parameters=model.parameters())
    lists = {"custom_white_list": ["conv2d"], "custom_black_list": ["mean"]}
    step = TrainStep(model, optimizer, amp=AmpSettings(init_loss_scaling=1024.0, **lists))  # type: ignore[arg-type]
    batch = ToyLoader(batches=1, size=2).batch(0, 0)
    losses = step.backward([batch])
    assert half.of("auto_cast") == [{"level": "O1", "dtype": "float16", **lists}]
    assert half.of("decorate") == []
    scaled = float(step.gradient_norm())  # without the scale
    plain = ToyDetector(noise=False)
    plain.set_state_dict(model.state_dict())
    other = TrainStep(plain, paddle.optimizer.Momentum(0.1, parameters=plain.parameters()))
    expected = other.backward([batch])
    assert float(losses["loss"]) == pytest.approx(float(expected["loss"]))
    assert scaled == pytest.approx(float(other.gradient_norm()), rel=1e-4)
    assert step.update()


@pytest.mark.parametrize(("has", "wanted", "dtype"), [(True, "auto", "bfloat16"), (False, "auto", "float16")])
def test_bfloat16_is_taken_where_there_is_one(
    half: Calls, monkeypatch: pytest.MonkeyPatch, has: bool, wanted: Any, dtype: str
) -> None:
    monkeypatch.setattr(paddle.amp, "is_bfloat16_supported", lambda: has)
    model = nn.Linear(2, 2)
    precision = Precision(AmpSettings(level="O2", dtype=wanted, master_grad=True), model, None)  # type: ignore[arg-type]
    assert precision.dtype == dtype
    assert precision.scales == (dtype == "float16")
    decorated = {"level": "O2", "dtype": dtype, "master_weight": True, "master_grad": True}
    assert half.of("decorate") == [decorated]


def test_an_overflow_skips_the_step_and_its_average_and_survives_a_checkpoint(half: Calls) -> None:
    FakeScaler.overflows = iter([True, False, True, False, False, False])
    settings = TrainSettings(
        epochs=2, log_iter=1, amp=AmpSettings(init_loss_scaling=64.0), ema=EmaSettings(decay=0.5)
    )
    trainer = make_trainer(loader=ToyLoader(batches=3, size=2), settings=settings)
    averages: list[int] = []
    assert trainer.ema is not None
    update = trainer.ema.update
    trainer.ema.update = lambda: (averages.append(trainer.progress.step), update())[1]  # type: ignore[method-assign]
    report = trainer.train()
    assert report.progress.step == 6
    assert averages == [1, 3, 4, 5]
    precision = trainer.state.precision
    assert precision.skipped == 2
    # 64 -> 32 (overflow), one good, -> 16 (overflow), two good -> 32, one good.
    assert precision.scale == 32.0
    saved = precision.state()
    assert saved == {"skipped": 2, "dtype": "float16", "scaler": {"scale": np.array([32.0]), "incr_count": 1}}
    again = Precision(settings.amp, trainer.model, trainer.optimizer)
    again.set_state(saved)
    assert (again.scale, again.skipped) == (32.0, 2)


def test_a_checkpoint_of_another_precision_is_told(half: Calls, caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Linear(2, 2)
    precision = Precision(AmpSettings(), model, None)  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        precision.set_state({"skipped": 0, "dtype": "bfloat16"})
    assert "trained in bfloat16, this run is in float16" in caplog.text


@pytest.fixture
def nccl(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Two processes that talk by NCCL, of which this is the second."""
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "get_backend", lambda: "NCCL")

    class Parallel(nn.Layer):
        def __init__(self, model: nn.Layer, find_unused_parameters: bool = False) -> None:
            super().__init__()
            calls.note("DataParallel", find_unused_parameters=find_unused_parameters)
            self.inner = model

        def forward(self, batch: Batch) -> Any:
            calls.note("forward")
            return self.inner(batch)

        @contextlib.contextmanager
        def no_sync(self) -> Iterator[None]:
            calls.note("no_sync")
            yield

    monkeypatch.setattr(paddle, "DataParallel", Parallel)
    return calls


def test_with_nccl_gradients_travel_within_the_last_backward_pass(nccl: Calls) -> None:
    model = ToyDetector(noise=False)
    optimizer = paddle.optimizer.Momentum(0.1, parameters=model.parameters())
    step = TrainStep(model, optimizer, find_unused_parameters=True)
    loader = ToyLoader(batches=3, size=2)
    step.backward([loader.batch(0, index) for index in range(3)])
    names = [name for name, _ in nccl.made if name not in ("to_tensor", "cuda")]
    assert names == ["DataParallel", "no_sync", "forward", "no_sync", "forward", "forward"]
    assert nccl.of("DataParallel") == [{"find_unused_parameters": True}]
    assert not distributed.averages_after_backward()


@pytest.mark.parametrize(
    ("kind", "frozen", "expected"),
    [("sync_bn", False, nn.SyncBatchNorm), ("sync_bn", True, nn.BatchNorm2D), ("bn", False, nn.BatchNorm2D)],
)
def test_statistics_are_shared_between_gpus_where_they_are_trained(
    nccl: Calls, kind: str, frozen: bool, expected: type
) -> None:
    assert type(build_norm(4, kind, frozen=frozen)) is expected
