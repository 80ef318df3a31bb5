"""Images as a user gives them: files, folders, patterns, arrays, PIL images."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np

from ppdet.data.image_files import find_images
from ppdet.structures import Sample
from ppdet.utils.errors import DataError
from ppdet.utils.files import expanded

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

#: A file, a folder (searched recursively), a pattern with ``*``; ``[H, W, 3]`` uint8 RGB; a PIL image.
Image = Union[str, "os.PathLike[str]", np.ndarray, "PilImage"]


@dataclass(frozen=True)
class ImageList:
    """Images that were looked up once, for `ppdet.predict`.

    Attributes:
        samples: As of `samples_of`.
        root: The folder, if they are those of one.
    """

    samples: Sequence[Sample]
    root: Optional[Path]


def list_images(images: Union[Image, Iterable[Image]], *, leave_out: Optional[Path] = None) -> ImageList:
    """Look up images; arguments and errors as of `samples_of`."""
    root = expanded(images) if isinstance(images, (str, os.PathLike)) else None
    return ImageList(samples_of(images, leave_out=leave_out), root)


def samples_of(images: Union[Image, Iterable[Image]], *, leave_out: Optional[Path] = None) -> list[Sample]:
    """Images to run a detector on, numbered from 0.

    Args:
        images: One image or several, of any of the kinds of `Image`, mixed as you like.
        leave_out: A folder whose images do not count where it lies below one of `images`, as a program's own
            output does.

    Returns:
        A sample per image file, array or PIL image, in the order given; those of a folder or pattern sorted
        by name.

    Raises:
        DataError: If a file, folder or pattern matches nothing, or an array is not uint8 RGB.
    """
    if isinstance(images, (str, os.PathLike)) or not isinstance(images, Iterable) or _is_array(images):
        images = [images]  # type: ignore[list-item]  # a single image
    samples: list[Sample] = []
    for image in images:
        if isinstance(image, (str, os.PathLike)):
            samples += [
                Sample(len(samples) + i, path=path) for i, path in enumerate(_files(image, leave_out))
            ]
        else:
            samples.append(_in_memory(len(samples), image))
    return samples


def _is_array(images: Any) -> bool:
    """Whether an iterable is one image rather than several."""
    return (isinstance(images, np.ndarray) and images.ndim <= 3) or hasattr(images, "convert")


def _files(name: Union[str, os.PathLike[str]], leave_out: Optional[Path]) -> Sequence[str]:
    path = expanded(name)
    if path.is_dir():
        return find_images(path, leave_out=leave_out)
    if path.is_file():
        return [path.as_posix()]
    if glob.has_magic(str(path)):
        matches = glob.iglob(str(path), recursive=True)  # noqa: PTH207  (Path.glob takes no absolute patterns)
        files = sorted(Path(match).as_posix() for match in matches if Path(match).is_file())
        if files:
            return files
        raise DataError(f"no file matches {path}")
    raise DataError(f"image {path} does not exist")


def _in_memory(index: int, image: Any) -> Sample:
    if hasattr(image, "convert"):  # a PIL image; PIL is not needed for the others
        image = np.asarray(image.convert("RGB"))
    if not isinstance(image, np.ndarray):
        raise DataError(f"image {index}: expected a path, a uint8 RGB array or a PIL image, got {image!r}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DataError(f"image {index}: expected uint8 [H, W, 3] RGB, got {image.dtype} {image.shape}")
    return Sample(index, path=f"image {index}", image=image)
