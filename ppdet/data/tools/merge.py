"""Unites COCO annotation files: one image per file, one class per name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ppdet.data.annotation_files import require_folder
from ppdet.data.formats.coco import CocoFile, read_coco
from ppdet.data.formats.values import Id
from ppdet.data.image_files import image_size, resolve_file
from ppdet.data.problems import DatasetProblem, DatasetProblemsError
from ppdet.structures import Mask


def merge_coco(paths: Sequence[Path], image_dir: Path) -> dict[str, Any]:
    """Unite annotation files of images in one folder.

    An image file that occurs under several ids, in one file or in several, becomes one image with all of its
    objects; an object that is written twice becomes one. Classes are matched by name. Ids are new.

    Args:
        paths: The annotation files.
        image_dir: Folder of all images.

    Returns:
        The content of the united file.

    Raises:
        DataError: If a file cannot be read, is not in order, or an image does not exist; names it.
    """
    require_folder(image_dir, "image folder")
    united = _United(image_dir)
    for path in paths:
        united.add(path, read_coco(path, with_masks=True, masks_needed=False))
    return united.content


class _United:
    """The lists of the united file as they grow."""

    def __init__(self, image_dir: Path) -> None:
        self._image_dir = image_dir
        self._image_ids: dict[str, int] = {}
        self._class_ids: dict[str, int] = {}
        self._seen: set[tuple[Any, ...]] = set()
        self.content: dict[str, Any] = {"images": [], "annotations": [], "categories": []}

    def add(self, path: Path, parsed: CocoFile) -> None:
        """Add the images and objects of a file."""
        missing = []
        ids = []
        for image in parsed.images:
            file = resolve_file(self._image_dir, image.file_name)
            if file is None:
                missing.append(DatasetProblem("image-missing", f"image id {image.id}: {image.file_name}"))
            ids.append(self._image(file or image.file_name, image.size))
        if missing:
            raise DatasetProblemsError(str(path), missing)
        names: dict[Id, str] = dict(zip(parsed.categories.ids, parsed.categories.names))
        for name in parsed.categories.names:
            self._class(name)
        for item in parsed.objects:
            image_id, class_id = ids[item.image], self._class(names[item.category_id])
            key = (image_id, class_id, item.box, item.is_crowd)
            if key in self._seen:
                continue
            self._seen.add(key)
            number = len(self.content["annotations"]) + 1
            row: dict[str, Any] = {"id": number, "image_id": image_id, "category_id": class_id}
            row |= {"bbox": list(item.box), "area": item.area, "iscrowd": int(item.is_crowd)}
            row |= {"ignore": 1} if item.ignore else {}
            self.content["annotations"].append({**row, "segmentation": _segmentation(item.mask)})

    def _image(self, name: str, size: tuple[int, int]) -> int:
        if name not in self._image_ids:
            self._image_ids[name] = len(self._image_ids) + 1
            height, width = size if 0 not in size else image_size(str(self._image_dir / name)) or size
            row = {"id": self._image_ids[name], "file_name": name, "height": height, "width": width}
            self.content["images"].append(row)
        return self._image_ids[name]

    def _class(self, name: str) -> int:
        if name not in self._class_ids:
            self._class_ids[name] = len(self._class_ids) + 1
            self.content["categories"].append({"id": self._class_ids[name], "name": name})
        return self._class_ids[name]


def _segmentation(mask: Mask) -> Any:
    if isinstance(mask, dict):
        return {"size": mask["size"], "counts": mask["counts"].decode("ascii")}
    return [part.reshape(-1).tolist() for part in mask]
