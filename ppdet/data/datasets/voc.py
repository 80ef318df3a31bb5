"""PASCAL VOC detection data (Everingham et al., "The PASCAL Visual Object Classes Challenge", 2010)."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import numpy as np

from ppdet.config.ranges import IntFromMinusOne, NonNegative, PositiveInt
from ppdet.config.spec import Derived
from ppdet.data.annotation_files import require_folder
from ppdet.data.category_tables import checked_categories, labels_of_ids, read_categories
from ppdet.data.datasets.base import (
    AnnotatedDataset,
    check_data_fields,
    choose_images,
    require_objects,
    summary_of,
)
from ppdet.data.datasets.packed import PackedAnnotations, offsets_of, pack_strings
from ppdet.data.formats.coco_objects import box_kind, box_remark
from ppdet.data.formats.voc import VocImage, ordered, parse_voc, read_pairs
from ppdet.data.image_files import image_size, nearest_file, resolve_file
from ppdet.data.problems import DatasetProblem, DatasetProblemsError
from ppdet.structures import Categories
from ppdet.utils.errors import DataError
from ppdet.utils.files import expanded

logger = logging.getLogger(__name__)

#: The classes of VOC 2007 and 2012, in alphabetical order as always.
VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
    "tvmonitor",
)


class VOCDataSet(AnnotatedDataset):
    """Images and objects of VOC XML files.

    Corners are taken as they are written, as 2.x takes them, and clipped to the image; corners in the wrong
    order are put right. Objects without area are dropped and counted. Sizes are those of the image files; an
    XML file that gives another one is among `remarks`. Images are numbered from 0 in the order of the list.

    Args:
        dataset_dir: Folder of the dataset.
        image_dir: Folder of the images, inside `dataset_dir`; the list may name the folder itself.
        anno_path: List file inside `dataset_dir`: an image and its XML file per line, separated by a space.
        data_fields: As in `COCODataSet`; VOC has no masks for detection.
        sample_num: As in `COCODataSet`.
        label_list: File with the class names inside `dataset_dir` (`read_categories`); None for the 20
            classes of VOC.
        allow_empty: As in `COCODataSet`.
        empty_ratio: As in `COCODataSet`.
        repeat: As in `COCODataSet`.
        categories: As in `COCODataSet`.

    Raises:
        DataError: If a folder, list, image or XML file is missing, an XML file is broken, or no object is
            left; names it.
    """

    def __init__(
        self,
        *,
        dataset_dir: str,
        image_dir: str = "",
        anno_path: str,
        data_fields: Sequence[str] = ("image", "gt_bbox", "gt_class", "difficult"),
        sample_num: IntFromMinusOne = -1,
        label_list: Optional[str] = None,
        allow_empty: bool = True,
        empty_ratio: NonNegative = 1.0,
        repeat: PositiveInt = 1,
        categories: Derived[Optional[Categories]] = None,
    ) -> None:
        check_data_fields(data_fields)
        if "gt_poly" in data_fields:
            raise DataError("VOCDataSet has no masks: remove gt_poly from data_fields")
        root = expanded(dataset_dir)
        require_folder(root, "dataset_dir")
        self.image_folder = (root / expanded(image_dir)).as_posix()
        require_folder(Path(self.image_folder), "image_dir")
        self.anno_path = root / expanded(anno_path)
        source = str(self.anno_path)
        own = (
            read_categories(root / expanded(label_list))
            if label_list
            else checked_categories(VOC_CLASSES, range(1, len(VOC_CLASSES) + 1), source)
        )
        label_of_id = labels_of_ids(own, categories, source)
        self._label_of_name = {name: label_of_id[id_] for name, id_ in zip(own.names, own.ids)}
        self._categories = own if categories is None else categories
        self._repeat = repeat
        pairs = read_pairs(self.anno_path)
        self._problems: list[DatasetProblem] = []
        self._remarks: list[DatasetProblem] = []
        dropped: Counter[str] = Counter()
        images = [
            self._read(root / xml, name, dropped)
            for (name, _), xml in zip(pairs, _xml_files(source, root, [xml for _, xml in pairs]))
        ]
        if self._problems:
            raise DatasetProblemsError(source, self._problems)
        counts = np.array([len(image.objects) for image in images], np.int64)
        chosen = choose_images(
            counts, allow_empty=allow_empty, empty_ratio=empty_ratio, sample_num=sample_num
        )
        require_objects(source, counts, chosen, dropped)
        logger.info("%s: %s", source, summary_of(counts, chosen, dropped))
        self.packed = self._pack([pairs[row][0] for row in chosen], [images[row] for row in chosen], chosen)
        self.remarks = tuple(self._remarks)
        wrong = sum(remark.kind == "image-size" for remark in self.remarks)
        if wrong:
            logger.warning(
                "%s: %d XML files give another size than their image has, which counts; "
                "do the boxes belong to it? (ppdet data check names them)",
                source,
                wrong,
            )
        self.resolve_image_files(source)

    def _read(self, path: Path, name: str, dropped: Counter[str]) -> VocImage:
        """An XML file with the size of the image itself, and with boxes inside of it."""
        image = parse_voc(path)
        self._problems += image.problems
        folder = Path(self.image_folder)
        file = resolve_file(folder, name)
        real = None if file is None else image_size(str(folder / file))
        if real is not None and 0 not in image.size and real != image.size:
            text = "{}: size is {}x{} (height x width), {} has {}x{}".format(path, *image.size, name, *real)
            self._remarks.append(DatasetProblem("image-size", text))
        height, width = size = real or image.size
        objects = []
        for number, item in enumerate(image.objects):
            if item.name not in self._label_of_name:
                text = f"{path}: object {number} is a {item.name!r}"
                self._problems.append(DatasetProblem("class-unlisted", text))
                continue
            x1, y1, x2, y2 = ordered(item.box)
            written = (x1, y1, x2 - x1, y2 - y1)
            kind = box_kind(written, size)
            if kind is not None:
                self._remarks.append(box_remark(kind, f"{path}: object {number}", written, size))
            x1, x2 = (min(max(x, 0.0), width or math.inf) for x in (x1, x2))
            y1, y2 = (min(max(y, 0.0), height or math.inf) for y in (y1, y2))
            if x2 <= x1 or y2 <= y1:
                dropped["objects without area"] += 1
            else:
                objects.append(item._replace(box=(x1, y1, x2, y2)))
        return image._replace(objects=objects, size=size)

    def _pack(self, names: list[str], images: list[VocImage], ids: np.ndarray) -> PackedAnnotations:
        objects = [item for image in images for item in image.objects]
        packed, offsets = pack_strings(name.encode("utf-8") for name in names)
        return PackedAnnotations(
            image_ids=ids.astype(np.int64),
            sizes=np.array([image.size for image in images], np.int32),
            names=packed,
            name_offsets=offsets,
            object_offsets=offsets_of([len(image.objects) for image in images]),
            boxes=np.array([item.box for item in objects], np.float32).reshape(-1, 4),
            labels=np.array([self._label_of_name[item.name] for item in objects], np.int32),
            is_crowd=np.zeros(len(objects), bool),
            difficult=np.array([item.difficult for item in objects], bool),
        )


def _xml_files(source: str, root: Path, names: list[str]) -> list[str]:
    """The XML files of a list, as they are spelt in the folder.

    Raises:
        DataError: If some do not exist.
    """
    files = [resolve_file(root, name) for name in names]
    missing = [name for name, file in zip(names, files) if file is None]
    if missing:
        raise DataError(
            f"{source}: {len(missing)} of {len(names)} XML files do not exist in {root}, "
            f"first {missing[0]}{nearest_file(root, missing[0])}"
        )
    return [str(file) for file in files]
