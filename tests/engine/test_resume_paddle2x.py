"""Protects resuming a PaddleDetection 2.x training: it goes on as if never stopped, or says why not.

The pairs are written by Paddle itself, from a loop like that of 2.x.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Optional

import numpy as np
import paddle
import pytest

from ppdet.engine.ema import EmaSettings
from ppdet.engine.settings import TrainSettings
from ppdet.engine.trainer import Trainer
from ppdet.utils.errors import CheckpointError, UserError
from tests.engine.toys import ToyDetector, ToyLoader, make_trainer

SETTINGS = TrainSettings(epochs=2, max_iters=5, log_iter=1)
#: Warm-up over 3 steps, then a tenth from epoch 1 on: the toys' schedule in the words of 2.x.
RATES = [0.1 / 3, 0.1 * 5 / 9, 0.1 * 7 / 9, 0.01]
KINDS = {
    "Momentum": {"type": "Momentum", "momentum": 0.9},
    "Adam": {"type": "Adam"},
    "AdamW": {"type": "AdamW", "weight_decay": 0.01},
}


def train_2x(kind: str, save_at: Path, **entries: Any) -> dict[str, np.ndarray]:
    """Train 5 steps with Paddle alone, save after 3 (one epoch) as 2.x does; weights at the end.

    Keyword arguments replace entries of the `.pdopt`; None removes them.
    """
    paddle.seed(11)
    paddle.nn.Linear(2, 2)  # so that numbers of parameters differ from those of any other model here
    model = ToyDetector(noise=False)
    schedule = paddle.optimizer.lr.PiecewiseDecay([1, 2, 3], RATES)
    arguments: dict[str, Any] = {
        "Momentum": {"momentum": 0.9, "weight_decay": paddle.regularizer.L2Decay(1e-4)},
        "Adam": {"weight_decay": paddle.regularizer.L2Decay(1e-4)},
        "AdamW": {"weight_decay": 0.01},
    }[kind]
    optimizer = getattr(paddle.optimizer, kind)(
        schedule, parameters=[p for p in model.parameters() if p.trainable], **arguments
    )
    loader = ToyLoader(3)
    for step in range(5):
        sum(model(loader.batch(*divmod(step, 3))).values()).backward()
        optimizer.step()
        optimizer.clear_grad()
        schedule.step()
        if step == 2:
            paddle.save(model.state_dict(), f"{save_at}.pdparams")
            state = {**optimizer.state_dict(), "last_epoch": 1, **entries}
            paddle.save({k: v for k, v in state.items() if v is not None}, f"{save_at}.pdopt")
    return {key: value.numpy() for key, value in model.state_dict().items()}


def ours(kind: str = "Momentum", *, batches: int = 3, settings: TrainSettings = SETTINGS) -> Trainer:
    return make_trainer(
        model=ToyDetector(noise=False),
        loader=ToyLoader(batches),
        optimizer=KINDS[kind],
        settings=settings,
    )


@pytest.mark.parametrize("suffix", ["", ".pdparams", ".pdopt"])
@pytest.mark.parametrize("kind", KINDS)
def test_goes_on_as_if_never_stopped(
    tmp_path: Path, kind: str, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ppdet")
    expected = train_2x(kind, tmp_path / "0")
    trainer = ours(kind)
    trainer.resume(f"{tmp_path / '0'}{suffix}")
    assert (trainer.progress.step, trainer.progress.epoch, trainer.progress.batch) == (3, 1, 0)
    assert trainer.optimizer.get_lr() == pytest.approx(0.01)
    said = [record.getMessage() for record in caplog.records if "2.x" in record.getMessage()]
    entries = 6 * (1 if kind == "Momentum" else 4)
    assert len(said) == 1 and f"{entries} optimiser entries" in said[0] and "step 3, epoch 1" in said[0]
    trainer.train()
    assert trainer.loader.seen == [(1, 0), (1, 1)]
    for key, value in trainer.model.state_dict().items():
        np.testing.assert_allclose(value.numpy(), expected[key], rtol=1e-6, atol=1e-7, err_msg=key)


def test_without_its_momentum_it_would_be_another_run(tmp_path: Path) -> None:
    expected = train_2x("Momentum", tmp_path / "0")
    trainer = ours()
    trainer.resume(str(tmp_path / "0"))
    trainer.optimizer._accumulators_holder.clear()
    trainer.train()
    assert np.abs(trainer.model.head.weight.numpy() - expected["head.weight"]).max() > 1e-4


def test_what_it_saves_is_an_ordinary_checkpoint(tmp_path: Path) -> None:
    from ppdet.engine.checkpoint import RunFolder

    train_2x("Momentum", tmp_path / "0")
    first = ours()
    first.folder = RunFolder(tmp_path / "run")
    first.resume(str(tmp_path / "0"))
    first.train()
    again = ours()
    again.resume(str(tmp_path / "run"))
    assert again.progress.step == 5


def test_steps_and_rates_that_differ_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train_2x("Momentum", tmp_path / "0", LR_Scheduler={"last_epoch": 3, "last_lr": 0.5})
    trainer = ours(batches=4)
    trainer.resume(str(tmp_path / "0"))
    assert "had 3 steps in an epoch, this run has 4" in caplog.text
    assert "had learning rate 0.5 at step 3, LearningRate gives 0.1" in caplog.text
    assert trainer.optimizer.get_lr() == pytest.approx(0.1)  # the config's, from the first step on


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"last_epoch": None}, r"0\.pdopt: neither of ppdet nor of PaddleDetection 2\.x.*pretrain_weights"),
        ({"LR_Scheduler": None}, r"0\.pdopt: neither of ppdet nor"),
        ({"last_epoch": "1"}, r"0\.pdopt: last_epoch is '1'"),
        ({"LR_Scheduler": {"last_lr": 0.1}}, r"0\.pdopt: LR_Scheduler\.last_epoch is None"),
        ({"last_epoch": 0}, r"0\.pdopt: 0 epochs, 3 steps; there is nothing"),
        (
            {"conv2d_0.w_9_velocity_0": paddle.ones([1])},
            r"0\.pdopt: .*belongs to no parameter.*same training",
        ),
        ({"master_weights": {"nobody": paddle.ones([1])}}, r"0\.pdopt: master_weights do not fit.*nobody"),
    ],
)
def test_state_that_makes_no_sense_is_named(tmp_path: Path, entries: dict[str, Any], message: str) -> None:
    train_2x("Momentum", tmp_path / "0", **entries)
    with pytest.raises(UserError, match=message):
        ours().resume(str(tmp_path / "0"))


def rewrite(path: Path, drop: str, replacement: Optional[np.ndarray] = None) -> None:
    """Replace or remove the entry of a `.pdopt` whose name ends in `drop`."""
    state = paddle.load(str(path))
    name = next(key for key in state if key.endswith(drop))
    if replacement is None:
        del state[name]
    else:
        state[name] = paddle.to_tensor(replacement)
    paddle.save(state, str(path))


@pytest.mark.parametrize(
    ("replacement", "message"),
    [
        (None, r"0\.pdopt: does not fit Momentum.*1 entries missing \['head.bias/velocity'\]"),
        (np.ones(7, np.float32), r"1 of another shape \['head.bias/velocity'\].*freeze_at"),
    ],
)
def test_entries_that_do_not_fit_leave_the_run_alone(
    tmp_path: Path, replacement: Optional[np.ndarray], message: str
) -> None:
    train_2x("Momentum", tmp_path / "0")
    head = [key for key in paddle.load(str(tmp_path / "0.pdopt")) if ".b_0_velocity" in key][-1]
    rewrite(tmp_path / "0.pdopt", head, replacement)
    trainer = ours()
    before = trainer.model.head.weight.numpy().copy()
    with pytest.raises(CheckpointError, match=message):
        trainer.resume(str(tmp_path / "0"))
    np.testing.assert_array_equal(trainer.model.head.weight.numpy(), before)
    assert trainer.progress.step == 0


def test_another_optimizer_or_freezing_is_an_error(tmp_path: Path) -> None:
    train_2x("Momentum", tmp_path / "0")
    with pytest.raises(CheckpointError, match=r"does not fit Adam .*24 entries missing.*6 without a place"):
        ours("Adam").resume(str(tmp_path / "0"))
    model = ToyDetector(noise=False)
    model.conv.weight.trainable = False
    with pytest.raises(CheckpointError, match=r"1 without a place \['conv.weight/velocity'\]"):
        make_trainer(model=model, loader=ToyLoader(3), settings=SETTINGS).resume(str(tmp_path / "0"))


def test_a_missing_half_is_named(tmp_path: Path) -> None:
    train_2x("Momentum", tmp_path / "0")
    (tmp_path / "0.pdopt").rename(tmp_path / "kept")
    with pytest.raises(UserError, match=r"0\.pdopt: missing.*pretrain_weights: .*0\.pdparams"):
        ours().resume(str(tmp_path / "0.pdparams"))
    (tmp_path / "kept").rename(tmp_path / "0.pdopt")
    (tmp_path / "0.pdparams").unlink()
    with pytest.raises(UserError, match=r"0\.pdparams: cannot be read"):
        ours().resume(str(tmp_path / "0"))


def test_weights_without_parameter_names(tmp_path: Path) -> None:
    train_2x("Momentum", tmp_path / "0")
    weights = paddle.load(str(tmp_path / "0.pdparams"), return_numpy=True)
    paddle.save({**weights, "note": 1}, str(tmp_path / "0.pdparams"))  # no state dict to Paddle: no names
    with pytest.raises(UserError, match=r"0\.pdparams: has no StructuredToParameterName@@.*paddle\.save"):
        ours().resume(str(tmp_path / "0"))


def test_weights_of_another_training(tmp_path: Path) -> None:
    train_2x("Momentum", tmp_path / "0")
    paddle.save(ToyDetector(noise=False).state_dict(), str(tmp_path / "0.pdparams"))
    with pytest.raises(UserError, match=r"0\.pdopt: optimiser state .* belongs to no parameter"):
        ours().resume(str(tmp_path / "0"))


def test_bfloat16_weights_are_not_taken_for_numbers(tmp_path: Path) -> None:
    train_2x("Momentum", tmp_path / "0")
    state = paddle.load(str(tmp_path / "0.pdparams"), keep_name_table=True)
    names = state.pop("StructuredToParameterName@@")
    # Layer.bfloat16() leaves everything as it is on a processor without such instructions.
    whole = ToyDetector(noise=False).state_dict()
    half = {key: value.astype("bfloat16") for key, value in whole.items()}
    for key, value in half.items():
        value.name = names[key]
    paddle.save(half, str(tmp_path / "0.pdparams"))
    with pytest.raises(UserError, match=r"0\.pdparams: conv\.weight is uint16, not floating point"):
        ours().resume(str(tmp_path / "0"))


def test_moving_averages(tmp_path: Path) -> None:
    train_2x("Momentum", tmp_path / "0")
    with pytest.raises(UserError, match="no moving average, this run has one; make use_ema agree"):
        ours(settings=TrainSettings(epochs=2, ema=EmaSettings())).resume(str(tmp_path / "0"))
    (tmp_path / "0.pdema").write_bytes(b"")
    with pytest.raises(UserError, match=r"0\.pdema: .*average, which cannot continue.*pretrain_weights"):
        ours().resume(str(tmp_path / "0"))
