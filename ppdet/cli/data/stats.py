"""Count objects by class and size; say what a config's anchors reach, and whether train and val are alike.

ppdet data stats -c FILE|NAME --report stats.html
ppdet data stats --dataset_dir DIR --anno_path FILE --image_dir DIR
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ppdet.cli.data.sources import (
    add_dataset_arguments,
    add_validation_arguments,
    training_dataset,
    validation_dataset,
)
from ppdet.data.tools.stats import compare_sets, dataset_stats
from ppdet.utils.files import expanded, write_json, write_text
from ppdet.utils.tables import text_table

#: Classes that are printed: those with most and with fewest objects.
_SHOWN = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command line."""
    add_dataset_arguments(parser)
    add_validation_arguments(parser)
    parser.add_argument("--json", type=expanded, metavar="FILE", help="write every figure to FILE")
    parser.add_argument(
        "--report", type=expanded, metavar="FILE.html", help="write a page with charts; needs ppdet[report]"
    )
    parser.add_argument("--png", type=expanded, metavar="FILE.png", help="write the charts as a picture")


def run(args: argparse.Namespace) -> int:
    """Count, and show."""
    train = training_dataset(args, load_crowd=True)
    val = validation_dataset(args, train.categories)
    figures: dict[str, Any] = {"train": {}, "val": None, "alike": None, "reach": None}
    size = None
    if args.config:
        from ppdet.data.tools.input_size import configured_size
        from ppdet.data.tools.reach import anchor_reach
        from ppdet.experiment.config import load_config

        experiment = load_config(args.config, args.opt)
        size = configured_size(experiment, train)
        reach = anchor_reach(experiment, train, size)
        figures["reach"] = None if reach is None else asdict(reach)
    figures["train"] = dataset_stats(train, size)
    if val is not None:
        figures["val"] = dataset_stats(val, size)
        figures["alike"] = compare_sets(train, val)
    print(_text(figures))
    if args.json is not None:
        write_json(args.json, figures, indent=1)
    if args.report is not None:
        from ppdet.report.dataset import dataset_page

        write_text(args.report, dataset_page(figures, args.config or args.anno_path))
        print(f"\npage for a browser: {args.report}")
    if args.png is not None:
        from ppdet.inference.drawing import save_picture
        from ppdet.report.dataset_picture import dataset_picture

        print(f"\ncharts: {save_picture(dataset_picture(figures), args.png)}")
    return 0


def _text(figures: Mapping[str, Any]) -> str:
    """The figures for a terminal."""
    sets = {name: figures[name] for name in ("train", "val") if figures[name] is not None}
    rows = [["", *sets]]
    for title, key in (
        ("images", "images"),
        ("  without objects", "images_without_objects"),
        ("objects", "objects"),
        ("  crowd regions", "crowd_regions"),
    ):
        rows.append([title, *(f"{one[key]:,}" for one in sets.values())])
    for name in ("small", "medium", "large"):
        rows.append([f"  {name}", *(f"{one['objects_by_size'][name]:,}" for one in sets.values())])
    for limit in ("0.3", "0.5"):
        shares = (f"{100 * one['crowding'][f'iou_{limit}']:.1f} %" for one in sets.values())
        rows.append([f"  IoU with another >= {limit}", *shares])
    parts = [text_table(rows), "", text_table(_quantile_rows(sets)), "", _classes(sets)]
    if figures["alike"] is not None:
        parts += ["", _alike(figures["alike"])]
    if figures["reach"] is not None:
        parts += ["", _reach(figures["reach"])]
    return "\n".join(parts)


def _quantile_rows(sets: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    titles = {
        "objects_per_image": "objects per image",
        "image_width": "image width",
        "image_height": "image height",
        "box_width": "box width",
        "box_height": "box height",
        "box_side_share": "box side / image side",
        "aspect_ratio": "box height / width",
        "box_side_in_input": "box side in the input",
    }
    rows = [["", "", "least", "25 %", "median", "75 %", "most"]]
    for key, title in titles.items():
        for name, one in sets.items():
            if one.get(key):
                rows.append([title, name, *(f"{value:g}" for value in one[key])])
    return rows


def _classes(sets: Mapping[str, Mapping[str, Any]]) -> str:
    train = sets["train"]["objects_by_class"]
    order = sorted(train, key=lambda name: -train[name])
    shown = order if len(order) <= 2 * _SHOWN else [*order[:_SHOWN], *order[-_SHOWN:]]
    rows = [["class", *sets]]
    rows += [
        [name, *(f"{one['objects_by_class'].get(name, 0):,}" for one in sets.values())] for name in shown
    ]
    left = len(order) - len(shown)
    return text_table(rows) + (f"\n{left} classes between these: --json has all" if left else "")


def _alike(found: Mapping[str, Any]) -> str:
    lines = ["train and val, difference from 0 to 1 (and the chance of as large a one by drawing):"]
    for key, title in (
        ("classes", "classes"),
        ("sizes", "sizes"),
        ("objects_per_image", "objects per image"),
    ):
        if key in found:
            one = found[key]
            verdict = "differs" if one["differs"] else "alike"
            lines.append(f"  {title:<18} {one['difference']:.3f} ({one['chance']:.3g}): {verdict}")
    if found["missing"]:
        shown = ", ".join(found["missing"][:_SHOWN])
        more = f" and {len(found['missing']) - _SHOWN} more" if len(found["missing"]) > _SHOWN else ""
        lines.append(f"  no object in val: {shown}{more}")
    return "\n".join(lines)


def _reach(found: Mapping[str, Any]) -> str:
    lines = [f"reached by {found['rule']}: {100 * found['recall']:.1f} % of the objects"]
    if found["mean_iou"] is not None:
        lines[0] += f" (with 0.7: {100 * found['recall_strict']:.1f} %, mean IoU {found['mean_iou']:.3f})"
    rows = [["stride", "reached", "best there"]]
    rows += [
        [str(one["stride"]), f"{100 * one['share']:.1f} %", f"{100 * one['best']:.1f} %"]
        for one in found["levels"]
    ]
    return "\n".join([*lines, text_table(rows)])
