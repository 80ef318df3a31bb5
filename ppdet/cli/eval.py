"""Measure the AP and the speed of trained weights on an annotated dataset.

ppdet eval --weights output/x/best_model          on the EvalDataset of the config that the weights carry
ppdet eval -c CONFIG --weights NAME               published weights of that config
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from ppdet.cli.common import (
    add_classes_argument,
    add_config_arguments,
    add_device_argument,
    add_runtime_argument,
    add_view_arguments,
    add_weights_argument,
    load_experiment,
    load_trained,
    views_from,
)
from ppdet.utils.files import expanded
from ppdet.utils.tables import text_table

if TYPE_CHECKING:
    pass


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``ppdet eval``."""
    add_config_arguments(parser, required=False)
    add_weights_argument(parser, "evaluate")
    parser.add_argument(
        "--json", type=expanded, metavar="FILE", help="write every metric and the speed to FILE"
    )
    parser.add_argument(
        "--save_results", type=expanded, metavar="FILE", help="write the detections in COCO's results format"
    )
    parser.add_argument(
        "--report",
        type=expanded,
        metavar="FILE.html",
        help="write a page that explains the evaluation; for a model with masks, FILE_masks.html too",
    )
    parser.add_argument("--classwise", action="store_true", help="show AP and AP50 of each class")
    parser.add_argument(
        "--allow-partial", action="store_true", help="evaluate even if the weights leave parts untrained"
    )
    add_classes_argument(parser)
    add_view_arguments(parser)
    add_runtime_argument(parser)
    add_device_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Evaluate and print."""
    from ppdet.engine import distributed
    from ppdet.experiment.evaluate import evaluate
    from ppdet.experiment.sources import files_read
    from ppdet.report.page import jinja2
    from ppdet.utils.files import require_new_place, writable_folder

    for target in (args.json, args.save_results, args.report):
        if target:
            writable_folder(target.parent)  # now, and not after an hour of work
    if args.report:
        jinja2()  # likewise
    distributed.start()
    detector = load_trained(args)
    dataset = load_experiment(args) if args.config else None
    for target in filter(None, (args.json, args.save_results, args.report)):
        require_new_place(target, files_read(detector, dataset))
    result = evaluate(detector, dataset, views=views_from(args))
    if not distributed.is_main():
        return 0
    print(scores_table(result.metrics))
    if args.classwise:
        print(class_table(result.per_class))
    print(speed_line(result.speed))
    if args.json:
        result.save(args.json, with_analysis=bool(args.report))
    if args.save_results:
        result.save_results(args.save_results)
    if args.report:
        source = Path(detector.source).with_suffix("")
        for page in result.save_report(args.report, title="/".join(source.parts[-2:])):
            print(f"report: {page}")
    return 0


def scores_table(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """The numbers of each task, in hundredths as papers have them; "-" where there is nothing to measure."""
    names = list(next(iter(metrics.values())))
    rows = [["", *names]]
    for task, values in metrics.items():
        rows.append([task, *(f"{100 * v:.1f}" if v >= 0 else "-" for v in values.values())])
    return text_table(rows)


def class_table(per_class: Mapping[str, Mapping[str, Optional[float]]]) -> str:
    """AP and AP50 of each class as a text table, a column per number."""
    tasks = list(per_class)
    names = list(dict.fromkeys(name for row in per_class.values() for name in row))
    rows = [["class", *(task.replace(".", " ") if "." in task else f"{task} AP" for task in tasks)]]
    for name in names:
        cells = [per_class[task].get(name) for task in tasks]
        rows.append([name, *("-" if cell is None else f"{cell * 100:.1f}" for cell in cells)])
    return text_table(rows)


def speed_line(fps: Mapping[str, Any]) -> str:
    """Images per second and where the time goes."""
    split = ", ".join(f"{name} {part['p50']:.1f}" for name, part in fps["split_ms"].items())
    return (
        f"{fps['fps']:.2f} images per second on {fps['device']}, {fps['runtime']} "
        f"(batch 1, {fps['images']} images); ms per image, median: {split}"
    )
