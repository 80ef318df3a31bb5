"""PASCAL VOC detection data (Everingham et al., "The PASCAL Visual Object Classes Challenge", 2010)."""

from __future__ import annotations

import logging
import math
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np

from ppdet.config.spec import Derived
from ppdet.data.annotation_files import missing_files, read_lines, read_text, require_folder
from ppdet.data.categories import checked_categories, labels_of_ids, read_categories
from ppdet.data.datasets.base import (
    AnnotatedDataset,
    check_data_fields,
    choose_images,
    require_images,
    summary_of,
)
from ppdet.data.datasets.packed import PackedAnnotations, offsets_of, pack_strings
from ppdet.data.problems import DatasetProblemsError, Problem
from ppdet.structures import Categories
from ppdet.utils.errors import DataError

logger = logging.getLogger(__name__)

#: The classes of VOC 2007 and 2012, in alphabetical order as always.
VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
    "tvmonitor",
)


class VocObject(NamedTuple):
    """One object of an XML file; box is x1, y1, x2, y2 in pixels, as written."""

    name: str
    box: tuple[float, float, float, float]
    difficult: bool


class VocImage(NamedTuple):
    """One XML file: (height, width), and its objects."""

    size: tuple[int, int]
    objects: list[VocObject]


class VOCDataSet(AnnotatedDataset):
    """Images and objects of VOC XML files.

    Corners are taken as they are written, as 2.x takes them, and clipped to the image; corners in the wrong
    order are put right. Objects without area are dropped and counted. Images are numbered from 0 in the order
    of the list.

    Args:
        dataset_dir: Folder of the dataset.
        image_dir: Folder of the images, inside `dataset_dir`; the list may name the folder itself.
        anno_path: List file inside `dataset_dir`: an image and its XML file per line, separated by a space.
        data_fields: As in `COCODataSet`; VOC has no masks for detection.
        sample_num: As in `COCODataSet`.
        label_list: Text file inside `dataset_dir` with a class name per line; None for the 20 classes of VOC.
        allow_empty: As in `COCODataSet`.
        empty_ratio: As in `COCODataSet`.
        repeat: As in `COCODataSet`.
        categories: As in `COCODataSet`.

    Raises:
        DataError: If a folder, list, image or XML file is missing, or an XML file is broken; names it.
    """

    def __init__(
        self,
        *,
        dataset_dir: str,
        image_dir: str = "",
        anno_path: str,
        data_fields: Sequence[str] = ("image", "gt_bbox", "gt_class", "difficult"),
        sample_num: int = -1,
        label_list: Optional[str] = None,
        allow_empty: bool = True,
        empty_ratio: float = 1.0,
        repeat: int = 1,
        categories: Derived[Optional[Categories]] = None,
    ) -> None:
        check_data_fields(data_fields)
        if "gt_poly" in data_fields:
            raise DataError("VOCDataSet has no masks: remove gt_poly from data_fields")
        root = Path(dataset_dir)
        require_folder(root, "dataset_dir")
        self.image_folder = (root / image_dir).as_posix()
        require_folder(Path(self.image_folder), "image_dir")
        self.anno_path = root / anno_path
        source = str(self.anno_path)
        own = (
            read_categories(root / label_list)
            if label_list
            else checked_categories(VOC_CLASSES, range(1, len(VOC_CLASSES) + 1), source)
        )
        label_of_id = labels_of_ids(own, categories, source)
        self._label_of_name = {name: label_of_id[id_] for name, id_ in zip(own.names, own.ids)}
        self._categories = own if categories is None else categories
        self._repeat = repeat
        pairs = read_pairs(self.anno_path)
        _require_xml(source, root, [xml for _, xml in pairs])
        dropped: Counter[str] = Counter()
        images = [self._clean(parse_voc(root / xml), root / xml, dropped) for _, xml in pairs]
        counts = np.array([len(image.objects) for image in images], np.int64)
        chosen = choose_images(
            counts, allow_empty=allow_empty, empty_ratio=empty_ratio, sample_num=sample_num
        )
        logger.info("%s: %s", source, summary_of(counts, chosen, dropped))
        require_images(source, len(chosen), len(counts), allow_empty)
        self.packed = self._pack([pairs[row][0] for row in chosen], [images[row] for row in chosen], chosen)
        self.require_image_files(source)

    def _clean(self, image: VocImage, path: Path, dropped: Counter[str]) -> VocImage:
        height, width = image.size
        objects = []
        for item in image.objects:
            if item.name not in self._label_of_name:
                raise DatasetProblemsError(
                    str(path), [Problem("annotation-category", f"an object is a {item.name!r}")]
                )
            x1, x2 = sorted(min(max(x, 0.0), width or math.inf) for x in item.box[::2])
            y1, y2 = sorted(min(max(y, 0.0), height or math.inf) for y in item.box[1::2])
            if x2 <= x1 or y2 <= y1:
                dropped["objects without area"] += 1
            else:
                objects.append(item._replace(box=(x1, y1, x2, y2)))
        return image._replace(objects=objects)

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


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Image and XML file of every line of a list.

    Raises:
        DataError: If a line does not name two files.
    """
    pairs = []
    for number, line in enumerate(read_lines(path), start=1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2:
            raise DataError(f"{path}:{number}: an image and an XML file, separated by a space, not {line!r}")
        pairs.append((words[0].replace("\\", "/"), words[1].replace("\\", "/")))
    if not pairs:
        raise DataError(f"{path}: the list is empty; write an image and its XML file on every line")
    return pairs


def _require_xml(source: str, root: Path, names: list[str]) -> None:
    missing = missing_files(root, names)
    if missing:
        raise DataError(
            f"{source}: {len(missing)} of {len(names)} XML files do not exist in {root}, first {missing[0]}"
        )


def parse_voc(path: Path) -> VocImage:
    """Read one XML file.

    Raises:
        DataError: If it is no VOC annotation; names the file and the object.
    """
    try:
        tree = ElementTree.fromstring(read_text(path))
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: not valid XML: {error}") from None
    try:
        size = (int(float(tree.findtext("size/height", "0"))), int(float(tree.findtext("size/width", "0"))))
    except ValueError as error:
        raise DataError(f"{path}: size: {error}") from None
    objects = []
    for number, item in enumerate(tree.iter("object")):
        name = (item.findtext("name") or "").strip()
        try:
            corners = [
                float(item.findtext(f"bndbox/{key}") or "") for key in ("xmin", "ymin", "xmax", "ymax")
            ]
            difficult = int(item.findtext("difficult") or 0) != 0
        except ValueError as error:
            raise DataError(f"{path}: object {number} ({name}): bndbox or difficult: {error}") from None
        if not name or not all(map(math.isfinite, corners)):
            raise DatasetProblemsError(
                str(path), [Problem("box-invalid", f"object {number} ({name}): {corners}")]
            )
        objects.append(VocObject(name, (corners[0], corners[1], corners[2], corners[3]), difficult))
    return VocImage(size, objects)
