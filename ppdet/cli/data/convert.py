"""VOC, YOLO or labelme annotations to COCO's format.

ppdet data convert --dataset_type voc --anno_dir DIR --image_dir DIR --output FILE
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ppdet.cli.common import CommandError
from ppdet.data.category_tables import read_categories
from ppdet.data.tools.convert import convert, copy_images, split_images
from ppdet.utils.files import expanded, require_new_place, write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command line."""
    parser.add_argument("--dataset_type", required=True, choices=["voc", "yolo", "labelme"])
    parser.add_argument(
        *("--anno_dir", "--json_input_dir", "--voc_anno_dir"),
        required=True,
        type=expanded,
        help="folder of the annotation files",
    )
    parser.add_argument(
        *("--image_dir", "--image_input_dir"),
        type=expanded,
        help="folder of the images (VOC: JPEGImages beside the folder of the annotations)",
    )
    parser.add_argument("--output", type=expanded, help="the annotation file to write (.json)")
    parser.add_argument(
        "--output_dir",
        type=expanded,
        help="in place of --output, as 2.x: VOC_OUT_NAME in it, or annotations/instance_*.json and copies of "
        "the images, split by the proportions",
    )
    parser.add_argument(
        *("--label_list", "--voc_label_list"),
        type=expanded,
        help="class names in order: a text file with one per line, or data.yaml of a YOLO dataset",
    )
    parser.add_argument(
        *("--list", "--voc_anno_list"),
        type=expanded,
        help="text file that names the images to take, with or without suffix (ImageSets/Main/train.txt)",
    )
    parser.add_argument(
        "--negatives",
        action="store_true",
        help="images without an annotation file have no objects; without this they are left out",
    )
    parser.add_argument("--voc_out_name", default="voc.json", help="file in --output_dir (%(default)s)")
    for part, share in (("train", 1.0), ("val", 0.0), ("test", 0.0)):
        parser.add_argument(
            f"--{part}_proportion", type=float, default=share, help="of the images (%(default)s)"
        )


def run(args: argparse.Namespace) -> int:
    """Convert, and say what was left out."""
    image_dir = args.image_dir or _voc_images(args)
    if (args.output is None) == (args.output_dir is None):
        raise CommandError("say where to write: --output FILE, or --output_dir DIR")
    inputs = [args.anno_dir, image_dir, *filter(None, (args.label_list, args.list))]
    names = read_categories(args.label_list).names if args.label_list else None
    made = convert(
        args.dataset_type, args.anno_dir, image_dir, names, negatives=args.negatives, only=args.list
    )
    for path, content in _parts(args, made.content).items():
        require_new_place(path, inputs)
        if path.parent.name == "annotations" and args.output is None and args.dataset_type != "voc":
            copy_images(content, image_dir, args.output_dir / path.stem.rpartition("_")[2])
        write_json(path, content)
        empty = len(content["images"]) - len({row["image_id"] for row in content["annotations"]})
        print(
            f"{path}: {len(content['images'])} images ({empty} without objects), "
            f"{len(content['annotations'])} objects, classes "
            + ", ".join(category["name"] for category in content["categories"])
        )
    for what, count in made.counts.items():
        print(f"{count} {what}")
    return 0


def _voc_images(args: argparse.Namespace) -> Path:
    beside: Path = args.anno_dir.parent / "JPEGImages"
    if args.dataset_type == "voc" and beside.is_dir():
        return beside
    raise CommandError("say where the images are: --image_dir DIR")


def _parts(args: argparse.Namespace, content: dict[str, Any]) -> dict[Path, dict[str, Any]]:
    """Content of each annotation file to write."""
    if args.output is not None:
        return {args.output: content}
    if args.dataset_type == "voc":
        return {args.output_dir / args.voc_out_name: content}
    shares = {part: getattr(args, f"{part}_proportion") for part in ("train", "val", "test")}
    return {
        args.output_dir / "annotations" / f"instance_{name}.json": part
        for name, part in split_images(content, shares).items()
        if shares[name] > 0
    }
