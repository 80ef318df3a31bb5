"""Train a detector from a config."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING

from ppdet.cli.common import add_config_arguments, add_device_argument, load_experiment
from ppdet.utils.files import expanded

if TYPE_CHECKING:
    pass

logger = logging.getLogger(__name__)

#: Options for what people change most -> the key that each stands for.
SHORT_FORMS = {"epochs": "epoch", "batch": "TrainReader.batch_size", "lr": "LearningRate.base_lr"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``ppdet train``."""
    add_config_arguments(parser)
    parser.add_argument(
        "-r",
        "--resume",
        nargs="?",
        const="auto",
        metavar="auto|PATH",
        help="resume the last checkpoint in this config's output folder (auto), or in the folder PATH, or "
        "the checkpoint PATH, also one of PaddleDetection 2.x",
    )
    parser.add_argument(
        "--eval", action="store_true", help="evaluate after every snapshot_epoch; keeps the best"
    )
    parser.add_argument("--epochs", type=int, metavar="N", help="same as -o epoch=N")
    parser.add_argument("--batch", type=int, metavar="N", help="same as -o TrainReader.batch_size=N")
    parser.add_argument("--lr", type=float, metavar="RATE", help="same as -o LearningRate.base_lr=RATE")
    parser.add_argument("--amp", action="store_true", help="mixed precision")
    parser.add_argument(
        "--deterministic", action="store_true", help="the same losses from the same seed, run after run"
    )
    parser.add_argument(
        "--profile", action="store_true", help="profile a few steps, write a trace and a table, and stop"
    )
    parser.add_argument(
        "--replay",
        type=expanded,
        metavar="FILE",
        help="run the step again that a training kept in FILE because its losses were not finite",
    )
    parser.add_argument("--dry-run", action="store_true", help="build everything, print a summary and stop")
    parser.add_argument(
        "--classes-from",
        nargs="?",
        const="",
        metavar="NAMES|FILE",
        help="keep what pretrain_weights have learnt of classes of the same name; NAMES are the class names "
        "of the weights, where they carry none",
    )
    parser.add_argument(
        "--allow-partial", action="store_true", help="start even if little of pretrain_weights fits"
    )
    add_device_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Train, or print what would be trained."""
    from ppdet.engine import distributed
    from ppdet.experiment.run import PROFILE, describe_replay, run_replay
    from ppdet.experiment.train import plan_training

    switches = tuple(f"{name}=true" for name in ("amp", "deterministic") if getattr(args, name))
    experiment = load_experiment(args, extra=(*switches, *short_forms(args)))
    if args.replay is not None:
        print(describe_replay(run_replay(experiment, args.replay, device=args.device)))
        return 0
    plan = plan_training(
        experiment,
        resume=args.resume,
        evaluate=args.eval or (args.dry_run and experiment.EvalDataset is not None),
        device=args.device,
        classes_from=args.classes_from,
        allow_partial=args.allow_partial,
        profile=args.profile,
        download=not args.dry_run,
    )
    if distributed.is_main():
        print(plan.summary(evaluates=args.eval), flush=True)
    if args.dry_run:
        return 0
    result = plan.run()
    if not distributed.is_main():
        return 0
    if args.profile:
        print(f"trace and table: {result.folder / PROFILE}")
    elif result.stopped is not None:
        print(f"stopped at step {result.steps}: {result.stopped}; -r resumes")
    else:
        print(f"trained {result.steps} steps; weights: {result.final}")
    return 0


def short_forms(args: argparse.Namespace) -> tuple[str, ...]:
    """Overrides that ``--epochs``, ``--batch`` and ``--lr`` stand for; logs them."""
    values = {SHORT_FORMS[name]: getattr(args, name) for name in SHORT_FORMS}
    overrides = tuple(f"{key}={value}" for key, value in values.items() if value is not None)
    if overrides:
        logger.info("-o %s", " ".join(overrides))
    return overrides
