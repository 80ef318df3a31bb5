"""What an annotation file says about images that are shown beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Optional

import numpy as np

from ppdet.data.annotation_files import read_json
from ppdet.data.datasets.coco_check import problems_of
from ppdet.data.problems import DatasetProblemsError
from ppdet.structures import Detections
from ppdet.utils.errors import DataError


class Truth(NamedTuple):
    """Annotations of an image.

    Attributes:
        image_id: Its id.
        objects: What is in it, with scores of 1.
    """

    image_id: int
    objects: Detections


class TruthFile:
    """A COCO annotation file, asked by the names of images.

    Classes are matched by name; objects of a class that the model does not know are left out.

    Args:
        path: The file.
        names: Class names of the model by label.

    Attributes:
        category_ids: Of each label in the file; ids beyond the file's for classes that it lacks.

    Raises:
        DataError: If it is missing, no COCO file or not in order, or shares no class with the model.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        content = read_json(path)
        problems = problems_of(content, with_masks=True)
        # Masks are drawn only if all of them can be.
        self._with_masks = not problems
        problems = [problem for problem in problems if not problem.kind.startswith("mask-")]
        if problems:
            raise DatasetProblemsError(str(path), problems)
        try:
            ids = {str(row["name"]): int(row["id"]) for row in content["categories"]}
            self._images = {str(row["file_name"]): row for row in content["images"]}
            self._objects: dict[int, list[Mapping[str, Any]]] = {}
            for row in content["annotations"]:
                self._objects.setdefault(int(row["image_id"]), []).append(row)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: not a COCO annotation file: {error!r}") from None
        if not set(names) & set(ids):
            raise DataError(
                f"{path}: none of its classes ({', '.join(list(ids)[:5])}) is one of the model's "
                f"({', '.join(names[:5])})"
            )
        beyond = max(ids.values()) + 1
        self.category_ids = [ids.get(name, beyond + label) for label, name in enumerate(names)]
        self._label_of = {ids[name]: label for label, name in enumerate(names) if name in ids}
        bases: dict[str, list[str]] = {}
        for name in self._images:
            bases.setdefault(PurePosixPath(name).name, []).append(name)
        # A name without its folder counts if it is the only one.
        self._by_base = {base: found[0] for base, found in bases.items() if len(found) == 1}

    def of(self, path: str, size: tuple[int, int]) -> Optional[Truth]:
        """Annotations of an image; None if the file does not have it.

        Args:
            path: Of the image.
            size: Its (height, width), for masks.
        """
        parts = PurePosixPath(Path(path).as_posix()).parts
        name = next((n for n in ("/".join(parts[i:]) for i in range(len(parts))) if n in self._images), None)
        name = name or self._by_base.get(parts[-1])
        if name is None:
            return None
        image_id = int(self._images[name]["id"])
        rows = [
            row
            for row in self._objects.get(image_id, ())
            if row.get("category_id") in self._label_of and len(row.get("bbox", ())) == 4
        ]
        boxes = np.array([row["bbox"] for row in rows], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = np.array([self._label_of[row["category_id"]] for row in rows], np.int64)
        masks = None
        # A crowd region may lack a mask in a file that is otherwise in order.
        if rows and self._with_masks and all(row.get("segmentation") for row in rows):
            masks = tuple(_mask(row["segmentation"], size) for row in rows)
        return Truth(image_id, Detections(image_id, boxes, np.ones(len(rows), np.float32), labels, masks))


def _mask(segmentation: Any, size: tuple[int, int]) -> dict[str, Any]:
    from pycocotools import mask as coco_mask

    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], str):
        return {"size": segmentation["size"], "counts": segmentation["counts"].encode("ascii")}
    mask: Any = coco_mask.frPyObjects(segmentation, *size)
    return dict(coco_mask.merge(mask) if isinstance(mask, list) else mask)
