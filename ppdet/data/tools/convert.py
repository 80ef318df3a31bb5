"""Other annotation formats to COCO's. What cannot be read is an error by file and line; what is left out is
counted.

Corners in the wrong order are put right. Boxes keep their values; VOC's are taken as written (see
`VOCDataSet`). Sizes are those of the image files.
"""

from __future__ import annotations

import filecmp
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Optional

import numpy as np

from ppdet.data.annotation_files import read_lines, require_folder
from ppdet.data.formats.labelled import Labelled, LabelledImage, to_coco
from ppdet.data.formats.labelme import objects_of, read_labelme_file
from ppdet.data.formats.voc import ordered, parse_voc, split_pair
from ppdet.data.formats.yolo import is_label_file, read_labels
from ppdet.data.image_files import IMAGE_SUFFIXES, find_images, image_size, resolve_file, walk
from ppdet.data.problems import DatasetProblem, DatasetProblemsError
from ppdet.utils.errors import DataError

#: Files of the annotations of one image.
_SUFFIXES = {"voc": ".xml", "yolo": ".txt", "labelme": ".json"}


class Converted(NamedTuple):
    """What a conversion gives.

    Attributes:
        content: The content of a COCO annotation file.
        counts: What was left out or is odd, and how many of it.
    """

    content: dict[str, Any]
    counts: dict[str, int]


class _Pair(NamedTuple):
    """An image, relative to the image folder, and its annotation file."""

    image: str
    annotation: Optional[Path]


def convert(
    kind: str,
    annotation_dir: Path,
    image_dir: Path,
    names: Optional[Sequence[str]],
    *,
    negatives: bool = False,
    only: Optional[Path] = None,
) -> Converted:
    """Read a dataset of another format as the content of a COCO annotation file.

    Args:
        kind: ``voc``, ``yolo`` or ``labelme``.
        annotation_dir: Folder of its annotation files.
        image_dir: Folder of its images.
        names: Classes in order; needed for YOLO, whose files have numbers only.
        negatives: Take images without an annotation file as images without objects; else they are left out.
        only: A list of the images that belong to the dataset, one a line, with or without suffix
            (``ImageSets/Main/train.txt``); those without an annotation file have no objects.

    Raises:
        DataError: If anything cannot be read, names file and line or object; or if there is no object at all.
    """
    require_folder(annotation_dir, "annotation folder")
    if kind == "yolo" and not names:
        raise DataError("YOLO files have class numbers only: give a list of class names (--label_list)")
    counts: Counter[str] = Counter()
    if kind == "labelme":
        pairs = _labelme_pairs(annotation_dir, image_dir, counts)
    else:
        pairs = _pairs_by_name(kind, annotation_dir, image_dir, counts)
    if only is not None:
        pairs = _listed(pairs, only, counts)
    elif not negatives:
        counts["images without annotation file left out (--negatives keeps them)"] += sum(
            pair.annotation is None for pair in pairs
        )
        pairs = [pair for pair in pairs if pair.annotation is not None]
    images = list(_read(kind, pairs, image_dir, names or (), counts))
    if not any(image.objects for image in images):
        text = f"{annotation_dir}: no object for any of {len(images)} images of {image_dir}"
        raise DatasetProblemsError(str(annotation_dir), [DatasetProblem("no-objects", text)])
    content = to_coco(images, names or ())
    return Converted(content, {what: count for what, count in counts.items() if count})


def _read(
    kind: str, pairs: list[_Pair], image_dir: Path, names: Sequence[str], counts: Counter[str]
) -> Iterator[LabelledImage]:
    for image, annotation in pairs:
        size = image_size(str(image_dir / image))
        if size is None:
            raise DataError(f"image {image_dir / image} cannot be read; restore it or remove it")
        objects: tuple[Labelled, ...] = ()
        written = size
        if annotation is not None and kind == "yolo":
            objects = read_labels(annotation, size, names)
        elif annotation is not None and kind == "voc":
            parsed = parse_voc(annotation)
            if parsed.problems:
                raise DatasetProblemsError(str(annotation), parsed.problems)
            written = parsed.size
            objects = tuple(Labelled(item.name, ordered(item.box)) for item in parsed.objects)
        elif annotation is not None:
            file = read_labelme_file(annotation)
            written = file.size
            objects, left_out = objects_of(file.shapes, size, annotation)
            counts["shapes labelled __ignore__ or _background_ left out"] += left_out
        if 0 not in written and written != size:
            counts["annotation files that give another size than their image has, which counts"] += 1
        yield LabelledImage(image, size, objects)


