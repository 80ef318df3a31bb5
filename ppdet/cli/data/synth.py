"""Write a small dataset of drawn shapes, in COCO format.

ppdet data synth DIR
ppdet data synth DIR --scene touching --train 200 --val 50
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from ppdet.data.tools.shapes import SCENES
from ppdet.data.tools.synth import SyntheticOptions, write_dataset
from ppdet.utils.files import expanded, write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command line."""
    parser.add_argument("folder", type=expanded, help="where to; made if absent")
    default = SyntheticOptions()
    parser.add_argument("--train", type=int, default=default.train, help="training images (%(default)s)")
    parser.add_argument("--val", type=int, default=default.val, help="validation images (%(default)s)")
    parser.add_argument("--height", type=int, default=default.height, help="in pixels (%(default)s)")
    parser.add_argument("--width", type=int, default=default.width, help="in pixels (%(default)s)")
    parser.add_argument("--seed", type=int, default=default.seed, help="(%(default)s)")
    parser.add_argument(
        "--scene",
        choices=list(SCENES),
        default=default.scene,
        help="mixed (default), or a harder one: objects in front of each other, of all sizes, many small "
        "ones, or touching ones",
    )
    parser.add_argument("--json", type=expanded, metavar="FILE", help="write what was made to FILE")


def run(args: argparse.Namespace) -> int:
    """Write the dataset."""
    options = SyntheticOptions(args.train, args.val, args.height, args.width, args.seed, args.scene)
    made = write_dataset(args.folder, options)
    print(f"{args.folder}: {'written' if made else 'is there already'}, {args.train} + {args.val} images")
    if args.json is not None:
        write_json(args.json, {"folder": str(args.folder), "written": made, **asdict(options)})
    return 0
