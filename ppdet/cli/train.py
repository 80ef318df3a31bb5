"""Train a detector from a config."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from ppdet.cli.common import (
    add_config_arguments,
    add_device_argument,
    load_experiment,
    make_folder,
)

if TYPE_CHECKING:
    from ppdet.data.datasets.base import Dataset
    from ppdet.experiment.build import Training
    from ppdet.experiment.config import Experiment
    from ppdet.utils.metadata import CheckpointMetadata

#: The config as it was used, beside the checkpoints.
RESOLVED = "config.yml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``ppdet train``."""
    add_config_arguments(parser)
    parser.add_argument(
        "-r",
        "--resume",
        nargs="?",
        const="auto",
        metavar="auto|PATH",
        help="go on from the last checkpoint in this config's output folder, or in the folder PATH, or from "
        "the checkpoint PATH, also one of PaddleDetection 2.x",
    )
    parser.add_argument(
        "--eval", action="store_true", help="evaluate after every snapshot_epoch; keeps the best"
    )
    parser.add_argument("--amp", action="store_true", help="mixed precision")
    parser.add_argument(
        "--deterministic", action="store_true", help="the same losses from the same seed, run after run"
    )
    parser.add_argument(
        "--profile", action="store_true", help="profile a few steps, write a trace and a table, and stop"
    )
    parser.add_argument(
        "--replay",
        metavar="FILE",
        help="run the step again that a training kept in FILE because its numbers were not finite",
    )
    parser.add_argument("--dry-run", action="store_true", help="build everything, print a summary and stop")
    parser.add_argument(
        "--classes-from",
        nargs="?",
        const="",
        metavar="NAMES|FILE",
        help="take over what pretrain_weights know of classes of the same name; NAMES are the weights' own, "
        "where they carry none",
    )
    parser.add_argument(
        "--allow-partial", action="store_true", help="start even if little of pretrain_weights fits"
    )
    add_device_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Train, or say what would be trained."""
    from ppdet.engine import distributed
    from ppdet.experiment.build import build_dataset, build_training, set_device

    wanted = [f"{name}=true" for name in ("amp", "deterministic") if getattr(args, name)]
    experiment = load_experiment(args, extra=tuple(wanted))
    folder = Path(experiment.save_dir) / experiment.name
    device = set_device(args.device, use_gpu=experiment.use_gpu)
    distributed.start()
    if args.replay is not None:
        return _replay(experiment, Path(args.replay))
    if not args.dry_run:
        make_folder(folder)
    training = build_training(experiment)
    validation: Optional[Dataset] = None
    if args.eval or (args.dry_run and experiment.EvalDataset is not None):
        validation = build_dataset(experiment, "EvalDataset", training.dataset.categories)
    if distributed.is_main():
        print(summary(experiment, training, validation, device), flush=True)
    if args.dry_run:
        return 0
    if distributed.is_main() and not args.profile:
        (folder / RESOLVED).write_text(experiment.to_yaml(), "utf-8")
    return _train(experiment, training, validation, folder, args)


def _train(
    experiment: Experiment,
    training: Training,
    validation: Optional[Dataset],
    folder: Path,
    args: argparse.Namespace,
) -> int:
    from ppdet.engine import distributed
    from ppdet.engine.checkpoint import FINAL
    from ppdet.experiment.evaluate import Evaluation
    from ppdet.experiment.train import build_trainer

    if args.resume is None and experiment.pretrain_weights:
        _load_pretrained(training, experiment.pretrain_weights, args)
    evaluation = None if validation is None else Evaluation(experiment, training.model, validation)
    trainer = build_trainer(
        experiment,
        training,
        folder,
        evaluation=evaluation,
        metadata=_metadata(experiment, training),
        profile=args.profile,
    )
    if args.resume is not None:
        trainer.resume(args.resume)
    report = trainer.train()
    training.loader.close()
    if not distributed.is_main():
        return 0
    if args.profile:
        print(f"trace and table: {folder / 'profile'}")
        return 0
    if report.stopped is not None:
        print(f"stopped at step {report.progress.step}: {report.stopped}; -r goes on from there")
        return 0
    print(f"trained {report.progress.step} steps; weights: {folder / FINAL}.pdparams")
    return 0


def _replay(experiment: Experiment, path: Path) -> int:
    from ppdet.experiment.train import describe_replay, run_replay

    print(describe_replay(run_replay(experiment, path)))
    return 0


def _load_pretrained(training: Training, source: str, args: argparse.Namespace) -> None:
    from ppdet.zoo import Purpose, class_names_of, load_weights, read_source

    file = read_source(source)
    overlap = args.classes_from is not None
    load_weights(
        training.model,
        file,
        purpose=Purpose.FINETUNE,
        class_names=training.dataset.categories.names,
        classes_from=class_names_of(file, classes=args.classes_from or None) if overlap else (),
        allow_partial=args.allow_partial,
    )


def _metadata(experiment: Experiment, training: Training) -> CheckpointMetadata:
    """What every checkpoint of the run says of itself."""
    from ppdet import __version__
    from ppdet.utils.metadata import CheckpointMetadata
    from ppdet.zoo.loading import conventions_of

    return CheckpointMetadata(
        class_names=training.dataset.categories.names,
        config={"yaml": experiment.to_yaml()},
        version=__version__,
        conventions=conventions_of(training.model),
    )


def summary(experiment: Experiment, training: Training, validation: Optional[Dataset], device: str) -> str:
    """What a training would do, for a screen."""
    from ppdet.engine import distributed

    parameters = training.model.parameters()
    total = sum(int(p.size) for p in parameters)
    trained = sum(int(p.size) for p in parameters if p.trainable)
    names = training.dataset.categories.names
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    steps = training.steps_per_epoch * experiment.epoch
    if experiment.max_iters is not None:
        steps = min(steps, experiment.max_iters)
    batch = f"{training.loader.batch_size} images"
    if distributed.world_size() > 1:
        batch += f" x {distributed.world_size()} processes"
    if experiment.accumulate > 1:
        batch += f" x {experiment.accumulate} accumulated"
    rows = [
        ("experiment", f"{experiment.name} ({experiment.source})"),
        ("model", f"{experiment.architecture.name}, {total:,} parameters, {trained:,} of them trained"),
        ("starts from", experiment.pretrain_weights or "random weights"),
        ("training", f"{training.loader.num_images:,} images"),
        ("validation", "none" if validation is None else f"{len(validation):,} images"),
        ("categories", f"{len(names)}: {shown}"),
        ("batch", f"{batch}, {training.steps_per_epoch:,} steps per epoch, {steps:,} steps in all"),
        ("learning rate", _rates(experiment, training, steps)),
        ("device", device),
        ("output", f"{experiment.save_dir}/{experiment.name}"),
    ]
    return "\n".join(f"{name:<14} {value}" for name, value in rows)


def _rates(experiment: Experiment, training: Training, steps: int) -> str:
    """First, highest and last rate, and how the batch changed them."""
    sampled = [training.schedule.rate_at(step) for step in range(0, steps, max(1, steps // 1000))]
    last = training.schedule.rate_at(max(0, steps - 1))
    text = f"{sampled[0]:.3g} at first, {max(sampled):.3g} at most, {last:.3g} at last"
    if experiment.reference_batch_size is None:
        return text
    return f"{text} (x{training.scale:g}: the config's rate is for batch {experiment.reference_batch_size})"
