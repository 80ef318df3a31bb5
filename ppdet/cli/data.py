"""Make, check, count and convert datasets.

ppdet data synth DIR             write a small dataset of drawn shapes, in COCO format
ppdet data check --dataset_dir DIR --anno_path FILE --image_dir DIR
                                 find everything that is wrong with a dataset
ppdet data stats --dataset_dir DIR --anno_path FILE --image_dir DIR
                                 count objects by class and size
ppdet data convert --dataset_type voc --anno_dir DIR --image_dir DIR --output FILE
                                 VOC, YOLO or labelme annotations to COCO's format
ppdet data merge FILE FILE ... --image_dir DIR --output FILE
                                 unite COCO annotation files
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from ppdet.cli.common import CommandError
from ppdet.data.category_tables import read_categories
from ppdet.data.datasets.base import AnnotatedDataset
from ppdet.data.datasets.coco import COCODataSet
from ppdet.data.datasets.voc import VOCDataSet
from ppdet.data.problems import REMARKS, DatasetProblem, DatasetProblemsError, describe
from ppdet.data.tools.check import check_dataset
from ppdet.data.tools.convert import convert, copy_images, split_images
from ppdet.data.tools.merge import merge_coco
from ppdet.data.tools.stats import dataset_stats
from ppdet.data.tools.synth import SyntheticOptions, write_dataset
from ppdet.structures import Categories
from ppdet.utils.files import expanded, require_new_place, write_json

#: Examples of each kind of problem that `check` prints.
_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command line."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    synth = actions.add_parser("synth", help="write a small dataset of drawn shapes, in COCO format")
    synth.add_argument("folder", type=expanded, help="where to; made if absent")
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
    check.add_argument("--decode", action="store_true", help="decode every image too; slow")
    check.add_argument("--json", type=expanded, metavar="FILE", help="write every problem to a file too")
    _add_convert(actions.add_parser("convert", help="VOC, YOLO or labelme annotations to COCO's format"))
    merge = actions.add_parser("merge", help="unite COCO annotation files of images in one folder")
    merge.add_argument("files", nargs="+", type=expanded, help="the annotation files")
    merge.add_argument("--image_dir", required=True, type=expanded, help="folder of all images")
    merge.add_argument("--output", required=True, type=expanded, help="the annotation file to write (.json)")
    stats = actions.add_parser("stats", help="count objects by class and size, as JSON")
    _add_dataset(stats)


def _add_convert(parser: argparse.ArgumentParser) -> None:
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


def _add_dataset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset_dir", default="", help="folder of the dataset (the current one)")
    parser.add_argument(
        "--anno_path",
        required=True,
        help="inside dataset_dir: COCO annotations (.json), or a VOC list (.txt)",
    )
    parser.add_argument("--image_dir", default="", help="folder of the images, inside dataset_dir")
    parser.add_argument("--label_list", help="VOC only: file with the class names, one per line")


def run(args: argparse.Namespace) -> int:
    """Run one action."""
    actions = {"synth": _synth, "check": _check, "stats": _stats, "convert": _convert, "merge": _merge}
    return actions[args.action](args)


def _synth(args: argparse.Namespace) -> int:
    options = SyntheticOptions(args.train, args.val, args.height, args.width, args.seed)
    made = write_dataset(args.folder, options)
    print(f"{args.folder}: {'written' if made else 'is there already'}, {args.train} + {args.val} images")
    return 0


def _check(args: argparse.Namespace) -> int:
    try:
        train = _dataset(args, args.anno_path, args.image_dir, None)
        val = None
        if args.val_anno_path:
            val = _dataset(args, args.val_anno_path, args.val_image_dir, train.categories)
        remarks = check_dataset(
            train, val, num_classes=args.num_classes, with_masks=args.masks, decode=args.decode
        )
    except DatasetProblemsError as error:
        _write_problems(args.json, error.problems)
        raise DatasetProblemsError(error.source, error.problems, shown=_SHOWN) from None
    _write_problems(args.json, remarks)
    if remarks:
        print(describe(str(args.anno_path), remarks, shown=_SHOWN))
    print("no errors" if remarks else "no problems found")
    return 0


def _write_problems(path: Optional[Path], problems: Sequence[DatasetProblem]) -> None:
    """Every problem as JSON: kind, text, and whether training can live with it."""
    if path is not None:
        rows = [{"kind": p.kind, "text": p.text, "error": p.kind not in REMARKS} for p in problems]
        write_json(path, rows)


def _stats(args: argparse.Namespace) -> int:
    dataset = _dataset(args, args.anno_path, args.image_dir, None, load_crowd=True)
    print(json.dumps(dataset_stats(dataset), indent=2, ensure_ascii=False))
    return 0


def _convert(args: argparse.Namespace) -> int:
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


def _merge(args: argparse.Namespace) -> int:
    require_new_place(args.output, [*args.files, args.image_dir])
    content = merge_coco(args.files, args.image_dir)
    write_json(args.output, content)
    counts = ", ".join(f"{len(content[key])} {key}" for key in ("images", "annotations", "categories"))
    print(f"{args.output}: {counts}")
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


def _dataset(
    args: argparse.Namespace,
    anno_path: str,
    image_dir: str,
    categories: Optional[Categories],
    *,
    load_crowd: bool = False,
) -> AnnotatedDataset:
    """A dataset of the format that the annotation file's name ends in, as training would build it."""
    common = {"dataset_dir": args.dataset_dir, "image_dir": image_dir, "anno_path": anno_path}
    if not anno_path.lower().endswith(".json"):
        return VOCDataSet(**common, label_list=args.label_list, categories=categories)
    fields = ["gt_bbox", "gt_class", *(["gt_poly"] if getattr(args, "masks", False) else [])]
    return COCODataSet(**common, data_fields=fields, load_crowd=load_crowd, categories=categories)
