"""Convert a dataset from one format to another.

ppdet data convert SRC DST --to coco
ppdet data convert -c FILE|NAME DST --to yolo

SRC is a folder or an annotation file; its format is recognised and printed. DST is a new folder, with the
images as hard links, or a new file for annotations alone. What the format cannot hold is counted by kind.
The flags of PaddleDetection 2.x (tools/x2coco.py) work too:

ppdet data convert --dataset_type voc --anno_dir DIR --image_dir DIR --output FILE
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from ppdet.cli.common import CommandError
from ppdet.cli.data.sources import add_source_arguments, source_parts
from ppdet.data.category_tables import read_categories
from ppdet.data.formats.registry import FORMATS, write_any
from ppdet.data.formats.writing import IMAGE_MODES
from ppdet.data.tools.convert import convert, copy_images
from ppdet.data.tools.split import split_images
from ppdet.utils.files import expanded, require_new_place, write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command line."""
    add_source_arguments(parser)
    parser.add_argument(
        "target", nargs="?", type=expanded, metavar="DST", help="a new folder; or a new file, without images"
    )
    parser.add_argument(
        "--to", choices=[name for name, form in FORMATS.items() if form.write], help="format to write"
    )
    parser.add_argument(
        "--images",
        choices=IMAGE_MODES,
        default="link",
        help="images of DST: hard links, which need no space (default), copies, or none",
    )
    parser.add_argument("--json", type=expanded, metavar="FILE", help="write the counts to a file too")
    _add_two_x_arguments(parser.add_argument_group("flags of PaddleDetection 2.x, in place of SRC and DST"))


def run(args: argparse.Namespace) -> int:
    """Convert, and say what was left out."""
    return _convert(args) if args.dataset_type is None else _two_x(args)


def _convert(args: argparse.Namespace) -> int:
    if args.target is None and args.source is not None and (args.config or args.anno_path):
        args.source, args.target = None, args.source  # the one path beside -c is where to write
    if args.target is None:
        raise CommandError("say where to write: ppdet data convert SRC DST --to FORMAT")
    if args.to is None:
        raise CommandError(f"say which format to write: --to {'|'.join(FORMATS)}")
    if args.source is not None and args.source.resolve() in args.target.resolve().parents:
        raise CommandError(f"{args.target} is inside of {args.source}, which is read; name another place")
    parts = source_parts(args)
    kind = next(iter(parts.values())).kind
    print(f"{args.source or args.config or args.anno_path}: {FORMATS[kind].title}")
    read = Counter[str]()
    for part in parts.values():
        read.update(part.counts)
    done = write_any(parts, args.target, args.to, images=args.images)
    for name, images in done.images.items():
        print(f"{args.target}{f' {name}' if name else ''}: {images} images, {done.objects[name]} objects")
    for what, count in read.items():
        print(f"{count} {what}")
    for what, count in done.counts.items():
        print(f"{count} {what}: {FORMATS[args.to].title} cannot hold them")
    if args.json:
        write_json(args.json, {"from": kind, "to": args.to, **done._asdict(), "read": read})
    return 0


def _add_two_x_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--dataset_type", choices=["voc", "yolo", "labelme"])
    group.add_argument(
        *("--anno_dir", "--json_input_dir", "--voc_anno_dir"),
        type=expanded,
        help="folder of the annotation files; --image_dir is that of the images (VOC: JPEGImages beside it)",
    )
    group.add_argument("--output", type=expanded, help="the annotation file to write (.json)")
    group.add_argument(
        "--output_dir",
        type=expanded,
        help="in place of --output, as 2.x: VOC_OUT_NAME in it, or annotations/instance_*.json and copies of "
        "the images, split by the proportions",
    )
    group.add_argument(
        *("--list", "--voc_anno_list"),
        type=expanded,
        help="text file that names the images to take, with or without suffix (ImageSets/Main/train.txt)",
    )
    group.add_argument(
        "--negatives",
        action="store_true",
        help="images without an annotation file have no objects; without this they are left out",
    )
    group.add_argument("--voc_out_name", default="voc.json", help="file in --output_dir (%(default)s)")
    for part, share in (("train", 1.0), ("val", 0.0), ("test", 0.0)):
        group.add_argument(
            f"--{part}_proportion", type=float, default=share, help="of the images (%(default)s)"
        )


def _two_x(args: argparse.Namespace) -> int:
    if args.anno_dir is None:
        raise CommandError("--dataset_type needs --anno_dir, the folder of the annotation files")
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
