"""Protects the moving average: the decays of 2.x, its correction, and the weights the model gets back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import paddle
import pytest

from ppdet.engine.ema import EmaSettings, ModelEma
from ppdet.engine.settings import TrainSettings
from ppdet.utils.errors import CheckpointError
from tests.engine.toys import ToyDetector, assert_same, make_trainer, weights_of

DECAYS: dict[str, Any] = {
    "threshold": lambda t: min(0.9, (1 + t) / (10 + t)),
    "normal": lambda t: 0.9,
    "exponential": lambda t: 0.9 * (1 - math.exp(-(t + 1) / 2000)),
}


@pytest.mark.parametrize("kind", DECAYS)
def test_against_the_formula(kind: Any) -> None:
    model = ToyDetector()
    ema = ModelEma(EmaSettings(decay=0.9, decay_type=kind), model)
    average = np.zeros([4], np.float64)
    for step in range(200):
        model.conv.bias.set_value(paddle.to_tensor(np.sin(step + np.arange(4)).astype(np.float32)))
        ema.update()
        decay = DECAYS[kind](step)
        average = decay * average + (1 - decay) * np.sin(step + np.arange(4))
        expected = average if kind == "exponential" else average / (1 - decay ** (step + 1))
        np.testing.assert_allclose(ema.averaged()["conv.bias"].numpy(), expected, rtol=1e-4, atol=1e-5)


def test_constant_weights_average_to_themselves_and_whole_numbers_pass() -> None:
    model = ToyDetector()
    model.register_buffer("count", paddle.to_tensor([3], dtype="int64"))
    ema = ModelEma(EmaSettings(decay_type="normal", black_list=["head"]), model)
    for _ in range(3):
        ema.update()
    state = model.state_dict()
    for key, value in ema.averaged().items():
        np.testing.assert_allclose(value.numpy(), state[key].numpy(), rtol=1e-3, atol=1e-6, err_msg=key)
    assert not any("head" in key or "count" in key for key in ema.state()["average"])


def test_before_the_first_step_it_is_the_model() -> None:
    model = ToyDetector()
    state = ModelEma(EmaSettings(), model).averaged()
    assert_same(
        {k: v.numpy() for k, v in state.items()}, {k: v.numpy() for k, v in model.state_dict().items()}
    )


def test_average_is_evaluated_and_saved_and_the_model_goes_on_with_its_own(tmp_path: Any) -> None:
    from ppdet.engine.checkpoint import BEST, RunFolder
    from ppdet.utils import safe_pickle

    seen: list[dict[str, np.ndarray]] = []

    def evaluate() -> dict[str, dict[str, float]]:
        assert not trainer.model.training
        seen.append(weights_of(trainer))
        return {"bbox": {"AP": float(len(seen))}}

    settings = TrainSettings(epochs=2, ema=EmaSettings(decay=0.99))
    trainer = make_trainer(settings=settings, folder=RunFolder(tmp_path), evaluate=evaluate)
    trainer.train()
    plain = make_trainer(settings=settings)
    plain.train()
    assert_same(weights_of(trainer), weights_of(plain))
    saved = safe_pickle.load(tmp_path / f"{BEST}.pdparams")
    saved.pop("ppdet_metadata")
    assert_same(saved, seen[-1])
    assert (seen[-1]["conv.weight"] != weights_of(trainer)["conv.weight"]).any()


def test_resuming_with_and_without_must_agree(tmp_path: Any) -> None:
    from ppdet.engine.checkpoint import RunFolder

    make_trainer(folder=RunFolder(tmp_path)).train()
    other = make_trainer(settings=TrainSettings(epochs=4, ema=EmaSettings()))
    with pytest.raises(CheckpointError, match=r"no moving average.*use_ema"):
        other.resume(str(tmp_path))
