"""What an annotation file says about images that are shown beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Optional

import numpy as np

from ppdet.data.annotation_files import read_json
from ppdet.data.formats.coco import parse_coco
from ppdet.data.formats.coco_objects import CocoObject
from ppdet.data.formats.masks import to_runs
from ppdet.data.formats.values import Id
from ppdet.data.problems import DatasetProblemsError
from ppdet.structures import Detections
from ppdet.utils.errors import DataError


class Truth(NamedTuple):
    """Annotations of an image.

    Attributes:
        image_id: Its id in the file.
        objects: What is in it, with scores of 1.
    """

    image_id: Id
    objects: Detections


class TruthFile:
    """A COCO annotation file, looked up by the names of images.

    Classes are matched by name; objects of a class that the model does not know are left out.

    Args:
        path: The file.
        names: Class names of the model by label.

    Attributes:
        category_ids: Of each label in the file; ids beyond the file's for classes that it lacks.
        free_id: The first image id beyond those of the file, for images that it lacks.

    Raises:
        DataError: If it is missing, no COCO file or not in order, or shares no class with the model.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        content = read_json(path)
        parsed = parse_coco(content, with_masks=True)
        # Masks are drawn only if all of them can be.
        self._with_masks = not parsed.problems
        if parsed.problems:
            parsed = parse_coco(content, with_masks=False)
        if parsed.problems:
            raise DatasetProblemsError(str(path), parsed.problems)
        ids = dict(zip(parsed.categories.names, parsed.categories.ids))
        if not set(names) & set(ids):
            raise DataError(
                f"{path}: none of its classes ({', '.join(list(ids)[:5])}) is one of the model's "
                f"({', '.join(names[:5])})"
            )
        beyond = max(ids.values()) + 1
        self.category_ids = [ids.get(name, beyond + label) for label, name in enumerate(names)]
        self._label_of: dict[Id, int] = {ids[name]: label for label, name in enumerate(names) if name in ids}
        self.free_id = 1 + max((image.id for image in parsed.images if isinstance(image.id, int)), default=0)
        self._ids = [image.id for image in parsed.images]
        self._row_of = {image.file_name.replace("\\", "/"): row for row, image in enumerate(parsed.images)}
        self._objects: dict[int, list[CocoObject]] = {}
        for item in parsed.objects:
            self._objects.setdefault(item.image, []).append(item)
        bases: dict[str, list[int]] = {}
        for name, row in self._row_of.items():
            bases.setdefault(PurePosixPath(name).name, []).append(row)
        # A name without its folder counts if it is the only one.
        self._by_base = {base: rows[0] for base, rows in bases.items() if len(rows) == 1}

    def of(self, path: str, size: tuple[int, int]) -> Optional[Truth]:
        """Annotations of an image; None if the file does not have it.

        Args:
            path: Of the image.
            size: Its (height, width), for masks.
        """
        parts = PurePosixPath(Path(path).as_posix()).parts
        name = next((n for n in ("/".join(parts[i:]) for i in range(len(parts))) if n in self._row_of), None)
        row = self._by_base.get(parts[-1]) if name is None else self._row_of[name]
        if row is None:
            return None
        objects = [item for item in self._objects.get(row, ()) if item.category_id in self._label_of]
        boxes = np.array([item.box for item in objects], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = np.array([self._label_of[item.category_id] for item in objects], np.int64)
        masks = None
        # A crowd region may lack a mask in a file that is otherwise in order.
        if objects and self._with_masks and all(item.mask for item in objects):
            masks = tuple(to_runs(item.mask, size) for item in objects)
        scores = np.ones(len(objects), np.float32)
        return Truth(self._ids[row], Detections(row, boxes, scores, labels, masks))
