"""Fit anchors to the objects of a config's training images: k-means with 1 - IoU, refined by mutations.

ppdet data anchors -c yolov3_darknet53_270e_coco
ppdet data anchors -c configs/fruit.yml --write configs/fruit_anchors.yml
"""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict
from pathlib import Path

from ppdet.cli.common import CommandError, add_config_arguments
from ppdet.config.packaged import config_path, packaged_configs
from ppdet.utils.errors import FileError
from ppdet.utils.files import expanded, write_json, write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command line."""
    add_config_arguments(parser)
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    parser.add_argument(
        "--write",
        type=expanded,
        metavar="FILE.yml",
        help="write a config that is CONFIG (its _BASE_) with these anchors",
    )
    parser.add_argument("--json", type=expanded, metavar="FILE", help="write the figures to FILE")


def run(args: argparse.Namespace) -> int:
    """Fit, show, and write."""
    from ppdet.data.datasets.base import AnnotatedDataset
    from ppdet.data.tools.anchors import REACHED
    from ppdet.data.tools.config_anchors import better_anchors
    from ppdet.data.tools.input_size import configured_size
    from ppdet.experiment.build import build_dataset
    from ppdet.experiment.config import load_config

    if args.write is not None and args.write.exists():
        raise FileError(f"{args.write} is there already; name another file with --write, or remove it")
    experiment = load_config(args.config, args.opt)
    dataset = build_dataset(experiment, "TrainDataset")
    if not isinstance(dataset, AnnotatedDataset):
        raise CommandError(
            f"{args.config}: the boxes of {type(dataset).__name__} are not known without reading it"
        )
    found = better_anchors(experiment, dataset, configured_size(experiment, dataset), seed=args.seed)
    if found is None:
        raise CommandError(
            f"{args.config}: {experiment.architecture.name} has no anchors to fit: none, or they follow "
            "from its strides"
        )
    print(f"IoU of objects with their best anchor; recall is the share with {REACHED} or more")
    for name, fit in (("today", found.today), ("fitted", found.fitted)):
        print(f"{name:<7} recall {fit.recall:.3f}, mean {fit.mean_iou:.3f}")
    print(f"\n{found.yaml()}")
    if args.write is not None:
        gain = f"mean best IoU {found.fitted.mean_iou:.3f}, before {found.today.mean_iou:.3f}"
        head = f"# Anchors by `ppdet data anchors -c {args.config}`: {gain}."
        write_text(args.write, f"{head}\n_BASE_: {_base(args.config, args.write)}\n\n{found.yaml()}\n")
        print(f"\nwritten: {args.write}")
    if args.json is not None:
        write_json(args.json, {**asdict(found), "yaml": found.yaml()}, indent=1)
    return 0


def _base(config: str, target: Path) -> str:
    """A config as another file names it: packaged ones by name, others by the way to them."""
    path = config_path(config)
    if packaged_configs().get(path.stem) == path:
        return path.name
    return Path(os.path.relpath(path, target.parent)).as_posix()
