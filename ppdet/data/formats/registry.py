"""The table of formats: which there are, which one a dataset has, and how each is read and written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Optional

from ppdet.data.formats import (
    coco_dataset,
    csv_dataset,
    cvat_dataset,
    label_studio,
    labelme_dataset,
    via_dataset,
    voc_dataset,
    yolo_dataset,
)
from ppdet.data.formats.dataset import FEATURES, Format, LabelledDataset, ReadOptions, united
from ppdet.data.formats.writing import Written, write_parts
from ppdet.data.problems import DatasetProblem, DatasetProblemsError
from ppdet.utils.errors import DataError

_ALL = frozenset(FEATURES)
#: What attributes can say, where a format has them.
_SAID = frozenset({"iscrowd", "difficult", "truncated", "occluded", "score", "yes_no", "attributes"})

#: What VIA's files hold; its CSV has no table of classes.
_VIA = _SAID | {"outline", "empty"}

#: Formats by the name that commands use. The first that recognises a dataset reads it.
FORMATS = {
    "coco": Format("COCO", _ALL, coco_dataset.recognise, coco_dataset.read, coco_dataset.write),
    "cvat": Format(
        "CVAT XML 1.1",
        _ALL - {"own_box"},
        cvat_dataset.recognise,
        cvat_dataset.read,
        cvat_dataset.write,
    ),
    "label-studio": Format(
        "Label Studio JSON",
        frozenset({"outline", "runs", "score", "empty"}),
        label_studio.recognise,
        label_studio.read,
        label_studio.write,
    ),
    "via": Format(
        "VIA JSON 2", _VIA | {"unused"}, via_dataset.recognise, via_dataset.read, via_dataset.write
    ),
    "via3": Format(
        "VIA JSON 3",
        _VIA | {"unused"},
        via_dataset.recognise_third,
        via_dataset.read_third,
        via_dataset.write_third,
    ),
    "via-csv": Format(
        "VIA CSV", _VIA, via_dataset.recognise_csv, via_dataset.read_csv, via_dataset.write_csv
    ),
    "retinanet": Format(
        "RetinaNet CSV",
        frozenset({"empty", "unused"}),
        csv_dataset.recognise_retinanet,
        csv_dataset.read_retinanet,
        csv_dataset.write_retinanet,
    ),
    "open-images": Format(
        "Open Images CSV",
        frozenset({"iscrowd", "occluded", "truncated", "score", "unused"}),
        csv_dataset.recognise_open_images,
        csv_dataset.read_open_images,
        csv_dataset.write_open_images,
        file_per_image=True,
    ),
    "tensorflow": Format(
        "TensorFlow CSV",
        frozenset(),
        csv_dataset.recognise_tensorflow,
        csv_dataset.read_tensorflow,
        csv_dataset.write_tensorflow,
    ),
    "yolo": Format(
        "YOLO",
        frozenset({"outline", "empty", "unused"}),
        yolo_dataset.recognise,
        yolo_dataset.read,
        yolo_dataset.write,
        only_part="train",
        file_per_image=True,
    ),
    "voc": Format(
        "PASCAL VOC",
        _SAID | {"empty", "unused"},
        voc_dataset.recognise,
        voc_dataset.read,
        voc_dataset.write,
        images="JPEGImages",
        only_part="trainval",
        file_per_image=True,
    ),
    "labelme": Format(
        "labelme",
        _SAID - {"attributes"} | {"outline", "parts", "runs", "empty"},
        labelme_dataset.recognise,
        labelme_dataset.read,
        labelme_dataset.write,
        images="{part}",
        file_per_image=True,
    ),
}


def recognise(source: Path) -> str:
    """The format of a dataset, by what is in its files.

    Args:
        source: A folder or a file.

    Returns:
        A key of `FORMATS`.

    Raises:
        DataError: If it has none of them, or does not exist.
    """
    if not source.exists():
        near = next((parent for parent in source.absolute().parents if parent.is_dir()), None)
        raise DataError(f"dataset {source} does not exist{f'; {near} does' if near else ''}")
    for kind, row in FORMATS.items():
        if row.recognise(source):
            return kind
    titles = ", ".join(row.title for row in FORMATS.values())
    raise DataError(
        f"{source}: its format is not recognised ({titles}); name the folder or file with the "
        "annotations, and the format with --from"
    )


def read_parts(
    source: Path, kind: str = "auto", options: Optional[ReadOptions] = None
) -> dict[str, LabelledDataset]:
    """Read a dataset of any format, its parts apart.

    Args:
        source: A folder or a file.
        kind: A key of `FORMATS`, or ``auto``.
        options: What the dataset leaves open.

    Returns:
        A dataset for each part, by name (``train``, ``val``, ``test``, or the name of its folder or file);
        one under ``""`` where there are no parts.

    Raises:
        DataError: If it cannot be read, or has no object at all; names file and line or object.
    """
    if kind == "auto":
        kind = recognise(source)
    parts = _format(kind).read(source, options or ReadOptions())
    if not any(part.content["annotations"] for part in parts.values()):
        images = sum(len(part.content["images"]) for part in parts.values())
        text = f"{source}: no object for any of {images} images, read as {FORMATS[kind].title}"
        raise DatasetProblemsError(str(source), [DatasetProblem("no-objects", text)])
    return parts


def read_any(source: Path, kind: str = "auto", options: Optional[ReadOptions] = None) -> LabelledDataset:
    """Read a dataset of any format, its parts united; arguments and errors as of `read_parts`."""
    parts = read_parts(source, kind, options)
    return united(parts, source if source.is_dir() else source.parent)


def write_any(
    parts: Mapping[str, LabelledDataset], target: Path, kind: str, *, images: str = "link"
) -> Written:
    """Write the parts of a dataset in a format, by its key of `FORMATS`; the rest as of `write_parts`."""
    return write_parts(parts, target, _format(kind), images=images)


def _format(kind: str) -> Format:
    if kind not in FORMATS:
        raise DataError(f"no format is named {kind!r}; there are {', '.join(FORMATS)}")
    return FORMATS[kind]
