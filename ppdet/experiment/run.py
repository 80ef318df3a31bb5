"""The parts of a training run put together: trainer, hooks, folder; and a kept step run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Callable, Optional

import numpy as np

from ppdet.data.transforms.decode import Decode
from ppdet.engine import distributed
from ppdet.engine.checkpoint import RunFolder
from ppdet.engine.console import JsonLines, LogFile, ProgressBar
from ppdet.engine.evaluator import mean_losses
from ppdet.engine.hooks import Hook
from ppdet.engine.profiling import Profile
from ppdet.engine.replay import Replay, replay
from ppdet.engine.sinks import Sink, SinkHook, TensorBoardSink, VisualDlSink
from ppdet.engine.trainer import Metrics, Trainer
from ppdet.experiment.build import Training, build_loader, build_model, set_device, train_settings
from ppdet.experiment.config import Experiment
from ppdet.experiment.evaluate import Evaluation
from ppdet.inference.drawing import draw_detections
from ppdet.utils.errors import TrainingError
from ppdet.utils.metadata import CheckpointMetadata

#: Folder of profiles in that of the run.
PROFILE = "profile"
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
        hooks=build_hooks(experiment, folder, profile=profile, evaluation=evaluation, hooks=hooks),
    )


def _check_best_metric(experiment: Experiment, names: Sequence[str]) -> None:
    """Before hours of training, not after: the first evaluation would stop at a misspelt name."""
    wanted = experiment.best_metric
    losses = experiment.validation_loss and wanted is not None and wanted.startswith("loss.")
    if wanted is None or not names or wanted in names or losses:
        return
    known = ", ".join([*names, *(["loss.loss"] if experiment.validation_loss else [])])
    hint = "; loss.loss needs validation_loss: true" if wanted.startswith("loss.") else ""
    raise TrainingError(f"best_metric: evaluations give no {wanted!r}, but {known}{hint}")


def build_hooks(
    experiment: Experiment,
    folder: Path,
    *,
    profile: bool = False,
    evaluation: Optional[Evaluation] = None,
    hooks: Sequence[Hook] = (),
) -> list[Hook]:
    """Build the log file, progress bar, JSON lines and curves (first process only) and add the user's hooks.

    Args:
        experiment: Says which curves to write, and lists hooks to build (``hooks:``).
        folder: Folder of the run.
        profile: Profile, and write no logs.
        evaluation: Its detections are drawn beside the curves; None for curves alone.
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
    built: list[Hook] = [LogFile(folder), ProgressBar(), JsonLines(folder)]
    sinks: list[Sink] = []
    if experiment.use_vdl:
        sinks.append(VisualDlSink(folder / experiment.vdl_log_dir))
    if experiment.use_tensorboard:
        sinks.append(TensorBoardSink(folder / experiment.tensorboard_log_dir))
    if sinks:
        built.append(SinkHook(sinks, None if evaluation is None else Pictures(evaluation)))
    return [*built, *own]


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
