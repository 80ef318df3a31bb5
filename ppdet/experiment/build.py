"""An experiment wired together: model, data, and what is done with them.

Each part has a function of its own, for those who write their own loop; `ppdet.train` puts them together.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, fields
from typing import Any, Callable, Optional, TypeVar

import paddle
import paddle.distributed as dist
from paddle.optimizer import Optimizer

from ppdet.config import ConfigError, Place, Problem, Spec
from ppdet.config.schema import schema_of
from ppdet.data.datasets.base import Dataset
from ppdet.data.datasets.samples import as_dataset
from ppdet.data.loader import Loader
from ppdet.data.readers import Reader
from ppdet.engine.amp import AmpSettings
from ppdet.engine.determinism import make_deterministic, seed_everything
from ppdet.engine.ema import EmaSettings
from ppdet.engine.schedules import LearningRateSchedule, batch_scale
from ppdet.engine.settings import TrainSettings
from ppdet.experiment.config import Experiment
from ppdet.metrics.base import Metric
from ppdet.modeling.interfaces import Detector
from ppdet.structures import Categories
from ppdet.structures.conventions import NORMAL
from ppdet.utils.errors import DataError, UserError

S = TypeVar("S")

_DEVICE = re.compile(r"auto|cpu|gpu(:\d+)?")


class DeviceError(UserError):
    """A device that does not exist, or that this build of Paddle cannot use."""


def set_device(device: str = "auto", *, use_gpu: bool = True) -> str:
    """Choose the device that everything after this call computes on.

    Args:
        device: ``auto``, ``cpu``, ``gpu`` or ``gpu:i``. ``auto`` takes a GPU if Paddle and the machine have
            one.
        use_gpu: The experiment's `use_gpu`: false makes ``auto`` choose the CPU. A device that is named
            explicitly wins over it.

    Returns:
        The device's name as Paddle spells it, e.g. ``"cpu"`` or ``"gpu:0"``.

    Raises:
        DeviceError: If there is no such device.
    """
    if not _DEVICE.fullmatch(device):
        raise DeviceError(f"device {device!r}: expected auto, cpu, gpu or gpu:i")
    count = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    # paddle.distributed.launch gives every process a card of its own by this variable.
    index = int(device.partition(":")[2] or os.environ.get("FLAGS_selected_gpus", "0").split(",")[0])
    if device.startswith("gpu") and index >= count:
        reason = (
            f"this machine shows {count} GPU(s)"
            if paddle.is_compiled_with_cuda()
            else f"paddle {paddle.__version__} is the CPU build; see docs/install.md for the GPU build"
        )
        raise DeviceError(f"device {device!r}: {reason}. Use cpu or auto")
    on_cpu = device == "cpu" or not count or (device == "auto" and not use_gpu)
    chosen = "cpu" if on_cpu else f"gpu:{index}"
    paddle.set_device(chosen)
    return chosen


def build_model(experiment: Experiment) -> Detector:
    """The detector of an experiment, with random weights; `ppdet.load_weights` brings others."""
    model: Detector = experiment.architecture.build()
    return model


def require(experiment: Experiment, key: str) -> Spec[Any]:
    """The component at a top-level key.

    Raises:
        ConfigError: If the configuration leaves it out.
    """
    spec: Optional[Spec[Any]] = getattr(experiment, key)
    if spec is None:
        raise ConfigError([Problem(Place(str(experiment.source)), f"{key} is missing, and needed here")])
    return spec


def build_dataset(experiment: Experiment, key: str, categories: Optional[Categories] = None) -> Dataset:
    """A dataset of an experiment.

    Args:
        experiment: The experiment.
        key: ``TrainDataset`` or ``EvalDataset``.
        categories: The table that labels refer to; None takes the dataset's own.

    Raises:
        DataError: If the dataset is not in order, or its number of categories is not `num_classes`.
    """
    spec = require(experiment, key)
    takes_categories = "categories" in schema_of(spec.component)
    try:
        built = spec.build(categories=categories) if takes_categories else spec.build()
    except DataError as error:
        error.args = (f"{key}: {error}",)  # of two datasets in the same folders, this one
        raise
    dataset = as_dataset(built, name=key, categories=categories)
    check_classes(experiment, key, dataset)
    return dataset


def check_classes(experiment: Experiment, name: str, dataset: Dataset) -> None:
    """Check that a dataset has as many classes as the model.

    Raises:
        DataError: If it has not.
    """
    names = dataset.categories.names
    if len(names) != experiment.num_classes:
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise DataError(
            f"{name} has {len(names)} categories ({shown}), but num_classes is {experiment.num_classes}"
            f"{_at(experiment, 'num_classes')}. Set num_classes: {len(names)}"
        )


def _at(experiment: Experiment, key: str) -> str:
    place = experiment.origins.get(key)
    return f" ({place})" if place is not None else ""


def build_loader(
    experiment: Experiment,
    key: str,
    dataset: Dataset,
    *,
    with_masks: bool = False,
    num_workers: Optional[int] = None,
) -> Loader:
    """Batches of a dataset, for this process of the run.

    Args:
        experiment: The experiment.
        key: ``TrainReader``, ``EvalReader`` or ``TestReader``.
        dataset: Where images come from.
        with_masks: Whether the model needs masks.
        num_workers: Loading processes; the experiment's `worker_num` if None.
    """
    reader: Reader = require(experiment, key).build()
    return loader_of(reader, dataset, experiment, with_masks=with_masks, num_workers=num_workers)


def loader_of(
    reader: Reader,
    dataset: Dataset,
    experiment: Optional[Experiment],
    *,
    with_masks: bool = False,
    num_workers: Optional[int] = None,
) -> Loader:
    """As `build_loader`, with a reader that is built already; without an experiment, its defaults hold."""
    workers = Experiment.worker_num if experiment is None else experiment.worker_num
    return reader.loader(
        dataset,
        seed=(experiment.seed if experiment is not None else None) or 0,
        num_workers=workers if num_workers is None else num_workers,
        rank=dist.get_rank(),
        world_size=dist.get_world_size(),
        with_masks=with_masks,
    )


def build_metric(experiment: Optional[Experiment], dataset: Dataset, *, with_masks: bool) -> Metric:
    """Build the metric of an experiment for a dataset.

    Args:
        experiment: Names the metric; None for COCO's.
        dataset: Provides the ground truth.
        with_masks: Score masks too.

    Raises:
        DataError: If the dataset has no ground truth or no object, or no masks and they are scored.
    """
    truth = dataset.ground_truth(with_masks=with_masks)
    if not any(map(len, truth.images)):
        raise DataError(
            f"{truth.source}: {len(truth.images)} images without an object of the model's classes "
            f"({', '.join(truth.class_names[:5])}); there is nothing to score detections against"
        )
    spec = Experiment.metric if experiment is None else experiment.metric
    metric: Metric = spec.build(truth=truth)
    return metric


@dataclass(frozen=True)
class Training:
    """Everything that a training needs, built.

    Attributes:
        model: With random weights.
        dataset: Training images; its categories are those of the model.
        loader: Its batches, for this process.
        schedule: Learning rate by step.
        optimizer: Over the trainable parameters.
        scale: Factor on the config's learning rate, for a total batch other than the reference.
        steps_per_epoch: Optimiser steps.
    """

    model: Detector
    dataset: Dataset
    loader: Loader
    schedule: LearningRateSchedule
    optimizer: Optimizer
    scale: float
    steps_per_epoch: int


def build_training(experiment: Experiment, dataset: Optional[Dataset] = None) -> Training:
    """Model, data, schedule and optimiser of an experiment, each from its own block.

    The model has random weights: `ppdet.train` loads `pretrain_weights`.

    Args:
        experiment: The experiment.
        dataset: Training images; None for those of its TrainDataset.

    Raises:
        UserError: If a part is missing, or does not fit the others or the data.
    """
    if dataset is None:
        dataset = build_dataset(experiment, "TrainDataset")
    else:
        check_classes(experiment, "the training dataset", dataset)
    if experiment.deterministic:
        make_deterministic()
    seed_everything(experiment.seed or 0)  # the random weights
    model = build_model(experiment)
    if model.conventions != NORMAL:
        raise ConfigError(
            [
                Problem(
                    Place(str(experiment.source)),
                    f"conventions {model.conventions.name!r} are for evaluating weights, not for training; "
                    f"leave them out (docs/weights.md says what carries over)",
                )
            ]
        )
    loader = build_loader(experiment, "TrainReader", dataset, with_masks=model.has_masks)
    total_batch = loader.batch_size * dist.get_world_size() * experiment.accumulate
    scale = batch_scale(total_batch, experiment.reference_batch_size)
    steps_per_epoch = math.ceil(len(loader) / experiment.accumulate)
    schedule = require(experiment, "LearningRate").build().build(steps_per_epoch, scale=scale)
    optimizer = require(experiment, "OptimizerBuilder").build().build(schedule, model)
    return Training(model, dataset, loader, schedule, optimizer, scale, steps_per_epoch)


def train_settings(experiment: Experiment) -> TrainSettings:
    """Fill the settings of a training from an experiment."""
    return _settings(
        TrainSettings,
        experiment,
        epochs=experiment.epoch,
        seed=experiment.seed or 0,
        amp=_settings(AmpSettings, experiment, "amp_") if experiment.amp else None,
        ema=_settings(EmaSettings, experiment, "ema_") if experiment.use_ema else None,
    )


def _settings(kind: Callable[..., S], experiment: Experiment, prefix: str = "", **converted: Any) -> S:
    """Fill a dataclass from the fields of an experiment that have the same names, with a prefix or without.

    Args:
        kind: The dataclass.
        experiment: Has the values.
        prefix: Of some of the names in the experiment, e.g. ``amp_``.
        **converted: Fields that the experiment states in another form.
    """
    for field in fields(kind):  # type: ignore[arg-type]  # a dataclass, which has no type of its own
        for name in (prefix + field.name, field.name):
            if field.name not in converted and hasattr(experiment, name):
                converted[field.name] = getattr(experiment, name)
    return kind(**converted)
