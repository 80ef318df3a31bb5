"""Show what a training sees: images before and after the reader's transforms, with boxes, masks and names.

ppdet data browse -c FILE|NAME --output sheet.png
ppdet data browse -c FILE|NAME --only "RandomFlip: {prob: 1}" --output flip.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ppdet.cli.common import add_config_arguments
from ppdet.utils.files import expanded, require_new_place, write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command line."""
    add_config_arguments(parser)
    parser.add_argument(
        "--output",
        type=expanded,
        default=expanded("browse.png"),
        metavar="FILE",
        help="a sheet (.png, .jpg) or a page (.html) (%(default)s)",
    )
    parser.add_argument("--num", type=int, default=8, metavar="N", help="images to show (%(default)s)")
    parser.add_argument(
        "--reader",
        choices=["TrainReader", "EvalReader"],
        default="TrainReader",
        help="whose dataset and transforms (%(default)s)",
    )
    parser.add_argument(
        "--only", metavar="TRANSFORM", help="show one transform alone: its name, or a YAML item"
    )
    parser.add_argument("--steps", action="store_true", help="show the image after each transform too")
    parser.add_argument("--epoch", type=int, default=0, help="which epoch of the training (%(default)s)")
    parser.add_argument("--seed", type=int, help="in place of the config's; the same seed shows the same")
    parser.add_argument(
        "--json", type=expanded, metavar="FILE", help="write files and numbers of objects too"
    )


def run(args: argparse.Namespace) -> int:
    """Write the sheet or the page."""
    from ppdet.data.tools.browse import browse, single_transform, write_browsed
    from ppdet.experiment.config import load_config

    overrides = [*args.opt, *([] if args.seed is None else [f"seed={args.seed}"])]
    experiment = load_config(args.config, overrides)
    if args.only:
        overrides += single_transform(experiment, args.reader, args.only)
        experiment = load_config(args.config, overrides)
    for target in filter(None, (args.output, args.json)):
        require_new_place(target, [Path(place.file) for place in experiment.origins.values()])
    shown = browse(experiment, reader=args.reader, count=args.num, epoch=args.epoch, steps=args.steps)
    path = write_browsed(shown, args.output)
    print(f"{path}: {len(shown)} images of epoch {args.epoch}, seed {experiment.seed or 0}")
    if args.json:
        write_json(args.json, [{"image": i.path, "objects": dict(zip(i.pictures, i.objects))} for i in shown])
    return 0
