"""Training from Python: a plan that is built and checked, and its run."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

from ppdet import __version__
from ppdet.config import ConfigError
from ppdet.data.datasets.base import Dataset
from ppdet.data.datasets.samples import as_dataset
from ppdet.engine import distributed
from ppdet.engine.checkpoint import BEST, FINAL
from ppdet.engine.hooks import Hook
from ppdet.engine.trainer import Trainer
from ppdet.engine.tuning import tune
from ppdet.experiment.build import Training, build_dataset, build_training, set_device
from ppdet.experiment.config import Experiment, as_experiment, load_config_text
from ppdet.experiment.evaluate import Evaluation, compare_sizes, training_evaluation
from ppdet.experiment.run import build_trainer
from ppdet.structures import Categories, Sample
from ppdet.utils.errors import TrainingError
from ppdet.utils.files import expanded, writable_folder
from ppdet.utils.metadata import CheckpointMetadata
from ppdet.utils.tables import text_table
from ppdet.zoo import Purpose, class_names_of, load_weights, read_source
from ppdet.zoo.loading import conventions_of
from ppdet.zoo.locate import is_remote

logger = logging.getLogger(__name__)

#: The resolved configuration, beside the checkpoints.
RESOLVED = "config.yml"

#: Lines about changes that a summary shows.
_MOST_CHANGES = 20

#: ``{"train": ..., "eval": ...}``: each a dataset, or a sequence of samples with boxes.
Datasets = Mapping[str, Union[Dataset, Sequence[Sample]]]


@dataclass(frozen=True)
class TrainResult:
    """What a training came to.

    Attributes:
        metrics: Numbers of the last evaluation by task and name; empty without evaluation.
        best: Weights with the best value of the metric; None without evaluation.
        final: The last weights, those of the stop if it was stopped; `ppdet.load_detector` takes them.
        folder: Folder with checkpoints, logs and `config.yml`.
        steps: Optimiser steps taken.
        stopped: Why the training ended early; None if it is complete.
    """

    metrics: Mapping[str, Mapping[str, float]]
    best: Optional[Path]
    final: Path
    folder: Path
    steps: int
    stopped: Optional[str]


def train(
    config: Union[str, os.PathLike[str], Experiment],
    *,
    resume: Union[str, os.PathLike[str], None] = None,
    datasets: Optional[Datasets] = None,
    hooks: Sequence[Hook] = (),
    weights: Optional[str] = None,
    evaluate: bool = True,
    device: str = "auto",
) -> TrainResult:
    """Train a detector.

    Args:
        config: A configuration, its file, or the name of a packaged one.
        resume: ``"auto"`` for the last checkpoint of this configuration's folder, a folder, or a checkpoint;
            training continues exactly.
        datasets: Datasets to use in place of the configuration's: ``{"train": ..., "eval": ...}``, each a
            `ppdet.Dataset` or a sequence of `ppdet.Sample`. Without ``"eval"`` nothing is evaluated.
        hooks: Hooks, called after those of the configuration.
        weights: Weights to start from, in place of the configuration's `pretrain_weights`.
        evaluate: Evaluate every `snapshot_epoch`, and keep the best weights.
        device: ``auto``, ``cpu``, ``gpu`` or ``gpu:i``.

    Raises:
        UserError: If the configuration, the data, the weights or the checkpoint are not in order.
    """
    plan = plan_training(
        config,
        resume=resume,
        datasets=datasets,
        hooks=hooks,
        weights=weights,
        evaluate=evaluate,
        device=device,
    )
    if distributed.is_main():
        # A plan with a warning is told to those too who silenced the rest.
        level = logging.WARNING if plan.warnings else logging.INFO
        logger.log(level, "this training:\n%s", plan.summary())
    return plan.run()


@dataclass(frozen=True)
class TrainingPlan:
    """A training that is built and checked, and has not begun; nothing is written yet.

    Attributes:
        experiment: Its configuration.
        parts: Model, data, schedule and optimiser.
        validation: Images that it is evaluated on; None for no evaluation.
        trainer: Runs it.
        folder: Where it will write.
        device: Where it computes.
        starts_from: The checkpoint or weights that it starts from, for people.
        changes: What the configuration says otherwise than that of the run which is resumed, as lines of a
            diff.
    """

    experiment: Experiment
    parts: Training
    validation: Optional[Dataset]
    trainer: Trainer
    folder: Path
    device: str
    starts_from: str
    changes: tuple[str, ...] = ()

    def run(self) -> TrainResult:
        """Train.

        Raises:
            TrainingError: If a loss is not finite, or a checkpoint cannot be written.
        """
        if distributed.is_main():
            writable_folder(self.folder)
            if self.trainer.folder is not None:
                self.experiment.save(self.folder / RESOLVED)
        try:
            report = self.trainer.train()
        finally:
            self.parts.loader.close()
        best = self.folder / f"{BEST}.pdparams"
        return TrainResult(
            metrics=report.metrics,
            best=best if self.validation is not None and best.is_file() else None,
            final=self._last_weights(),
            folder=self.folder,
            steps=report.progress.step,
            stopped=report.stopped,
        )

    def _last_weights(self) -> Path:
        """File of the weights saved last; without any, where the final ones would be."""
        folder = self.trainer.folder
        last = FINAL if folder is None or not distributed.is_main() else folder.find("auto")[0].name
        return self.folder / f"{last}.pdparams"

    @property
    def warnings(self) -> list[str]:
        """What in the schedule cannot be meant, with the values that would fit."""
        return self.parts.schedule.misfits(self.trainer.last_step)

    def summary(self, *, evaluates: bool = True) -> str:
        """What the training will do, as a table for people.

        Args:
            evaluates: Whether the training will use `validation`, which a dry run checks in any case.
        """
        experiment, parts = self.experiment, self.parts
        parameters = parts.model.parameters()
        total = sum(int(p.size) for p in parameters)
        trained = sum(int(p.size) for p in parameters if p.trainable)
        names = parts.dataset.categories.names
        shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        steps = self.trainer.last_step
        batch = f"{parts.loader.batch_size} images"
        if distributed.world_size() > 1:
            batch += f" x {distributed.world_size()} processes"
        if experiment.accumulate > 1:
            batch += f" x {experiment.accumulate} accumulated"
        validation = "none" if self.validation is None else f"{len(self.validation):,} images"
        if self.validation is not None and not evaluates:
            validation += ", checked but not used: without --eval nothing is evaluated"
        rows = [
            ("experiment", f"{experiment.name} ({experiment.source})"),
            ("model", f"{experiment.architecture.name}, {total:,} parameters, {trained:,} of them trained"),
            ("starts from", self.starts_from),
            ("training", f"{parts.loader.num_images:,} images"),
            ("validation", validation),
            ("categories", f"{len(names)}: {shown}"),
            ("batch", f"{batch}, {parts.steps_per_epoch:,} steps per epoch, {steps:,} steps in all"),
            ("learning rate", self._rates(steps)),
            ("device", self.device),
            ("output", self.folder.as_posix()),
            *(("replaced", text) for text in experiment.replacements),
            *(("differs", line) for line in self.changes),
            *(("warning", text) for text in self.warnings),
        ]
        return text_table(rows, align="<")

    def _rates(self, steps: int) -> str:
        """First, highest and last rate, and how the batch changed them."""
        schedule, reference = self.parts.schedule, self.experiment.reference_batch_size
        last_step = max(0, steps - 1)
        first_step = min(self.trainer.progress.step, last_step)  # of this run, which may be resumed
        stride = max(1, (steps - first_step) // 1000)
        sampled = [schedule.rate_at(step) for step in range(first_step, last_step + 1, stride)]
        last = schedule.rate_at(last_step)
        text = f"{sampled[0]:.3g} at first, {max(sampled):.3g} at most, {last:.3g} at last"
        if reference is None:
            return text
        return f"{text} (x{self.parts.scale:g}: the config's rate is for batch {reference})"


def plan_training(
    config: Union[str, os.PathLike[str], Experiment],
    *,
    resume: Union[str, os.PathLike[str], None] = None,
    datasets: Optional[Datasets] = None,
    hooks: Sequence[Hook] = (),
    weights: Optional[str] = None,
    evaluate: bool = True,
    device: str = "auto",
    classes_from: Optional[str] = None,
    allow_partial: bool = False,
    profile: bool = False,
    download: bool = True,
) -> TrainingPlan:
    """Build everything that a training needs, up to its first step.

    Args:
        config: As in `train`.
        resume: As in `train`.
        datasets: As in `train`.
        hooks: As in `train`.
        weights: As in `train`.
        evaluate: As in `train`.
        device: As in `train`.
        classes_from: Keep what the weights have learnt of classes of the same name. Class names of the
            weights (a file, ``a,b,c``, the name of a data set); ``""`` for those that the weights carry.
            None takes over only tensors of the same shape.
        allow_partial: Start even if little of the weights fits.
        profile: Profile a few steps in place of training.
        download: Download weights that are not on this machine. Without it they are left to the training, and
            the plan says so.

    Raises:
        UserError: If the configuration, the data, the weights or the checkpoint are not in order.
    """
    experiment = as_experiment(config)
    chosen = set_device(device, use_gpu=experiment.use_gpu)
    tune(channels_last=experiment.channels_last, cudnn_exhaustive_search=experiment.cudnn_exhaustive_search)
    distributed.start()
    folder = expanded(experiment.save_dir) / experiment.name
    parts = build_training(experiment, _dataset(datasets, "train"))
    start = weights or experiment.pretrain_weights
    if resume is None and start is not None and not download and is_remote(start):
        start += " (to be downloaded)"
    elif resume is None and start is not None:
        _load_pretrained(parts, start, classes_from=classes_from, allow_partial=allow_partial)
    validation, evaluation = _validation(experiment, parts, datasets) if evaluate else (None, None)
    if distributed.is_main():
        compare_sizes({"training": parts.dataset, "validation": validation})
    metadata = _metadata(experiment, parts)
    trainer = build_trainer(
        experiment, parts, folder, evaluation=evaluation, metadata=metadata, hooks=hooks, profile=profile
    )
    resumed = folder if resume == "auto" else resume
    if resumed is not None:
        trainer.resume(os.fspath(resume or resumed))
        start = f"step {trainer.progress.step} of {resumed}"
    start, changes = start or "random weights", _changes(experiment, resumed)
    return TrainingPlan(experiment, parts, validation, trainer, folder, chosen, start, changes)


def _dataset(
    datasets: Optional[Datasets], key: str, categories: Optional[Categories] = None
) -> Optional[Dataset]:
    """The caller's dataset; None where there is none."""
    if datasets is None:
        return None
    unknown = sorted(set(datasets) - {"train", "eval"})
    if unknown:
        raise TrainingError(f"datasets: no dataset {unknown[0]!r}; give 'train', 'eval' or both")
    if key not in datasets:
        return None
    return as_dataset(datasets[key], name=f"datasets[{key!r}]", categories=categories)


