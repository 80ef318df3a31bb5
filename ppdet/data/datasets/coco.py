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
from ppdet.data.formats.coco import CocoFile, SizeOf, read_coco, remarks_of
from ppdet.data.formats.coco_objects import CocoImage
from ppdet.data.formats.values import fits_int64
from ppdet.data.ground_truth import truth_of_coco
from ppdet.data.image_files import image_size, resolve_file
from ppdet.structures import Categories, GroundTruth
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
    return packed_of(
        read_coco(path, with_masks=with_masks, size_of=size_of),
        categories,
        str(path),
        load_crowd=load_crowd,
        allow_empty=allow_empty,
        empty_ratio=empty_ratio,
        sample_num=sample_num,
    )


def packed_of(
    parsed: CocoFile,
    categories: Optional[Categories],
    source: str,
    *,
    load_crowd: bool,
    allow_empty: bool,
    empty_ratio: float,
    sample_num: int,
) -> ParsedFile:
    """What is trained on of annotations that are in order; the options are those of `COCODataSet`.

    Raises:
        DatasetProblemsError: If they have a class that `categories` has not, or no object is left; names
            `source`.
    """
    label_of_id = labels_of_ids(parsed.categories, categories, source)
    rows = _Rows(parsed, label_of_id, load_crowd=load_crowd)
    chosen = choose_images(
        rows.counts, allow_empty=allow_empty, empty_ratio=empty_ratio, sample_num=sample_num
    )
    require_objects(source, rows.counts, chosen, rows.dropped)
    summary = summary_of(rows.counts, chosen, rows.dropped)
    return ParsedFile(rows.pack(chosen), parsed.categories, summary, tuple(remarks_of(parsed)))


class _Rows:
    """The images of an annotation file by id, and their objects without what cannot be trained on.

    Attributes:
        counts: Objects of each image, ``[images]`` int64.
        dropped: What was left out, and how many of it.
    """

    def __init__(self, parsed: CocoFile, label_of_id: Mapping[int, int], *, load_crowd: bool) -> None:
        self._label_of_id = label_of_id
        self._objects = parsed.objects
        self._with_masks = parsed.with_masks
        order = sorted(range(len(parsed.images)), key=lambda row: _order(parsed.images[row]))
        self._images = [parsed.images[row] for row in order]
        self._sizes = np.array([image.size for image in self._images], np.int32).reshape(-1, 2)
        place_of = np.empty(len(order), np.int64)
        place_of[order] = np.arange(len(order))
        self._places = place_of[np.fromiter((item.image for item in parsed.objects), np.int64)]
        boxes = np.array([item.box for item in parsed.objects], np.float64).reshape(-1, 4)
        self._boxes = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        self._is_crowd = np.array([item.is_crowd for item in parsed.objects], bool)
        self.dropped: Counter[str] = Counter()
        self._kept = self._choose(boxes, load_crowd=load_crowd)
        self.counts = np.bincount(self._places[self._kept], minlength=len(order))

    def _choose(self, boxes: np.ndarray, *, load_crowd: bool) -> np.ndarray:
        """Objects ``[K]`` int64 to train on, by image; `boxes` are x, y, width, height."""
        sides = np.where(self._sizes > 0, self._sizes, np.inf)[self._places, ::-1]
        kept = np.ones(len(boxes), bool)
        reasons = {
            "crowd regions": self._is_crowd & (not load_crowd),
            "objects marked ignore": np.array([item.ignore for item in self._objects], bool),
            "objects without area": (boxes[:, 2:] <= _SMALLEST_SIDE).any(axis=1),
            "objects outside of their image": ((boxes[:, :2] >= sides) | (self._boxes[:, 2:] <= 0)).any(
                axis=1
            ),
        }
        for what, faulty in reasons.items():
            self.dropped[what] += int((kept & faulty).sum())
            kept &= ~faulty
        rows = np.flatnonzero(kept)
        return rows[np.argsort(self._places[rows], kind="stable")]

    def pack(self, chosen: np.ndarray) -> PackedAnnotations:
        """The chosen images as arrays."""
        images = [self._images[row] for row in chosen]
        starts = offsets_of(self.counts)
        rows = self._kept[np.concatenate([np.arange(starts[row], starts[row + 1]) for row in chosen])]
        objects = [self._objects[row] for row in rows]
        names, name_offsets = pack_strings(image.file_name.encode("utf-8") for image in images)
        given = [image.id for image in images]
        # Ids that are text or do not fit count from 1 here, and leave as they were.
        plain = all(map(fits_int64, given))
        given_ids, given_offsets = (None, None) if plain else pack_ids(given)
        return PackedAnnotations(
            image_ids=np.array(given if plain else range(1, len(given) + 1), np.int64),
            sizes=self._sizes[chosen],
            names=names,
            name_offsets=name_offsets,
            object_offsets=offsets_of(self.counts[chosen]),
            boxes=_rounded(self._boxes[rows]).astype(np.float32),
            labels=np.array([self._label_of_id[item.category_id] for item in objects], np.int32),
            is_crowd=self._is_crowd[rows],
            masks=PackedMasks.pack([item.mask for item in objects]) if self._with_masks else None,
            given_ids=given_ids,
            given_offsets=given_offsets,
        )


def _rounded(boxes: np.ndarray) -> np.ndarray:
    """Boxes rounded to `_BOX_DECIMALS`, each value as Python's `round` does it.

    NumPy's multiplies first, which can turn a value just below a tie into one.
    """
    rounded = np.round(boxes, _BOX_DECIMALS)
    scaled = np.abs(boxes) * 10**_BOX_DECIMALS
    ties = np.abs(scaled - np.floor(scaled) - 0.5) < 1e-3
    rounded[ties] = [round(value, _BOX_DECIMALS) for value in boxes[ties].tolist()]
    return rounded


def _order(image: CocoImage) -> tuple[bool, Any]:
    """Sorts integer ids by value, and text after them."""
    return isinstance(image.id, str), image.id
