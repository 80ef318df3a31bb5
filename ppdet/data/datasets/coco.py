"""COCO-format detection data (Lin et al., "Microsoft COCO", arXiv:1405.0312; format: cocodataset.org)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np

from ppdet.config.ranges import IntFromMinusOne, NonNegative, PositiveInt
from ppdet.config.spec import Derived
from ppdet.data.annotation_files import require_folder
from ppdet.data.category_tables import labels_of_ids
from ppdet.data.datasets.base import (
    AnnotatedDataset,
    check_data_fields,
    choose_images,
    require_objects,
    summary_of,
)
from ppdet.data.datasets.cache import ParsedFile, cached
from ppdet.data.datasets.packed import PackedAnnotations, PackedMasks, offsets_of, pack_ids, pack_strings
from ppdet.data.formats.coco import CocoFile, CocoImage, CocoObject, SizeOf, read_coco, remarks_of
from ppdet.data.formats.values import fits_int64
from ppdet.data.ground_truth import truth_of_coco
from ppdet.data.image_files import image_size, resolve_file
from ppdet.structures import Categories, GroundTruth, Mask
from ppdet.utils.files import expanded

logger = logging.getLogger(__name__)

#: Boxes narrower or lower than this many pixels are dropped.
_SMALLEST_SIDE = 1e-5
#: Decimals that box corners are rounded to; the published models were trained on such boxes.
_BOX_DECIMALS = 3


class COCODataSet(AnnotatedDataset):
    """Images and objects of a COCO annotation file.

    Objects whose box has no area, or is altogether outside of its image, are dropped and counted, and named
    by `remarks`. Images come in the order of their ids. Sizes that the file leaves out are read from the
    image files. Ids that are text, or do not fit 64 bits, count from 1 here; results give them back.

    Args:
        dataset_dir: Folder of the dataset.
        image_dir: Folder of the images, inside `dataset_dir`.
        anno_path: Annotation file, inside `dataset_dir`.
        data_fields: What a sample carries; boxes, classes and crowd flags come always, ``gt_poly`` adds
            masks.
        sample_num: Use only the first so many images; -1 for all.
        load_crowd: Keep crowd regions (``iscrowd: 1``) as objects with `is_crowd` set; else they are dropped.
        allow_empty: Keep images without objects, which provide background examples; 2.x drops them by
            default.
        empty_ratio: Most images without objects as a share of all, in [0, 1); 1 keeps every one.
        repeat: Times the dataset is gone through in one epoch.
        categories: The table of the training set; labels follow its names. None: this file's own table.

    Raises:
        DataError: If a folder, file or image is missing, the annotations are broken, or no object is left.
    """

    def __init__(
        self,
        *,
        dataset_dir: str,
        image_dir: str = "",
        anno_path: str,
        data_fields: Sequence[str] = ("image", "gt_bbox", "gt_class", "is_crowd"),
        sample_num: IntFromMinusOne = -1,
        load_crowd: bool = False,
        allow_empty: bool = True,
        empty_ratio: NonNegative = 1.0,
        repeat: PositiveInt = 1,
        categories: Derived[Optional[Categories]] = None,
    ) -> None:
        check_data_fields(data_fields)
        root = expanded(dataset_dir)
        require_folder(root, "dataset_dir")
        self.image_folder = (root / expanded(image_dir)).as_posix()
        self.anno_path = root / expanded(anno_path)
        source = str(self.anno_path)
        require_folder(Path(self.image_folder), "image_dir")
        options: dict[str, Any] = {
            "with_masks": "gt_poly" in data_fields,
            "load_crowd": load_crowd,
            "allow_empty": allow_empty,
            "empty_ratio": empty_ratio,
            "sample_num": sample_num,
        }
        depends = {
            **options,
            "names": None if categories is None else categories.names,
            "images": str(Path(self.image_folder).resolve()),  # sizes that the file lacks come from there
        }
        parsed = cached(
            self.anno_path,
            depends,
            lambda: _parse(self.anno_path, self._size_of, categories, **options),
        )
        logger.info("%s: %s", source, parsed.summary)
        self._categories = parsed.categories if categories is None else categories
        self._repeat = repeat
        self.packed = parsed.packed
        self.remarks = parsed.remarks
        self.resolve_image_files(source)
        self.require_distinct_files(source)

    def ground_truth(self, *, with_masks: bool = False) -> GroundTruth:
        """The annotations exactly as the file has them, with what training leaves out, of the images in use.

        So the numbers are those of pycocotools on the file.
        """
        rows = range(len(self.packed))
        given = [self.packed.given_id(row) for row in rows]
        ids = self.packed.image_ids.tolist()
        return truth_of_coco(
            read_coco(self.anno_path, with_masks=with_masks, size_of=self._size_of),
            self.categories,
            source=str(self.anno_path),
            image_ids={own if new is None else new: own for new, own in zip(given, ids)},
        )

    def _size_of(self, name: str) -> Optional[tuple[int, int]]:
        """(height, width) of an image whose size the annotation file leaves out."""
        folder = Path(self.image_folder)
        file = resolve_file(folder, name)
        return None if file is None else image_size(str(folder / file))


def _parse(
    path: Path,
    size_of: SizeOf,
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
    parsed = read_coco(path, with_masks=with_masks, size_of=size_of)
    label_of_id = labels_of_ids(parsed.categories, categories, source)
    rows = _Rows(parsed, label_of_id, load_crowd=load_crowd, with_masks=with_masks)
    counts = np.array([len(objects) for objects in rows.objects], np.int64)
    chosen = choose_images(counts, allow_empty=allow_empty, empty_ratio=empty_ratio, sample_num=sample_num)
    require_objects(source, counts, chosen, rows.dropped)
    summary = summary_of(counts, chosen, rows.dropped)
    return ParsedFile(rows.pack(chosen), parsed.categories, summary, tuple(remarks_of(parsed)))


#: Box, label, crowd flag and mask of an object.
_Object = tuple[list[float], int, bool, Mask]


class _Rows:
    """The lists of an annotation file as rows, without what cannot be trained on."""

    def __init__(
        self, parsed: CocoFile, label_of_id: Mapping[int, int], *, load_crowd: bool, with_masks: bool
    ) -> None:
        self._label_of_id = label_of_id
        self._load_crowd = load_crowd
        self._with_masks = with_masks
        self.dropped: Counter[str] = Counter()
        order = sorted(range(len(parsed.images)), key=lambda row: _order(parsed.images[row]))
        self.images = [parsed.images[row] for row in order]
        place_of = {row: place for place, row in enumerate(order)}
        self.objects: list[list[_Object]] = [[] for _ in self.images]
        for item in parsed.objects:
            place = place_of[item.image]
            row = self._row(item, self.images[place])
            if row is not None:
                self.objects[place].append(row)

    def _row(self, item: CocoObject, image: CocoImage) -> Optional[_Object]:
        if item.is_crowd and not self._load_crowd:
            self.dropped["crowd regions"] += 1
            return None
        if item.ignore:
            self.dropped["objects marked ignore"] += 1
            return None
        x, y, width, height = item.box
        if width <= _SMALLEST_SIDE or height <= _SMALLEST_SIDE:
            self.dropped["objects without area"] += 1
            return None
        bottom, right = (side or float("inf") for side in image.size)
        if x >= right or y >= bottom or x + width <= 0 or y + height <= 0:
            self.dropped["objects outside of their image"] += 1
            return None
        box = [round(value, _BOX_DECIMALS) for value in (x, y, x + width, y + height)]
        return box, self._label_of_id[item.category_id], item.is_crowd, item.mask

    def pack(self, chosen: np.ndarray) -> PackedAnnotations:
        """The chosen images as arrays."""
        images = [self.images[row] for row in chosen]
        objects = [item for row in chosen for item in self.objects[row]]
        names, name_offsets = pack_strings(image.file_name.encode("utf-8") for image in images)
        given = [image.id for image in images]
        # Ids that are text or do not fit count from 1 here, and leave as they were.
        plain = all(map(fits_int64, given))
        given_ids, given_offsets = (None, None) if plain else pack_ids(given)
        return PackedAnnotations(
            image_ids=np.array(given if plain else range(1, len(given) + 1), np.int64),
            sizes=np.array([image.size for image in images], np.int32).reshape(-1, 2),
            names=names,
            name_offsets=name_offsets,
            object_offsets=offsets_of([len(self.objects[row]) for row in chosen]),
            boxes=np.array([box for box, *_ in objects], np.float32).reshape(-1, 4),
            labels=np.array([label for _, label, *_ in objects], np.int32),
            is_crowd=np.array([crowd for _, _, crowd, _ in objects], bool),
            masks=PackedMasks.pack([mask for *_, mask in objects]) if self._with_masks else None,
            given_ids=given_ids,
            given_offsets=given_offsets,
        )


def _order(image: CocoImage) -> tuple[bool, Any]:
    """Sorts integer ids by value, and text after them."""
    return isinstance(image.id, str), image.id