def _validation(
    experiment: Experiment, parts: Training, datasets: Optional[Datasets]
) -> tuple[Optional[Dataset], Optional[Evaluation]]:
    """The validation images, labelled as the training images are, and their evaluation."""
    categories = parts.dataset.categories
    dataset = _dataset(datasets, "eval", categories)
    if dataset is None and datasets is not None:
        return None, None
    if dataset is None:
        dataset = build_dataset(experiment, "EvalDataset", categories)
    return dataset, training_evaluation(experiment, parts.model, dataset)


def _load_pretrained(
    parts: Training, source: str, *, classes_from: Optional[str], allow_partial: bool
) -> None:
    file = read_source(source)
    load_weights(
        parts.model,
        file,
        purpose=Purpose.FINETUNE,
        class_names=parts.dataset.categories.names,
        classes_from=() if classes_from is None else class_names_of(file, classes=classes_from or None),
        allow_partial=allow_partial,
    )


def _metadata(experiment: Experiment, parts: Training) -> CheckpointMetadata:
    """What every checkpoint of the run says of itself."""
    return CheckpointMetadata(
        class_names=parts.dataset.categories.names,
        config={"yaml": experiment.to_yaml()},
        version=__version__,
        conventions=conventions_of(parts.model),
    )


def _changes(experiment: Experiment, resumed: Union[str, os.PathLike[str], None]) -> tuple[str, ...]:
    """Lines of the resolved configuration that a run does not share with the one that it resumes."""
    if resumed is None:
        return ()
    folder = Path(resumed) if Path(resumed).is_dir() else Path(resumed).parent
    try:
        text = (folder / RESOLVED).read_text("utf-8")
        before = load_config_text(text, RESOLVED).to_yaml().splitlines()  # without where values are from
    except (OSError, ConfigError):
        return ()  # a checkpoint of 2.x, or one that was moved
    lines = difflib.unified_diff(before, experiment.to_yaml().splitlines(), n=0, lineterm="")
    changed = [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    return tuple(changed[:_MOST_CHANGES])
