"""Unite COCO annotation files of images in one folder.

ppdet data merge FILE FILE ... --image_dir DIR --output FILE
"""

from __future__ import annotations

import argparse

from ppdet.data.tools.merge import merge_coco
from ppdet.utils.files import expanded, require_new_place, write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command line."""
    parser.add_argument("files", nargs="+", type=expanded, help="the annotation files")
    parser.add_argument("--image_dir", required=True, type=expanded, help="folder of all images")
    parser.add_argument("--output", required=True, type=expanded, help="the annotation file to write (.json)")


def run(args: argparse.Namespace) -> int:
    """Unite the files."""
    require_new_place(args.output, [*args.files, args.image_dir])
    content = merge_coco(args.files, args.image_dir)
    write_json(args.output, content)
    counts = ", ".join(f"{len(content[key])} {key}" for key in ("images", "annotations", "categories"))
    print(f"{args.output}: {counts}")
    return 0
