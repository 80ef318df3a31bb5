"""Short trainings of every family, on the device and on the processor: their losses have to agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import paddle

from ppdet.config.packaged import packaged_configs
from ppdet.doctor.checks import Check
from ppdet.engine.amp import AmpSettings
from ppdet.engine.hooks import Hook, Run, StepLog
from ppdet.engine.settings import TrainSettings
from ppdet.engine.trainer import Trainer
from ppdet.experiment.build import build_training
from ppdet.experiment.config import load_config

#: How far the mean loss of the last steps may be from the processor's. Families that draw (anchors,
#: proposals, noise) draw other numbers on another device, so losses part; a fault makes them explode.
_APART = 0.25
_LAST = 5


class _Losses(Hook):
    """Keeps the sum of the losses of each step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def after_log(self, trainer: Run, log: StepLog) -> None:
        """Note it."""
        self.values.append(float(log.losses["loss"]))


def families() -> list[str]:
    """Small configs, one for each family."""
    names = sorted(name for name in packaged_configs() if name.startswith("quickstart_"))
    return [name for name in names if not name.endswith("_augmented")]


def check_training(config: str, data: Path, device: str, *, steps: int, amp: bool = False) -> Check:
    """Losses of some steps beside those of the processor, from the same weights.

    Args:
        config: Name of a config.
        data: Folder of a dataset as `ppdet data synth` makes it.
        device: Where to train, as `paddle.set_device` takes it.
        steps: Steps to train.
        amp: Train in mixed precision.
    """
    name = f"{config}, {'mixed precision' if amp else 'float32'}"
    try:
        expected = _losses(config, data, "cpu", steps)
        found = _losses(config, data, device, steps, amp=amp)
    except Exception as error:  # whatever it is, it is what the page is for
        return Check(name, False, f"{type(error).__name__}: {error}", {})
    finite = all(map(math.isfinite, found))
    first = abs(found[0] - expected[0]) / abs(expected[0])
    last, wanted = (sum(values[-_LAST:]) / len(values[-_LAST:]) for values in (found, expected))
    apart = abs(last - wanted) / abs(wanted)
    text = (
        f"first loss {found[0]:.4f} (processor {expected[0]:.4f}, {first:.1e} apart), last {last:.4f} "
        f"(processor {wanted:.4f})"
    )
    numbers = {"losses": found, "processor": expected}
    return Check(name, finite and apart < _APART, text, numbers)


def _losses(config: str, data: Path, device: str, steps: int, *, amp: bool = False) -> list[float]:
    experiment = load_config(config, _overrides(data))
    paddle.set_device("cpu")  # random weights of two devices differ
    weights = {name: value.cpu() for name, value in build_training(experiment).model.state_dict().items()}
    paddle.set_device(device)
    training = build_training(experiment)
    training.model.set_state_dict(weights)
    losses = _Losses()
    settings = TrainSettings(
        epochs=10**6, max_iters=steps, log_iter=1, snapshot_epoch=10**6, amp=AmpSettings() if amp else None
    )
    parts = (training.model, training.optimizer, training.schedule, training.loader)
    Trainer(*parts, settings, hooks=[losses]).train()
    training.loader.close()
    return losses.values


def _overrides(data: Path) -> Sequence[str]:
    return [f"TrainDataset.dataset_dir={data}", "worker_num=0", "seed=0", "TrainReader.batch_size=2"]
