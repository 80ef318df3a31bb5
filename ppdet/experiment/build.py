"""An experiment wired together: model, data, and what is done with them.

Everything that the command line does is here as a function, so that a program or a notebook can do it too.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Callable, Optional, TypeVar, Union

import numpy as np
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
from ppdet.inference.predictors import NativePredictor, Predictor
from ppdet.inference.runner import ImageRunner
from ppdet.inference.views import Views, fitted, views_of
from ppdet.metrics.base import Metric
from ppdet.modeling.interfaces import Detector
from ppdet.structures import Categories, Detections, Sample
from ppdet.structures.conventions import NORMAL
from ppdet.utils.errors import DataError, UserError

#: An image as a user gives it: a path, or ``[H, W, 3]`` uint8 RGB.
Image = Union[str, os.PathLike[str], np.ndarray]


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
        raise ConfigError(
            [Problem(Place(str(experiment.source)), f"{key} is missing; this command needs it")]
        )
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
    built = spec.build(categories=categories) if takes_categories else spec.build()
    dataset = as_dataset(built, name=key, categories=categories)
    found = dataset.categories
    if len(found) != experiment.num_classes:
        shown = ", ".join(found.names[:5]) + (", ..." if len(found) > 5 else "")
        raise DataError(
            f"{key} has {len(found)} categories ({shown}), but num_classes is {experiment.num_classes}"
            f"{_at(experiment, 'num_classes')}. Set num_classes: {len(found)}, or -o num_classes={len(found)}"
        )
    return dataset


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
    loader: Loader = (
        require(experiment, key)
        .build()
        .loader(
            dataset,
            seed=experiment.seed or 0,
            num_workers=experiment.worker_num if num_workers is None else num_workers,
            rank=dist.get_rank(),
            world_size=dist.get_world_size(),
            with_masks=with_masks,
        )
    )
    return loader


def build_metric(experiment: Optional[Experiment], dataset: Dataset, *, with_masks: bool) -> Metric:
    """Build the metric of an experiment for a dataset.

    Args:
        experiment: Names the metric; None for COCO's.
        dataset: Provides the ground truth.
        with_masks: Score masks too.

    Raises:
        DataError: If the dataset has no ground truth, or no masks and they are scored.
    """
    spec = Experiment.metric if experiment is None else experiment.metric
    metric: Metric = spec.build(truth=dataset.ground_truth(with_masks=with_masks))
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


def build_training(experiment: Experiment) -> Training:
    """Model, data, schedule and optimiser of an experiment, each from its own block.

    Raises:
        UserError: If a part is missing, or does not fit the others or the data.
    """
    dataset = build_dataset(experiment, "TrainDataset")
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


class _Images(Dataset):
    """Images that a caller holds in memory or names one by one."""

    def __init__(self, images: Sequence[Image]) -> None:
        self._images = list(images)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        image = self._images[index]
        if not isinstance(image, np.ndarray):
            return Sample(image_id=index, path=os.fspath(image))
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise DataError(f"image {index}: expected uint8 [H, W, 3] RGB, got {image.dtype} {image.shape}")
        return Sample(image_id=index, path=f"image {index}", image=image)

    @property
    def categories(self) -> Categories:
        """None: whoever holds the images holds the weights, and they know."""
        return Categories((), ())


def predict(
    model: Union[Detector, Predictor],
    images: Union[Image, Sequence[Image]],
    experiment: Experiment,
    *,
    views: Optional[Views] = None,
) -> list[Detections]:
    """Detect objects.

    Args:
        model: A detector with trained weights, or what runs one (`ppdet.export.choose.choose_predictor`).
        images: One image or several: paths, or ``[H, W, 3]`` uint8 RGB arrays.
        experiment: Says how images are prepared (`TestReader`).
        views: How often each image is looked at, e.g. ``Views(tiling=Tiling((640, 640)))``; None for what the
            reader asks for, once unless it has a `MultiscaleTestResize`.

    Returns:
        Detections of each image in the order given, in pixels of the image as it was given.

    Raises:
        DataError: If an image cannot be read.
    """
    if isinstance(images, (str, os.PathLike)) or (isinstance(images, np.ndarray) and images.ndim == 3):
        images = [images]
    dataset = _Images(list(images))
    if len(dataset) == 0:
        return []
    reader: Reader = require(experiment, "TestReader").build()
    run = model if isinstance(model, Predictor) else NativePredictor(model)
    if views is None:
        views = views_of(reader) if isinstance(model, Predictor) else fitted(views_of(reader), model)
    samples = (dataset[index] for index in range(len(dataset)))
    return [found.detections for found in ImageRunner(reader, run, views).stream(samples)]
