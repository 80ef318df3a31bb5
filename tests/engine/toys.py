"""A model, batches and a loader small enough that a training run takes a second."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn

from ppdet.config.spec import Spec
from ppdet.engine import optimizers
from ppdet.engine.optim import OptimizerBuilder
from ppdet.engine.schedules import LearningRate, LinearWarmup, PiecewiseDecay
from ppdet.engine.settings import TrainSettings
from ppdet.engine.trainer import Trainer
from ppdet.structures import Batch, BatchTargets


def make_batch(seed: int, size: int = 2) -> Batch:
    """Random 8 x 8 images, each with one box."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 4, (size, 1, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 4, (size, 1, 2))], axis=2).astype(np.float32)
    return Batch(
        images=paddle.to_tensor(rng.normal(size=(size, 3, 8, 8)).astype(np.float32)),
        image_sizes=paddle.full([size, 2], 8.0),
        scale_factors=paddle.ones([size, 2]),
        image_ids=tuple(seed * 100 + i for i in range(size)),
        paths=tuple(f"{seed * 100 + i}.jpg" for i in range(size)),
        targets=BatchTargets(
            boxes=paddle.to_tensor(boxes),
            labels=paddle.zeros([size, 1], "int64"),
            is_crowd=paddle.zeros([size, 1], "bool"),
            weights=paddle.ones([size, 1]),
        ),
    )


class ToyLoader:
    """Batches that depend on seed, epoch and place in the epoch, as a real loader's do."""

    def __init__(self, batches: int = 5, size: int = 2, seed: int = 0) -> None:
        self._batches, self._size, self._seed = batches, size, seed
        self._epoch = self._first = 0
        self.seen: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return self._batches

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        self._epoch, self._first = epoch, first_batch

    def batch(self, epoch: int, index: int) -> Batch:
        return make_batch(self._seed * 7919 + epoch * 1000 + index, self._size)

    def __iter__(self) -> Iterator[Batch]:
        epoch, first, self._first = self._epoch, self._first, 0
        for index in range(first, self._batches):
            self.seen.append((epoch, index))
            yield self.batch(epoch, index)


class ToyDetector(nn.Layer):
    """Regresses a box and a score; has batch norm, dropout, a frozen parameter and random losses."""

    def __init__(self, *, noise: bool = True, norm: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2D(3, 4, 3)
        self.norm = nn.BatchNorm2D(4) if norm else nn.Identity()
        self.frozen = nn.Linear(4, 4)
        self.frozen.weight.trainable = self.frozen.bias.trainable = False
        self.head = nn.Linear(4, 5)
        self._noise = noise
        self.epochs: list[int] = []

    def begin_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        features = nn.functional.relu(self.norm(self.conv(batch.images))).mean([2, 3])
        if self._noise:
            features = nn.functional.dropout(features, 0.2, training=self.training)
        out = self.head(self.frozen(features))
        assert batch.targets is not None
        return {
            "loss_box": (out[:, :4] - batch.targets.boxes[:, 0]).abs().mean(),
            "loss_score": nn.functional.softplus(-out[:, 4]).mean(),
        }


def make_trainer(
    *,
    settings: Any = None,
    model: Any = None,
    loader: Any = None,
    optimizer: Any = None,
    seed: int = 3,
    **arguments: Any,
) -> Trainer:
    """A trainer over toys; the model's start depends on `seed` alone."""
    paddle.seed(seed)
    model = model or ToyDetector()
    settings = settings or TrainSettings(epochs=2, log_iter=2)
    loader = loader or ToyLoader()
    schedule = LearningRate(
        base_lr=0.1, schedulers=[Spec.of(PiecewiseDecay, milestones=[1]), Spec.of(LinearWarmup, steps=3)]
    ).build(-(-len(loader) // settings.accumulate))
    settings_of_kind = dict(optimizer or {"type": "Momentum"})
    kind = getattr(optimizers, settings_of_kind.pop("type"))
    builder = OptimizerBuilder(optimizer=Spec.of(kind, **settings_of_kind))
    return Trainer(model, builder.build(schedule, model), schedule, loader, settings, **arguments)


def weights_of(trainer: Trainer) -> dict[str, np.ndarray]:
    """All entries of the model's state dict."""
    return {key: value.numpy().copy() for key, value in trainer.model.state_dict().items()}


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """Bit for bit."""
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], other[key], err_msg=key)
