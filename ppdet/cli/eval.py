"""Measure the AP and the speed of trained weights on the EvalDataset of a config."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ppdet.cli.common import (
    add_config_arguments,
    add_device_argument,
    add_runtime_argument,
    load_trained,
    make_folder,
)
from ppdet.cli.view_options import add_view_arguments, views_from


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``ppdet eval``."""
    add_config_arguments(parser)
    parser.add_argument(
        "--weights", metavar="FILE|NAME|URL", help="weights to evaluate; default: the config's `weights`"
    )
    parser.add_argument("--json", metavar="FILE", help="write every metric and the speed to FILE")
    parser.add_argument(
        "--save_results", metavar="FILE", help="write the detections in COCO's results format"
    )
    parser.add_argument("--classwise", action="store_true", help="show the AP of each class")
    parser.add_argument(
        "--allow-partial", action="store_true", help="evaluate even if the weights leave parts untrained"
    )
    add_view_arguments(parser)
    add_runtime_argument(parser)
    add_device_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate and print."""
    from ppdet.engine import distributed
    from ppdet.engine.evaluator import class_table
    from ppdet.experiment.build import build_dataset, require
    from ppdet.experiment.evaluate import Evaluation
    from ppdet.export.choose import choose_predictor
    from ppdet.structures import Categories

    for target in (args.json, args.save_results):
        if target:
            make_folder(Path(target).parent)  # now, and not after an hour of work
    distributed.start()
    trained = load_trained(args, names_needed=False, allow_partial=args.allow_partial)
    # Labels mean the classes that the weights were trained on; the dataset is matched with them by name.
    categories = Categories.from_names(trained.class_names) if trained.class_names else None
    dataset = build_dataset(trained.experiment, "EvalDataset", categories)
    reader = require(trained.experiment, "EvalReader").build()
    views = views_from(args, reader, trained.model)
    predictor = choose_predictor(
        args.runtime,
        trained.model,
        trained.experiment.architecture,
        reader,
        images=len(dataset) * views.least,
        class_names=trained.class_names,
    )
    evaluation = Evaluation(trained.experiment, trained.model, dataset, predictor, views)
    metrics: dict[str, Any] = dict(evaluation.score_and_time())
    if not distributed.is_main():
        return 0
    assert evaluation.speed is not None
    metrics["fps"] = evaluation.speed.to_dict()
    print(scores_table(metrics))
    if args.classwise:
        metrics["classwise"] = evaluation.metric.classwise()
        print(class_table(metrics["classwise"]))
    print(speed_line(metrics["fps"]))
    if args.json:
        Path(args.json).write_text(json.dumps(metrics, ensure_ascii=False, indent=1), "utf-8")
    if args.save_results:
        Path(args.save_results).write_text(json.dumps(evaluation.metric.results()), "utf-8")
    return 0


def scores_table(metrics: dict[str, Any]) -> str:
    """The numbers of each task, in hundredths as papers have them; "-" where there is nothing to measure."""
    tasks = [task for task in metrics if task != "fps"]
    names = list(metrics[tasks[0]])
    lines = ["     " + "".join(f"{name:>7}" for name in names)]
    for task in tasks:
        cells = [f"{100 * v:7.1f}" if v >= 0 else f"{'-':>7}" for v in metrics[task].values()]
        lines.append(f"{task:<5}" + "".join(cells))
    return "\n".join(lines)


def speed_line(fps: dict[str, Any]) -> str:
    """Images per second and where the time goes."""
    split = ", ".join(f"{name} {part['p50']:.1f}" for name, part in fps["split_ms"].items())
    return (
        f"{fps['fps']:.2f} images per second on {fps['device']}, {fps['runtime']} "
        f"(batch 1, {fps['images']} images); ms per image, median: {split}"
    )
