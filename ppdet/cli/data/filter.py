"""Keep or drop objects and images: by class, size, area, and names of files.

ppdet data filter dataset/fruit --classes apple,pear --min_side 8 --output big_fruit.json
ppdet data filter annotations.json --drop_files "night/*" --drop_empty --output day.json
"""

from __future__ import annotations

import argparse
import math

from ppdet.cli.data.sources import add_output_arguments, add_source_arguments, source_of, write_changed
from ppdet.data.tools.filter import FilterOptions, filter_dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command line."""
    add_source_arguments(parser)
    parser.add_argument("--classes", type=_names, metavar="NAME,...", help="classes to keep")
    parser.add_argument("--drop_classes", type=_names, default=(), metavar="NAME,...", help="classes to drop")
    for name, default, what in (
        ("--min_side", 0.0, "least of a box's shorter side"),
        ("--max_side", math.inf, "most of a box's longer side"),
        ("--min_area", 0.0, "least of a box's area"),
        ("--max_area", math.inf, "most of a box's area"),
    ):
        parser.add_argument(name, type=float, default=default, metavar="PIXELS", help=what)
    parser.add_argument(
        "--files", default="*", metavar="PATTERN", help="names of images to keep, as in a shell"
    )
    parser.add_argument("--drop_files", default="", metavar="PATTERN", help="names of images to drop")
    parser.add_argument(
        "--drop_empty",
        action="store_true",
        help="drop images of which no object is left; without it they stay",
    )
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Write what stays."""
    options = FilterOptions(
        classes=args.classes,
        drop_classes=args.drop_classes,
        min_side=args.min_side,
        max_side=args.max_side,
        min_area=args.min_area,
        max_area=args.max_area,
        files=args.files,
        drop_files=args.drop_files,
        drop_empty=args.drop_empty,
    )
    dataset = source_of(args)
    write_changed(args, dataset, filter_dataset(dataset.content, options))
    return 0


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (name.strip() for name in text.split(","))))
