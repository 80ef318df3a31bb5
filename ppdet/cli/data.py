"""Make, check and look at datasets.

ppdet data synth DIR             write a small dataset of drawn shapes, in COCO format
ppdet data check --dataset_dir DIR --anno_path FILE --image_dir DIR
                                 find everything that is wrong with a dataset
ppdet data stats --dataset_dir DIR --anno_path FILE --image_dir DIR
                                 count objects by class and size
ppdet data convert --dataset_type voc --anno_dir DIR --image_dir DIR --output FILE
                                 VOC, YOLO or labelme annotations to COCO's format
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Optional

from ppdet.data.categories import read_categories
from ppdet.data.datasets.base import AnnotatedDataset
from ppdet.data.datasets.coco import COCODataSet
from ppdet.data.datasets.voc import VOCDataSet
from ppdet.data.tools.check import check_dataset
from ppdet.data.tools.convert import convert, write_coco
from ppdet.data.tools.stats import dataset_stats
from ppdet.data.tools.synth import SyntheticOptions, write_dataset
from ppdet.structures import Categories


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command line."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    synth = actions.add_parser("synth", help="write a small dataset of drawn shapes, in COCO format")
    synth.add_argument("folder", type=Path, help="where to; made if absent")
    default = SyntheticOptions()
    synth.add_argument("--train", type=int, default=default.train, help="training images (%(default)s)")
    synth.add_argument("--val", type=int, default=default.val, help="validation images (%(default)s)")
    synth.add_argument("--height", type=int, default=default.height, help="in pixels (%(default)s)")
    synth.add_argument("--width", type=int, default=default.width, help="in pixels (%(default)s)")
    synth.add_argument("--seed", type=int, default=default.seed, help="(%(default)s)")
    check = actions.add_parser("check", help="find everything that is wrong with a dataset")
    _add_dataset(check)
    check.add_argument("--val_anno_path", default="", help="validation annotations, inside dataset_dir")
    check.add_argument("--val_image_dir", default="", help="validation images, inside dataset_dir")
    check.add_argument("--num_classes", type=int, help="what the config says")
    check.add_argument("--masks", action="store_true", help="the model needs masks")
    check.add_argument("--decode", action="store_true", help="read every image too; slow")
    _add_convert(actions.add_parser("convert", help="VOC, YOLO or labelme annotations to COCO's format"))
    stats = actions.add_parser("stats", help="count objects by class and size, as JSON")
    _add_dataset(stats)


def _add_convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset_type", required=True, choices=["voc", "yolo", "labelme"])
    parser.add_argument("--anno_dir", required=True, type=Path, help="folder of the annotation files")
    parser.add_argument("--image_dir", required=True, type=Path, help="folder of the images")
    parser.add_argument("--output", required=True, type=Path, help="the annotation file to write (.json)")
    parser.add_argument("--label_list", type=Path, help="text file with a class name per line, in order")


def _add_dataset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset_dir", required=True, help="folder of the dataset")
    parser.add_argument(
        "--anno_path",
        required=True,
        help="inside dataset_dir: COCO annotations (.json), or a VOC list (.txt)",
    )
    parser.add_argument("--image_dir", default="", help="folder of the images, inside dataset_dir")
    parser.add_argument("--label_list", help="VOC only: text file with a class name per line")


def run(args: argparse.Namespace) -> int:
    """Do what the command line asks for."""
    actions = {"synth": _synth, "check": _check, "stats": _stats, "convert": _convert}
    return actions[args.action](args)


def _synth(args: argparse.Namespace) -> int:
    options = SyntheticOptions(args.train, args.val, args.height, args.width, args.seed)
    made = write_dataset(args.folder, options)
    print(f"{args.folder}: {'written' if made else 'is there already'}, {args.train} + {args.val} images")
    return 0


def _check(args: argparse.Namespace) -> int:
    train = _dataset(args, args.anno_path, args.image_dir, None)
    val = None
    if args.val_anno_path:
        val = _dataset(args, args.val_anno_path, args.val_image_dir, train.categories)
    check_dataset(train, val, num_classes=args.num_classes, with_masks=args.masks, decode=args.decode)
    print("no problems found")
    return 0


def _stats(args: argparse.Namespace) -> int:
    dataset = _dataset(args, args.anno_path, args.image_dir, None)
    print(json.dumps(dataset_stats(dataset), indent=2, ensure_ascii=False))
    return 0


def _convert(args: argparse.Namespace) -> int:
    names = read_categories(args.label_list).names if args.label_list else None
    content = convert(args.dataset_type, args.anno_dir, args.image_dir, names)
    write_coco(args.output, content)
    print(
        f"{args.output}: {len(content['images'])} images, {len(content['annotations'])} objects, classes "
        + ", ".join(category["name"] for category in content["categories"])
    )
    return 0


def _dataset(
    args: argparse.Namespace, anno_path: str, image_dir: str, categories: Optional[Categories]
) -> AnnotatedDataset:
    """A dataset of the format that the annotation file's name ends in."""
    common = {"dataset_dir": args.dataset_dir, "image_dir": image_dir, "anno_path": anno_path}
    if not anno_path.lower().endswith(".json"):
        return VOCDataSet(**common, label_list=args.label_list, categories=categories)
    fields = ["gt_bbox", "gt_class", *(["gt_poly"] if getattr(args, "masks", False) else [])]
    return COCODataSet(**common, data_fields=fields, load_crowd=True, categories=categories)
