"""Write the configuration of a training on your own data.

ppdet new --data DIR
ppdet new --data dataset/fruit --model ppyoloe_plus_crn_m_80e_coco --output configs/fruit.yml

Recognises the format, splits the images if nobody has, checks them, and writes one commented YAML with
numbers that fit the data and this machine; then prints the commands that train, evaluate and use it.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from ppdet.data.formats.registry import FORMATS
from ppdet.utils.files import expanded, write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command line."""
    parser.add_argument(
        "--data",
        type=expanded,
        required=True,
        metavar="DIR|FILE",
        help="the dataset: COCO, YOLO (data.yaml), VOC, labelme, or another format of `ppdet data convert`",
    )
    parser.add_argument(
        "--from",
        dest="kind",
        default="auto",
        choices=["auto", *FORMATS],
        help="format of the dataset; auto (default) recognises it",
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="one of `ppdet configs list`; default: one that fits this machine, with the reason",
    )
    parser.add_argument(
        "--output",
        type=expanded,
        metavar="FILE",
        help="the YAML to write (default: the dataset's name, in this folder)",
    )
    parser.add_argument(
        "--weights",
        metavar="FILE|NAME|URL|none",
        help="weights of a detector to start from; default: the model's published ones if they can be had",
    )
    parser.add_argument("--epochs", type=int, metavar="N", help="default: by the number of images")
    parser.add_argument(
        "--val",
        type=float,
        default=0.2,
        metavar="SHARE",
        help="share of the images to validate on, where the dataset is not split (%(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the split (%(default)s)")
    parser.add_argument("--json", type=expanded, metavar="FILE", help="write what was made to a file too")


def run(args: argparse.Namespace) -> int:
    """Write the configuration and print the commands."""
    from ppdet.data.tools.new import new_config

    made = new_config(
        args.data,
        kind=args.kind,
        model=args.model,
        output=args.output,
        weights=args.weights,
        epochs=args.epochs,
        val_share=args.val,
        seed=args.seed,
    )
    for note in made.notes:
        print(note)
    print(f"\n{made.config} is written; read it, change what you like, then:\n")
    for command in made.commands:
        print(f"  {command}")
    if args.json:
        write_json(
            args.json,
            {**asdict(made), "config": str(made.config), "annotations": [str(p) for p in made.annotations]},
        )
    return 0
