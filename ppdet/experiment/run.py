"""The parts of a training run put together: trainer, hooks, folder; and a kept step run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np

from ppdet.data.transforms.decode import Decode
from ppdet.engine import distributed
from ppdet.engine.checkpoint import RunFolder
from ppdet.engine.console import JsonLines, LogFile, ProgressBar
from ppdet.engine.evaluator import mean_losses
from ppdet.engine.hooks import Hook
from ppdet.engine.profiling import Profile
from ppdet.engine.replay import Replay, replay
from ppdet.engine.run_facts import RunFacts
from ppdet.engine.sinks import PictureFolder, Sink, SinkHook, TensorBoardSink, VisualDlSink
from ppdet.engine.trackers import ClearMlSink, MlflowSink, WandbSink
from ppdet.engine.trainer import Metrics, Trainer
from ppdet.experiment.build import Training, build_loader, build_model, set_device, train_settings
from ppdet.experiment.config import Experiment
from ppdet.experiment.evaluate import Evaluation
from ppdet.inference.drawing import draw_detections
from ppdet.report.hook import TrainingReport
from ppdet.utils.errors import TrainingError
from ppdet.utils.metadata import CheckpointMetadata

#: Folder of profiles in that of the run.
PROFILE = "profile"
#: Folder of drawn validation images in that of the run.
PICTURE_FOLDER = "pictures"
#: Images that curves show after each evaluation.
PICTURES = 4
#: Lowest score drawn there: early in training little passes more.
PICTURE_THRESHOLD = 0.3


def build_trainer(
    experiment: Experiment,
    training: Training,
    folder: Path,
    *,
    evaluation: Optional[Evaluation] = None,
    metadata: Optional[CheckpointMetadata] = None,
    hooks: Sequence[Hook] = (),
    profile: bool = False,
) -> Trainer:
    """Build the trainer of an experiment, with its log files, curves and hooks.

    Args:
        experiment: Says how to train.
        training: Its parts.
        folder: Of the run: checkpoints, logs, curves.
        evaluation: Scores the model along the way; None for not at all.
        metadata: What every checkpoint says of itself.
        hooks: Hook objects, called after those of the experiment's ``hooks:``.
        profile: Profile some steps and stop; leaves checkpoints and logs of the folder alone.

    Raises:
        TrainingError: If `best_metric` is none of the numbers that evaluations will give, or an item of
            `hooks` is not a `Hook` object.
    """
    if evaluation is not None:
        _check_best_metric(experiment, evaluation.metric.names)
    evaluate: Optional[Callable[[], Metrics]] = evaluation
    if evaluation is not None and experiment.validation_loss:
        evaluate = _with_losses(experiment, training, evaluation)
    return Trainer(
        training.model,
        training.optimizer,
        training.schedule,
        training.loader,
        train_settings(experiment),
        folder=None if profile else RunFolder(folder, metadata=metadata, keep_last=experiment.keep_last),
        evaluate=evaluate,
        hooks=build_hooks(
            experiment,
            folder,
            profile=profile,
            evaluation=evaluation,
            facts=_facts(experiment, training, evaluation),
            hooks=hooks,
        ),
    )


def _check_best_metric(experiment: Experiment, names: Sequence[str]) -> None:
    """Before hours of training, not after: the first evaluation would stop at a misspelt name."""
    name = experiment.best_metric
    losses = experiment.validation_loss and name is not None and name.startswith("loss.")
    if name is None or not names or name in names or losses:
        return
    available = ", ".join([*names, *(["loss.loss"] if experiment.validation_loss else [])])
    hint = "; loss.loss needs validation_loss: true" if name.startswith("loss.") else ""
    raise TrainingError(f"best_metric: evaluations give no {name!r}, but {available}{hint}")


def build_hooks(
    experiment: Experiment,
    folder: Path,
    *,
    profile: bool = False,
    evaluation: Optional[Evaluation] = None,
    facts: Optional[Mapping[str, Any]] = None,
    hooks: Sequence[Hook] = (),
) -> list[Hook]:
    """Build the log file, progress bar, JSON lines and curves (first process only) and add the user's hooks.

    Args:
        experiment: Says which curves to write, and lists hooks to build (``hooks:``).
        folder: Folder of the run.
        profile: Profile, and write no logs.
        evaluation: Its detections are drawn beside the curves; None for curves alone.
        facts: What ``run.json`` says of the run besides its circumstances.
        hooks: Hook objects, called after those of ``hooks:``.

    Raises:
        TrainingError: If an item of `hooks` is not a `Hook` object.
    """
    for index, hook in enumerate(hooks):
        if not isinstance(hook, Hook):
            cure = f"; pass an object, {hook.__name__}(...)" if isinstance(hook, type) else ""
            raise TrainingError(
                f"hooks[{index}]: expected an object of a subclass of ppdet.Hook, got {hook!r}{cure}"
            )
    own = [*(spec.build() for spec in experiment.hooks), *hooks]
    if not distributed.is_main():
        return own
    if profile:
        return [ProgressBar(), Profile(folder / PROFILE), *own]
    built: list[Hook] = [LogFile(folder), ProgressBar(), JsonLines(folder), RunFacts(folder, facts or {})]
    sinks = _sinks(experiment, folder)
    if evaluation is not None:
        sinks.append(PictureFolder(folder / PICTURE_FOLDER))
    if sinks:
        built.append(SinkHook(sinks, None if evaluation is None else Pictures(evaluation)))
    if find_spec("jinja2") is not None:  # the extra `report`
        built.append(TrainingReport(folder))
    return [*built, *own]


def _sinks(experiment: Experiment, folder: Path) -> list[Sink]:
    """Curves that the experiment turns on."""
    sinks: list[Sink] = []
    if experiment.use_vdl:
        sinks.append(VisualDlSink(folder / experiment.vdl_log_dir))
    if experiment.use_tensorboard:
        sinks.append(TensorBoardSink(folder / experiment.tensorboard_log_dir))
    if experiment.use_wandb:
        sinks.append(WandbSink(folder))
    if experiment.use_mlflow:
        sinks.append(MlflowSink(folder))
    if experiment.use_clearml:
        sinks.append(ClearMlSink(folder))
    return sinks


def _facts(experiment: Experiment, training: Training, evaluation: Optional[Evaluation]) -> dict[str, Any]:
    """What is trained on what, for ``run.json``."""
    names = training.dataset.categories.names
    return {
        "experiment": experiment.name,
        "model": experiment.architecture.name,
        "parameters": sum(int(p.size) for p in training.model.parameters()),
        "pretrain_weights": experiment.pretrain_weights,
        "training_images": training.loader.num_images,
        "validation_images": None if evaluation is None else len(evaluation.dataset),
        "classes": len(names),
        "class_names": ", ".join(names[:30]) + (", ..." if len(names) > 30 else ""),
        "batch_size": training.loader.batch_size,
    }


class Pictures:
    """The first images of the validation set, with what the last evaluation found in them.

    Args:
        evaluation: Whose.
    """

    def __init__(self, evaluation: Evaluation) -> None:
        self._evaluation = evaluation
        self._decode = Decode()

    def __call__(self) -> dict[str, np.ndarray]:
        """Drawn images, ``[H, W, 3]`` uint8 RGB, by name."""
        dataset = self._evaluation.dataset
        found = {one.image_id: one for one in self._evaluation.metric.detections}
        pictures: dict[str, np.ndarray] = {}
        for index in range(min(PICTURES, len(dataset))):
            sample = dataset[index]
            if sample.image_id not in found:  # one that could not be read
                continue
            sample = self._decode(sample, np.random.default_rng(0))  # draws nothing
            assert sample.image is not None
            pictures[f"eval/{Path(sample.path).name}"] = draw_detections(
                sample.image, found[sample.image_id], dataset.categories.names, threshold=PICTURE_THRESHOLD
            )
        return pictures


def _with_losses(experiment: Experiment, training: Training, evaluation: Evaluation) -> Callable[[], Metrics]:
    loader = build_loader(experiment, "EvalReader", evaluation.dataset, with_masks=training.model.has_masks)

    def evaluate() -> Metrics:
        return {**evaluation(), **mean_losses(training.model, loader, seed=experiment.seed or 0)}

    return evaluate


def run_replay(experiment: Experiment, path: Path, *, device: str = "auto") -> Replay:
    """Run a step again that a training kept because its losses were not finite.

    Args:
        experiment: The configuration of that training.
        path: The ``.pdreplay`` file.
        device: ``auto``, ``cpu``, ``gpu`` or ``gpu:i``.
    """
    set_device(device, use_gpu=experiment.use_gpu)
    return replay(path, build_model(experiment))


def describe_replay(found: Replay) -> str:
    """What running a step again gave, for people."""
    where = found.where
    lines = [
        f"step {where.step} (epoch {where.epoch}, batch {where.first_batch}), seed {where.seed}, "
        f"rank {where.rank}, learning rate {where.learning_rate:g}"
    ]
    lines += [f"batch {i}: {_terms(terms)}" for i, terms in enumerate(found.losses)]
    lines.append("\n".join(found.suspects) or "images and boxes are finite numbers")
    lines.append(
        f"gradients that are not finite: {len(found.gradients)}"
        + "".join(f"\n  {name}" for name in found.gradients[:10])
    )
    return "\n".join(lines)


def _terms(terms: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in terms.items())
