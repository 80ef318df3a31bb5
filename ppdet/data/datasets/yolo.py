"""YOLO-format detection data: a `data.yaml`, images, and a text file of shares for each."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal, Optional

from ppdet.config.ranges import IntFromMinusOne, NonNegative, PositiveInt
from ppdet.config.spec import Derived
from ppdet.data.annotation_files import require_folder
from ppdet.data.datasets.base import AnnotatedDataset, check_data_fields
from ppdet.data.datasets.coco import packed_of
from ppdet.data.formats.coco import parse_coco
from ppdet.data.formats.yolo_dataset import read_part
from ppdet.data.problems import DatasetProblemsError
from ppdet.structures import Categories
from ppdet.utils.files import expanded

logger = logging.getLogger(__name__)


class YOLODataSet(AnnotatedDataset):
    """Images and objects of a part of a YOLO dataset, read in place.

    Lines are boxes, or outlines, whose bounds are the box; of oriented boxes the upright box around them.
    Objects whose box has no area, or is altogether outside of its image, are dropped and counted. Sizes are
    those of the image files. Images are numbered from 1 in the order of their paths, or of their list.

    Args:
        dataset_dir: Folder of the dataset.
        anno_path: Its ``data.yaml``, inside `dataset_dir`.
        part: Which images: those under ``train``, ``val`` or ``test``.
        data_fields: As in `COCODataSet`; ``gt_poly`` needs an outline for every object.
        sample_num: As in `COCODataSet`.
        allow_empty: As in `COCODataSet`.
        empty_ratio: As in `COCODataSet`.
        repeat: As in `COCODataSet`.
        categories: As in `COCODataSet`.

    Raises:
        DataError: If a folder, list, or image is missing, a label file is broken, or no object is left; names
            file and line.
    """

    def __init__(
        self,
        *,
        dataset_dir: str,
        anno_path: str = "data.yaml",
        part: Literal["train", "val", "test"] = "train",
        data_fields: Sequence[str] = ("image", "gt_bbox", "gt_class"),
        sample_num: IntFromMinusOne = -1,
        allow_empty: bool = True,
        empty_ratio: NonNegative = 1.0,
        repeat: PositiveInt = 1,
        categories: Derived[Optional[Categories]] = None,
    ) -> None:
        check_data_fields(data_fields)
        root = expanded(dataset_dir)
        require_folder(root, "dataset_dir")
        path = root / expanded(anno_path)
        dataset = read_part(path, part)
        source = f"{path} ({part})"
        parsed = parse_coco(dataset.content, with_masks="gt_poly" in data_fields)
        if parsed.problems:
            raise DatasetProblemsError(source, parsed.problems)
        made = packed_of(
            parsed,
            categories,
            source,
            load_crowd=False,
            allow_empty=allow_empty,
            empty_ratio=empty_ratio,
            sample_num=sample_num,
        )
        for what, count in dataset.counts.items():
            logger.warning("%s: %d %s", source, count, what)
        logger.info("%s: %s", source, made.summary)
        self.image_folder = dataset.image_dir.as_posix()
        self._categories = made.categories if categories is None else categories
        self._repeat = repeat
        self.packed = made.packed
        self.remarks = made.remarks
        self.require_distinct_files(source)
