"""Rename, join and drop classes.

ppdet data remap dataset/fruit --map apple_red=apple,apple_green=apple,leaf= --output fruit.json
ppdet data remap annotations.json --map classes.yml --output fruit.json      (lines `old: new`, `old: null`)
"""

from __future__ import annotations

import argparse

from ppdet.cli.data.sources import add_output_arguments, add_source_arguments, source_of, write_changed
from ppdet.data.tools.remap import read_class_map, remap_classes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command line."""
    add_source_arguments(parser)
    parser.add_argument(
        "--map", required=True, metavar="OLD=NEW,...|FILE.yml", help="`OLD=` drops a class with its objects"
    )
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Write the dataset with its new classes."""
    names = read_class_map(args.map)
    dataset = source_of(args)
    write_changed(args, dataset, remap_classes(dataset.content, names))
    return 0
