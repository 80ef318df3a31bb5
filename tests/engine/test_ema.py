"""Protects the moving average: the decays of 2.x, its correction, and the weights the model gets back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

from ppdet.engine.ema import EmaSettings, ModelEma
from ppdet.engine.settings import TrainSettings
from ppdet.modeling.layers.norm import build_norm
from ppdet.utils.errors import CheckpointError
from tests.engine.toys import ToyDetector, assert_same, make_trainer, weights_of
from tests.support import load_golden

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


def test_the_average_of_rtdetr_leaves_out_what_is_not_trained() -> None:
    """Against the reference: four updates of type exponential, frozen weights being the live ones."""
    arrays, _ = load_golden("modern_units")
    prefix = "ema/exponential"
    model = nn.Layer()
    model.fc, model.bn = nn.Linear(2, 3), nn.BatchNorm1D(2)
    model.proj_conv, model.frozen = nn.Conv2D(1, 1, [3, 1], bias_attr=False), nn.Linear(2, 2)
    model.proj_conv.weight = model.create_parameter([1, 3, 1, 1])
    for parameter in model.frozen.parameters():
        parameter.trainable = False

    def become(moment: str) -> None:
        for key, value in model.state_dict().items():
            value.set_value(arrays[f"{prefix}/{moment}/{key}"])

    become("start")
    settings = EmaSettings(decay=0.9999, decay_type="exponential", filter_no_grad=True)
    ema = ModelEma(settings, model)
    for t in range(4):
        become(f"model{t}")
        ema.update()
    assert not any("frozen" in key for key in ema.state()["average"])
    assert any("_mean" in key for key in ema.state()["average"])
    for key, value in ema.averaged().items():
        np.testing.assert_allclose(value.numpy(), arrays[f"{prefix}/applied/{key}"], rtol=1e-5, atol=1e-6)
    assert ema.averaged()["frozen.bias"].tolist() == model.frozen.bias.tolist()


def test_statistics_of_frozen_norms_are_not_averaged() -> None:
    model = nn.Sequential(build_norm(2, frozen=True), build_norm(2))
    average = ModelEma(EmaSettings(filter_no_grad=True), model).state()["average"]
    assert {key.split(".")[0] for key in average} == {"1"}
    assert len(average) == 4


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
