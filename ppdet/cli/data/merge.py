"""Unite datasets of any formats: one image per file, one class per name.

ppdet data merge SRC SRC ... --output FILE.json
ppdet data merge a.json b.json --image_dir images --output FILE.json
"""

from __future__ import annotations

import argparse

from ppdet.data.tools.merge import merge_datasets
from ppdet.utils.files import expanded, require_new_place, write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command line."""
    parser.add_argument(
        "sources",
        nargs="+",
        type=expanded,
        metavar="SRC",
        help="the datasets: folders, annotation files or data.yaml, each of any format",
    )
    parser.add_argument(
        "--image_dir", type=expanded, metavar="DIR", help="folder of all images, if they are not found"
    )
    parser.add_argument(
        "--output",
        required=True,
        type=expanded,
        metavar="FILE.json",
        help="COCO annotation file to write; images stay where they are",
    )
    parser.add_argument("--json", type=expanded, metavar="FILE", help="write the counts to FILE")


def run(args: argparse.Namespace) -> int:
    """Unite the datasets."""
    require_new_place(args.output, [*args.sources, *filter(None, [args.image_dir])])
    content, image_dir = merge_datasets(args.sources, args.image_dir)
    write_json(args.output, content)
    numbers = {key: len(content[key]) for key in ("images", "annotations", "categories")}
    counts = ", ".join(f"{count} {key}" for key, count in numbers.items())
    print(f"{args.output}: {counts}; images in {image_dir}")
    if args.json is not None:
        write_json(args.json, {"image_dir": str(image_dir), **numbers}, indent=1)
    return 0