def _pairs_by_name(kind: str, annotation_dir: Path, image_dir: Path, counts: Counter[str]) -> list[_Pair]:
    """Images and the annotation files of the same name, in folders of the same name."""
    listed = walk(annotation_dir)
    counts["hidden or system files left out"] += listed.hidden
    suffix = _SUFFIXES[kind]
    files = {
        path.relative_to(annotation_dir).with_suffix("").as_posix(): path
        for path in listed.files
        if path.suffix.lower() == suffix
    }
    images: dict[str, list[str]] = {}
    for found in find_images(image_dir):
        name = Path(found).relative_to(image_dir)
        images.setdefault(name.with_suffix("").as_posix(), []).append(name.as_posix())
    for key, sharing in images.items():
        if key in files and len(sharing) > 1:
            raise DataError(f"{files[key]}: it belongs to {len(sharing)} images: {', '.join(sharing)}")
    lost = []
    for key, path in sorted(files.items()):
        if key in images:
            continue
        if kind == "yolo" and not is_label_file(path):
            counts[f"text files that are no labels left out ({path.name})"] += 1
        else:
            lost.append(path)
    if lost:
        raise DataError(
            f"{annotation_dir}: {len(lost)} files belong to no image of {image_dir}, first {lost[0].name}"
        )
    return [_Pair(image, files.get(key)) for key, sharing in images.items() for image in sharing]


def _labelme_pairs(annotation_dir: Path, image_dir: Path, counts: Counter[str]) -> list[_Pair]:
    listed = walk(annotation_dir)
    counts["hidden or system files left out"] += listed.hidden
    files = [path for path in listed.files if path.suffix.lower() == ".json"]
    if not files:
        raise DataError(f"{annotation_dir}: no JSON files in it or below")
    owners: dict[str, Path] = {}
    for path in files:
        image = _labelme_image(path, annotation_dir, image_dir)
        if image in owners:
            raise DataError(f"{path}: its image {image} is that of {owners[image]} too")
        owners[image] = path
    rest = [Path(path).relative_to(image_dir).as_posix() for path in find_images(image_dir)]
    pairs = [_Pair(image, path) for image, path in owners.items()]
    return pairs + [_Pair(image, None) for image in rest if image not in owners]


def _labelme_image(path: Path, annotation_dir: Path, image_dir: Path) -> str:
    """The image of a JSON file: where `imagePath` leads from it, or else its name in the same sub folder."""
    written = read_labelme_file(path).image_path
    folder = path.parent
    beside = resolve_file(folder, written)
    if beside is not None:
        target = (folder / beside).resolve()
        if target.is_relative_to(image_dir.resolve()):
            return target.relative_to(image_dir.resolve()).as_posix()
    base = PurePosixPath(written).name
    inside = path.parent.relative_to(annotation_dir).as_posix()
    for name in dict.fromkeys((f"{inside}/{base}" if inside != "." else base, base)):
        image = resolve_file(image_dir, name)
        if image is not None:
            return image
    raise DataError(f"{path}: its image {written!r} is not in {image_dir}")


def _listed(pairs: list[_Pair], only: Path, counts: Counter[str]) -> list[_Pair]:
    """The pairs whose images a list names, in its order."""
    by_name: dict[str, list[_Pair]] = {}
    for pair in pairs:
        path = PurePosixPath(pair.image)
        for name in dict.fromkeys((pair.image, path.with_suffix("").as_posix(), path.name, path.stem)):
            by_name.setdefault(name, []).append(pair)
    chosen: dict[str, _Pair] = {}
    for index, line in enumerate(read_lines(only), start=1):
        text = line.strip().replace("\\", "/")
        if not text:
            continue
        # Lists of a class have a flag after the name, lists of 2.x an XML file, and many have whole paths.
        first = (split_pair(text) or (text.split()[0],))[0]
        matches = next(
            (by_name[name] for name in (text, first, _base(text), _base(first)) if name in by_name), []
        )
        if not matches:
            raise DataError(f"{only}:{index}: no image is named {text!r}")
        if len(matches) > 1:
            both = f"{matches[0].image} or {matches[1].image}"
            raise DataError(f"{only}:{index}: {text!r} is {both}; write its folder too")
        chosen[matches[0].image] = matches[0]
    counts["images that the list does not name left out"] += len(pairs) - len(chosen)
    counts["listed images without annotation file, taken as images without objects"] += sum(
        pair.annotation is None for pair in chosen.values()
    )
    return list(chosen.values())


def _base(name: str) -> str:
    """File name without folders and the suffix of an image or XML file."""
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in {*IMAGE_SUFFIXES, ".xml"} else path.name


def split_images(content: dict[str, Any], shares: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Split an annotation file by images, drawn with a fixed seed.

    Args:
        content: The content of a COCO annotation file.
        shares: Share of the images by the name of the part; together 1.

    Raises:
        DataError: If the shares are not 1 together, or one is negative.
    """
    if min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
        given = ", ".join(f"{name} {share:g}" for name, share in shares.items())
        raise DataError(f"proportions {given}: they must be 0 or more, and 1 together")
    order = np.random.default_rng(0).permutation(len(content["images"]))
    bounds = np.round(np.cumsum([0, *shares.values()]) * len(order)).astype(int)
    parts = {}
    for name, start, stop in zip(shares, bounds[:-1], bounds[1:]):
        images = [content["images"][row] for row in sorted(order[start:stop])]
        ids = {image["id"] for image in images}
        rows = [row for row in content["annotations"] if row["image_id"] in ids]
        parts[name] = {**content, "images": images, "annotations": rows}
    return parts


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
