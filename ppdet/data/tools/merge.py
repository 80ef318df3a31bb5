"""Unites datasets of any formats into COCO annotations: one image per file, one class per name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

from ppdet.data.annotation_files import require_folder
from ppdet.data.formats.coco import parse_coco
from ppdet.data.formats.dataset import LabelledDataset, ReadOptions
from ppdet.data.formats.registry import FORMATS, recognise
from ppdet.data.formats.values import Id
from ppdet.data.image_files import image_size, resolve_file
from ppdet.data.problems import DatasetProblem, DatasetProblemsError
from ppdet.structures import Mask


class Merged(NamedTuple):
    """United datasets.

    Attributes:
        content: The content of a COCO annotation file.
        image_dir: The folder that its file names are relative to.
    """

    content: dict[str, Any]
    image_dir: Path


def merge_datasets(sources: Sequence[Path], image_dir: Optional[Path] = None) -> Merged:
    """Unite datasets.

    An image file that occurs under several ids, in one dataset or in several, becomes one image with all of
    its objects; an object that is written twice becomes one. Classes are matched by name. Ids are new.

    Args:
        sources: Folders or annotation files, each of any format that is recognised.
        image_dir: Folder of all images; None where each dataset has its own. Names are then relative to the
            folder that these have in common.

    Raises:
        DataError: If a dataset cannot be read, is not in order, or an image does not exist; names it.
    """
    if image_dir is not None:
        require_folder(image_dir, "image folder")
    united = _United()
    for source in sources:
        for part in FORMATS[recognise(source)].read(source, ReadOptions(image_dir)).values():
            united.add(source, part)
    return Merged(*united.finished(image_dir))


class _United:
    """The lists of the united file as they grow."""

    def __init__(self) -> None:
        self._image_ids: dict[Path, int] = {}
        self._class_ids: dict[str, int] = {}
        self._folders: set[Path] = set()
        self._seen: set[tuple[Any, ...]] = set()
        self._content: dict[str, Any] = {"images": [], "annotations": [], "categories": []}

    def add(self, source: Path, part: LabelledDataset) -> None:
        """Add the images and objects of a dataset. Its content is used up: a large one is in memory once."""
        parsed = parse_coco(part.content, with_masks=True, masks_needed=False)
        part.content.clear()
        folder = part.image_dir.resolve()
        self._folders.add(folder)
        problems, ids = list(parsed.problems), []
        for image in parsed.images:
            file = resolve_file(part.image_dir, image.file_name)
            if file is None:
                problems.append(DatasetProblem("image-missing", f"image id {image.id}: {image.file_name}"))
            ids.append(self._image(folder / (file or image.file_name), image.size))
        if problems:
            raise DatasetProblemsError(str(source), problems)
        names: dict[Id, str] = dict(zip(parsed.categories.ids, parsed.categories.names))
        for name in parsed.categories.names:
            self._class(name)
        left = parsed.objects[::-1]
        parsed.objects.clear()
        while left:
            item = left.pop()
            image_id, class_id = ids[item.image], self._class(names[item.category_id])
            key = (image_id, class_id, item.box, item.is_crowd)
            if key in self._seen:
                continue
            self._seen.add(key)
            number = len(self._content["annotations"]) + 1
            row: dict[str, Any] = {"id": number, "image_id": image_id, "category_id": class_id}
            row |= {"bbox": list(item.box), "area": item.area, "iscrowd": int(item.is_crowd)}
            row |= {"ignore": 1} if item.ignore else {}
            self._content["annotations"].append({**row, "segmentation": _segmentation(item.mask)})

    def finished(self, image_dir: Optional[Path]) -> tuple[dict[str, Any], Path]:
        """The content, with names relative to a folder, and that folder."""
        root = (image_dir or Path(os.path.commonpath(self._folders))).resolve()
        for row, path in zip(self._content["images"], self._image_ids):
            row["file_name"] = path.relative_to(root).as_posix()
        return self._content, image_dir or root

    def _image(self, path: Path, size: tuple[int, int]) -> int:
        if path not in self._image_ids:
            number = self._image_ids[path] = len(self._image_ids) + 1
            height, width = size if 0 not in size else image_size(str(path)) or size
            self._content["images"].append({"id": number, "file_name": "", "height": height, "width": width})
        return self._image_ids[path]

    def _class(self, name: str) -> int:
        if name not in self._class_ids:
            self._class_ids[name] = len(self._class_ids) + 1
            self._content["categories"].append({"id": self._class_ids[name], "name": name})
        return self._class_ids[name]


def _segmentation(mask: Mask) -> Any:
    if isinstance(mask, dict):
        return {"size": mask["size"], "counts": mask["counts"].decode("ascii")}
    return [part.reshape(-1).tolist() for part in mask]
