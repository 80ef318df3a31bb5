"""Other annotation formats to COCO's. What cannot be read is an error by file and line; what is left out is
counted.

Corners in the wrong order are put right. Boxes keep their values; VOC's are taken as written (see
`VOCDataSet`). Sizes are those of the image files.
"""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from ppdet.data.formats.dataset import LabelledDataset, from_images
from ppdet.data.formats.folders import read_folder
from ppdet.data.problems import DatasetProblem, DatasetProblemsError
from ppdet.utils.errors import DataError


def convert(
    kind: str,
    annotation_dir: Path,
    image_dir: Path,
    names: Optional[Sequence[str]],
    *,
    negatives: bool = False,
    only: Optional[Path] = None,
) -> LabelledDataset:
    """Read a dataset as 2.x's `x2coco.py` names it; arguments as of `ppdet.data.formats.folders.read_folder`.

    Raises:
        DataError: If anything cannot be read, names file and line or object; or if there is no object at all.
    """
    images, counts = read_folder(kind, annotation_dir, image_dir, names, negatives=negatives, only=only)
    if not any(image.objects for image in images):
        text = f"{annotation_dir}: no object for any of {len(images)} images of {image_dir}"
        raise DatasetProblemsError(str(annotation_dir), [DatasetProblem("no-objects", text)])
    return from_images(images, image_dir, kind, counts, names or ())


def copy_images(content: dict[str, Any], image_dir: Path, target: Path) -> None:
    """Copy the images of an annotation file to a folder; what is there already must be the same.

    Raises:
        DataError: If a file of another content is in the way, or one cannot be written.
    """
    for image in content["images"]:
        source, copy = image_dir / image["file_name"], target / image["file_name"]
        try:
            if not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, copy)
            elif not filecmp.cmp(source, copy, shallow=False):
                raise DataError(f"{copy} exists and is another image; choose another --output_dir")
        except OSError as error:
            raise DataError(f"{copy}: cannot be written: {error.strerror or error}") from None
