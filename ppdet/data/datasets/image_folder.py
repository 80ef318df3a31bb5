"""Images without annotations, for inference."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Optional, Union

from ppdet.config.ranges import IntFromMinusOne
from ppdet.config.spec import Derived
from ppdet.data.category_tables import read_categories
from ppdet.data.datasets.base import Dataset
from ppdet.data.image_files import find_images
from ppdet.structures import Categories, Sample
from ppdet.utils.errors import DataError
from ppdet.utils.files import expanded


class ImageFolder(Dataset):
    """Image files, numbered from 0 in the order of their names.

    Args:
        dataset_dir: Folder that the other two are inside of; "" for the current folder.
        image_dir: Folder of images, searched recursively; "" if the images come through `of`.
        anno_path: Where class names may be read from: a COCO annotation file or a text file with one name per
            line. Used only if `categories` is None, so it need not exist.
        sample_num: Use only the first so many images; -1 for all.
        categories: The class names that travel with the weights; they win over `anno_path`.
    """

    def __init__(
        self,
        *,
        dataset_dir: str = "",
        image_dir: str = "",
        anno_path: str = "",
        sample_num: IntFromMinusOne = -1,
        categories: Derived[Optional[Categories]] = None,
    ) -> None:
        self._anno_path = expanded(dataset_dir) / expanded(anno_path) if anno_path else None
        self._given = categories
        self._paths: list[str] = []
        if image_dir:
            paths = find_images(expanded(dataset_dir) / expanded(image_dir))
            self._paths = paths[:sample_num] if sample_num > 0 else paths

    def of(
        self, images: Sequence[Union[str, os.PathLike[str]]], *, leave_out: Optional[Path] = None
    ) -> ImageFolder:
        """The same classes over other images: files, or folders that are searched recursively.

        Args:
            images: The files and folders.
            leave_out: A folder whose images do not count, as that of a program's own output.

        Raises:
            DataError: If one does not exist, or a folder holds no image.
        """
        folder = ImageFolder(categories=self._given)
        folder._anno_path = self._anno_path
        for image in images:
            path = expanded(image)
            if path.is_dir():
                folder._paths += find_images(path, leave_out=leave_out)
            elif path.is_file():
                folder._paths.append(path.as_posix())
            else:
                raise DataError(f"image {path} does not exist")
        return folder

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Sample:
        return Sample(image_id=index, path=self._paths[index])

    @property
    def categories(self) -> Categories:
        """Class names given by the weights, else read from `anno_path`.

        Raises:
            DataError: If there are neither. Names are never guessed.
        """
        if self._given is not None:
            return self._given
        if self._anno_path is None:
            raise DataError("no class names: neither do the weights carry them, nor is anno_path set")
        return read_categories(self._anno_path)
