"""Which dataset an action works on: a path, the datasets of a configuration, or the paths of one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Optional, Union

from ppdet.cli.common import CommandError, add_config_arguments
from ppdet.config.spec import Spec
from ppdet.data.category_tables import read_categories
from ppdet.data.datasets.base import AnnotatedDataset, Dataset
from ppdet.data.datasets.coco import COCODataSet
from ppdet.data.datasets.voc import VOCDataSet
from ppdet.data.formats.dataset import LabelledDataset, ReadOptions, united
from ppdet.data.formats.registry import FORMATS, read_parts
from ppdet.structures import Categories
from ppdet.utils.files import expanded, require_new_place, write_json

#: Part of a dataset -> the block of a configuration that names it.
_BLOCKS = {"train": "TrainDataset", "val": "EvalDataset"}


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """The ways to name a dataset: ``SRC``, ``-c CONFIG``, or ``--dataset_dir`` and ``--anno_path``."""
    parser.add_argument(
        "source",
        nargs="?",
        type=expanded,
        metavar="SRC",
        help="the dataset: a folder, an annotation file, or data.yaml",
    )
    parser.add_argument(
        "--from",
        dest="kind",
        default="auto",
        choices=["auto", *FORMATS],
        help="format of SRC; auto (default) recognises it",
    )
    add_config_arguments(parser, required=False, help="in place of SRC: the datasets of a config, FILE|NAME")
    parser.add_argument("--dataset_dir", type=expanded, metavar="DIR", help="folder that paths are inside of")
    parser.add_argument(
        "--anno_path", type=expanded, metavar="FILE", help="in place of SRC: annotation file in dataset_dir"
    )
    parser.add_argument(
        *("--image_dir", "--image_input_dir"),
        type=expanded,
        metavar="DIR",
        help="folder of the images, if it is not found",
    )
    parser.add_argument(
        *("--label_list", "--voc_label_list"),
        type=expanded,
        metavar="FILE",
        help="class names in order, one a line or data.yaml, for YOLO files without a table",
    )


def source_of(args: argparse.Namespace) -> LabelledDataset:
    """The dataset that the arguments name, its parts united.

    Raises:
        CommandError: If they name none, or two.
        DataError: If it cannot be read.
    """
    parts = source_parts(args)
    return united(parts, source_root(args))


def source_parts(args: argparse.Namespace) -> dict[str, LabelledDataset]:
    """The dataset that the arguments name, by its parts; one under ``""`` where there are none.

    Raises:
        CommandError: If they name none, or two.
        DataError: If it cannot be read.
    """
    given = [value for value in (args.source, args.config, args.anno_path) if value is not None]
    if len(given) != 1:
        raise CommandError("name one dataset: SRC, -c CONFIG, or --dataset_dir DIR --anno_path FILE")
    if args.config is not None:
        return _of_config(args.config, args.opt)
    options = ReadOptions(
        None if args.image_dir is None else _inside(args, args.image_dir),
        None if args.label_list is None else read_categories(_inside(args, args.label_list)).names,
    )
    source = args.source if args.source is not None else _inside(args, args.anno_path)
    return read_parts(source, args.kind, options)


def source_root(args: argparse.Namespace) -> Path:
    """The folder that the names of united parts are relative to."""
    source: Path = args.source if args.source is not None else args.dataset_dir or Path()
    return source.parent if source.is_file() else source


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Where a changed dataset goes."""
    parser.add_argument(
        "--output",
        required=True,
        type=expanded,
        metavar="FILE.json",
        help="COCO annotation file to write; images stay where they are",
    )
    parser.add_argument("--json", type=expanded, metavar="FILE", help="write the counts to FILE")


def write_changed(args: argparse.Namespace, dataset: LabelledDataset, content: dict[str, Any]) -> None:
    """Write a changed dataset, and show what it had and has."""
    require_new_place(args.output, [dataset.image_dir, *filter(None, [args.source])])
    write_json(args.output, content)
    keys = ("images", "annotations", "categories")
    counts = {key: {"before": len(dataset.content[key]), "after": len(content[key])} for key in keys}
    told = ", ".join(f"{one['after']} of {one['before']} {key}" for key, one in counts.items())
    print(f"{args.output}: {told}; images in {dataset.image_dir}")
    if args.json is not None:
        write_json(args.json, {"image_dir": str(dataset.image_dir), **counts}, indent=1)


def _inside(args: argparse.Namespace, path: Union[str, Path]) -> Path:
    """A path in ``--dataset_dir``, if that is given."""
    root: Optional[Path] = args.dataset_dir
    return expanded(path) if root is None else root / expanded(path)


