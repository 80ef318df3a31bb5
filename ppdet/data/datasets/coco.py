"""COCO-format detection data (Lin et al., "Microsoft COCO", arXiv:1405.0312; format: cocodataset.org)."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np

from ppdet.config.spec import Derived
from ppdet.data.annotation_files import read_json, require_folder
from ppdet.data.categories import categories_of_coco, labels_of_ids
from ppdet.data.datasets.base import (
    AnnotatedDataset,
    check_data_fields,
    choose_images,
    require_images,
    summary_of,
)
from ppdet.data.datasets.cache import ParsedFile, cached
from ppdet.data.datasets.coco_check import problems_of
from ppdet.data.datasets.packed import PackedAnnotations, PackedMasks, offsets_of, pack_strings
from ppdet.data.ground_truth import mask_of_coco, truth_of_coco
from ppdet.data.problems import DatasetProblemsError
from ppdet.structures import Categories, GroundTruth, Mask

logger = logging.getLogger(__name__)

#: Boxes narrower or lower than this many pixels are dropped.
_SMALLEST_SIDE = 1e-5
#: Decimals that box corners are rounded to; the published models were trained on such boxes.
_BOX_DECIMALS = 3


class COCODataSet(AnnotatedDataset):
    """Images and objects of a COCO annotation file.

    Objects without area, or altogether outside of their image, are dropped and counted. Images come in the
    order of their ids.

    Args:
        dataset_dir: Folder of the dataset.
        image_dir: Folder of the images, inside `dataset_dir`.
        anno_path: Annotation file, inside `dataset_dir`.
        data_fields: What a sample carries; boxes, classes and crowd flags come always, ``gt_poly`` adds
            masks.
        sample_num: Use only the first so many images; -1 for all.
        load_crowd: Keep crowd regions (``iscrowd: 1``) as objects with `is_crowd` set; else they are dropped.
        allow_empty: Keep images without objects. They teach the detector what is none; 2.x drops them unless
            told.
        empty_ratio: Most images without objects as a share of all, in [0, 1); 1 keeps every one.
        repeat: Times the dataset is gone through in one epoch.
        categories: The table of the training set; labels follow its names. None: this file's own table.

    Raises:
        DataError: If a folder, file or image is missing, or the annotations are broken.
    """

    def __init__(
        self,
        *,
        dataset_dir: str,
        image_dir: str = "",
        anno_path: str,
        data_fields: Sequence[str] = ("image", "gt_bbox", "gt_class", "is_crowd"),
        sample_num: int = -1,
        load_crowd: bool = False,
        allow_empty: bool = True,
        empty_ratio: float = 1.0,
        repeat: int = 1,
        categories: Derived[Optional[Categories]] = None,
    ) -> None:
        check_data_fields(data_fields)
        require_folder(Path(dataset_dir), "dataset_dir")
        self.image_folder = (Path(dataset_dir) / image_dir).as_posix()
        self.anno_path = Path(dataset_dir) / anno_path
        source = str(self.anno_path)
        require_folder(Path(self.image_folder), "image_dir")
        options: dict[str, Any] = {
            "with_masks": "gt_poly" in data_fields,
            "load_crowd": load_crowd,
            "allow_empty": allow_empty,
            "empty_ratio": empty_ratio,
            "sample_num": sample_num,
        }
        depends = {**options, "names": None if categories is None else categories.names}
        parsed = cached(self.anno_path, depends, lambda: _parse(self.anno_path, categories, **options))
        logger.info("%s: %s", source, parsed.summary)
        self._categories = parsed.categories if categories is None else categories
        self._repeat = repeat
        self.packed = parsed.packed
        self.require_image_files(source)

    def ground_truth(self, *, with_masks: bool = False) -> GroundTruth:
        """The annotations exactly as the file has them, with what training leaves out, of the images in use.

        So the numbers are those of pycocotools on the file.
        """
        ids = self.packed.image_ids.tolist()
        return truth_of_coco(self.anno_path, self.categories, image_ids=ids, with_masks=with_masks)


def _parse(
    path: Path,
    categories: Optional[Categories],
    *,
    with_masks: bool,
    load_crowd: bool,
    allow_empty: bool,
    empty_ratio: float,
    sample_num: int,
) -> ParsedFile:
    """Read and check an annotation file; the options are those of `COCODataSet`."""
    source = str(path)
    content = read_json(path)
    problems = problems_of(content, with_masks=with_masks)
    if problems:
        raise DatasetProblemsError(source, problems)
    own = categories_of_coco(content, source)
    label_of_id = labels_of_ids(own, categories, source)
    rows = _Rows(content, label_of_id, load_crowd=load_crowd, with_masks=with_masks)
    counts = np.array([len(objects) for objects in rows.objects], np.int64)
    chosen = choose_images(counts, allow_empty=allow_empty, empty_ratio=empty_ratio, sample_num=sample_num)
    require_images(source, len(chosen), len(counts), allow_empty)
    return ParsedFile(rows.pack(chosen), own, summary_of(counts, chosen, rows.dropped))


#: Box, label, crowd flag and mask of an object.
_Object = tuple[list[float], int, bool, Mask]


class _Rows:
    """The lists of a checked annotation file as rows, without what cannot be trained on."""

    def __init__(
        self,
        content: Mapping[str, Any],
        label_of_id: Mapping[int, int],
        *,
        load_crowd: bool,
        with_masks: bool,
    ) -> None:
        self._label_of_id = label_of_id
        self._load_crowd = load_crowd
        self._with_masks = with_masks
        self.dropped: Counter[str] = Counter()
        self.images = sorted(content["images"], key=lambda image: image["id"])
        index_of = {image["id"]: row for row, image in enumerate(self.images)}
        self.objects: list[list[_Object]] = [[] for _ in self.images]
        for annotation in content.get("annotations", []):
            row = index_of[annotation["image_id"]]
            parsed = self._read_object(annotation, self.images[row])
            if parsed is not None:
                self.objects[row].append(parsed)

    def _read_object(self, annotation: Mapping[str, Any], image: Mapping[str, Any]) -> Optional[_Object]:
        crowd = bool(annotation.get("iscrowd", 0))
        if crowd and not self._load_crowd:
            self.dropped["crowd regions"] += 1
            return None
        if annotation.get("ignore"):
            self.dropped["objects marked ignore"] += 1
            return None
        x, y, width, height = (float(value) for value in annotation["bbox"])
        area = annotation.get("area", width * height)
        if not area > 0 or width <= _SMALLEST_SIDE or height <= _SMALLEST_SIDE:
            self.dropped["objects without area"] += 1
            return None
        right, bottom = image.get("width") or math.inf, image.get("height") or math.inf
        if x >= right or y >= bottom or x + width <= 0 or y + height <= 0:
            self.dropped["objects outside of their image"] += 1
            return None
        box = [round(value, _BOX_DECIMALS) for value in (x, y, x + width, y + height)]
        mask = mask_of_coco(annotation.get("segmentation")) if self._with_masks else ()
        return box, self._label_of_id[annotation["category_id"]], crowd, mask

    def pack(self, chosen: np.ndarray) -> PackedAnnotations:
        """The chosen images as arrays."""
        images = [self.images[row] for row in chosen]
        objects = [item for row in chosen for item in self.objects[row]]
        names, name_offsets = pack_strings(str(image["file_name"]).encode("utf-8") for image in images)
        sizes = [[image.get("height") or 0, image.get("width") or 0] for image in images]
        return PackedAnnotations(
            image_ids=np.array([image["id"] for image in images], np.int64),
            sizes=np.array(sizes, np.int32),
            names=names,
            name_offsets=name_offsets,
            object_offsets=offsets_of([len(self.objects[row]) for row in chosen]),
            boxes=np.array([box for box, *_ in objects], np.float32).reshape(-1, 4),
            labels=np.array([label for _, label, *_ in objects], np.int32),
            is_crowd=np.array([crowd for _, _, crowd, _ in objects], bool),
            masks=PackedMasks.pack([mask for *_, mask in objects]) if self._with_masks else None,
        )
