"""Annotate images with a detector: labels to be corrected, and which images to look at first.

ppdet data predict-labels photos --weights output/x/best_model --to labelme --output_dir to_correct

The result opens in labelme (--to labelme), CVAT (--to cvat, imported as CVAT 1.1) and Label Studio
(--to label-studio). uncertain.csv in it lists the images, the most uncertain first.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from ppdet.cli.common import (
    add_classes_argument,
    add_config_arguments,
    add_device_argument,
    add_runtime_argument,
    add_weights_argument,
    load_trained,
)
from ppdet.data.formats.registry import FORMATS
from ppdet.utils.files import expanded, write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command line."""
    parser.add_argument("images", type=expanded, metavar="IMAGES", help="folder with images, below it too")
    add_config_arguments(parser, required=False)
    add_weights_argument(parser, "run")
    parser.add_argument(
        "--output_dir", required=True, type=expanded, metavar="DIR", help="a new folder for the dataset"
    )
    parser.add_argument(
        "--to",
        default="labelme",
        choices=[name for name, form in FORMATS.items() if form.write],
        help="format to write (default: %(default)s)",
    )
    parser.add_argument(
        "--score",
        type=float,
        default=0.3,
        help="lowest score that becomes an annotation (default: %(default)s)",
    )
    parser.add_argument("--copy", action="store_true", help="copy the images; default: hard links")
    parser.add_argument("--json", type=expanded, metavar="FILE", help="write the counts and the list to FILE")
    add_classes_argument(parser)
    add_runtime_argument(parser)
    add_device_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Detect, write, and name the first images to look at."""
    from ppdet.data.tools.labels import UNCERTAIN, predict_labels

    made = predict_labels(
        load_trained(args), args.images, args.output_dir, to=args.to, score=args.score, copy=args.copy
    )
    print(
        f"{made.folder}: {made.images} images as {FORMATS[args.to].title}, {made.objects} objects with a "
        f"score of at least {args.score:g}"
    )
    for what, count in made.counts.items():
        print(f"{count} {what}: {FORMATS[args.to].title} cannot hold them")
    if made.skipped:
        print(f"{made.skipped} images could not be read and were skipped; their names are above")
    print(f"the most uncertain first, in {made.folder / UNCERTAIN}:")
    for name, value in made.uncertain[:5]:
        print(f"  {value:6.2f}  {name}")
    if args.json:
        write_json(args.json, {**asdict(made), "folder": str(made.folder)}, indent=1)
    return 0