def _of_config(config: str, overrides: list[str]) -> dict[str, LabelledDataset]:
    from ppdet.experiment.config import load_config

    experiment = load_config(config, overrides)
    parts = {}
    for part, block in _BLOCKS.items():
        spec = getattr(experiment, block)
        if isinstance(spec, Spec) and spec.arguments.get("anno_path"):
            parts[part] = _of_block(spec)
    if not parts:
        raise CommandError(f"{config}: neither TrainDataset nor EvalDataset names annotations (anno_path)")
    return parts


def _of_block(spec: Spec[Dataset]) -> LabelledDataset:
    arguments: dict[str, Any] = dict(spec.arguments)
    root = expanded(arguments.get("dataset_dir") or "")
    label_list = arguments.get("label_list")
    names = read_categories(root / expanded(label_list)).names if label_list else None
    options = ReadOptions(root / expanded(arguments.get("image_dir") or ""), names)
    parts = read_parts(root / expanded(arguments["anno_path"]), "auto", options)
    return parts.get(arguments.get("part", ""), None) or united(parts, root)


def add_dataset_arguments(parser: argparse.ArgumentParser) -> None:
    """Where a dataset that a training reads in place is: ``-c CONFIG``, or its paths."""
    add_config_arguments(
        parser, required=False, help="in place of paths: the datasets of a config, FILE|NAME"
    )
    parser.add_argument("--dataset_dir", default="", help="folder of the dataset (the current one)")
    parser.add_argument(
        "--anno_path",
        default="",
        help="inside dataset_dir: COCO annotations (.json), or a VOC list (.txt)",
    )
    parser.add_argument("--image_dir", default="", help="folder of the images, inside dataset_dir")
    parser.add_argument("--label_list", help="VOC only: file with the class names, one per line")


def add_validation_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the validation set beside it is, if ``-c`` does not say it."""
    parser.add_argument("--val_anno_path", default="", help="validation annotations, inside dataset_dir")
    parser.add_argument("--val_image_dir", default="", help="validation images, inside dataset_dir")


def training_dataset(args: argparse.Namespace, *, load_crowd: bool = False) -> AnnotatedDataset:
    """The training set that the arguments of `add_dataset_arguments` name.

    Raises:
        CommandError: If they name none, or two; or one without an annotation file.
        DataError: If it is not in order.
    """
    if bool(args.config) == bool(args.anno_path):
        raise CommandError("name one dataset: -c CONFIG, or --dataset_dir DIR --anno_path FILE")
    if not args.config:
        return dataset_of(args, args.anno_path, args.image_dir, None, load_crowd=load_crowd)
    found = _built(args, "train", None)
    if found is None:
        raise CommandError(f"{args.config}: it has no TrainDataset")
    return found


def annotation_file(args: argparse.Namespace) -> tuple[Path, Path]:
    """The file with the training annotations that the arguments name, and the folder of its images."""
    if not args.config:
        root = expanded(args.dataset_dir)
        return root / expanded(args.anno_path), root / expanded(args.image_dir)
    from ppdet.experiment.config import load_config

    spec = load_config(args.config, args.opt).TrainDataset
    arguments: dict[str, Any] = dict(spec.arguments) if isinstance(spec, Spec) else {}
    root = expanded(arguments.get("dataset_dir") or "")
    image_dir = root / expanded(arguments.get("image_dir") or "")
    return root / expanded(arguments.get("anno_path") or ""), image_dir


def validation_dataset(args: argparse.Namespace, categories: Categories) -> Optional[AnnotatedDataset]:
    """The validation set: EvalDataset of ``-c CONFIG``, or ``--val_anno_path``; None if neither names one."""
    if args.config:
        return _built(args, "val", categories)
    if not args.val_anno_path:
        return None
    return dataset_of(args, args.val_anno_path, args.val_image_dir, categories)


def _built(
    args: argparse.Namespace, part: str, categories: Optional[Categories]
) -> Optional[AnnotatedDataset]:
    from ppdet.experiment.build import build_dataset
    from ppdet.experiment.config import load_config

    experiment = load_config(args.config, args.opt)
    if getattr(experiment, _BLOCKS[part]) is None:
        return None
    dataset = build_dataset(experiment, _BLOCKS[part], categories)
    if not isinstance(dataset, AnnotatedDataset):
        raise CommandError(f"{args.config}: {_BLOCKS[part]} has no annotation file to look into")
    return dataset


def dataset_of(
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
