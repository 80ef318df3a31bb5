"""Which dataset an action works on."""

from __future__ import annotations

import argparse
from typing import Optional

from ppdet.data.datasets.base import AnnotatedDataset
from ppdet.data.datasets.coco import COCODataSet
from ppdet.data.datasets.voc import VOCDataSet
from ppdet.structures import Categories


def add_dataset_arguments(parser: argparse.ArgumentParser) -> None:
    """Where a dataset is."""
    parser.add_argument("--dataset_dir", default="", help="folder of the dataset (the current one)")
    parser.add_argument(
        "--anno_path",
        required=True,
        help="inside dataset_dir: COCO annotations (.json), or a VOC list (.txt)",
    )
    parser.add_argument("--image_dir", default="", help="folder of the images, inside dataset_dir")
    parser.add_argument("--label_list", help="VOC only: file with the class names, one per line")


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
