"""Folders of one annotation file per image (VOC, YOLO, labelme): which file belongs to which image, and what
they say. What cannot be read is an error by file and line; what is left out is counted.

Corners in the wrong order are put right. Sizes are those of the image files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Optional

from tqdm import tqdm

from ppdet.data.annotation_files import read_lines, require_folder
from ppdet.data.formats.fit import is_rectangle
from ppdet.data.formats.labelled import Labelled, LabelledImage
from ppdet.data.formats.labelme import objects_of, read_labelme_file
from ppdet.data.formats.voc import ordered, parse_voc, split_pair
from ppdet.data.formats.yolo import is_label_file, read_labels
from ppdet.data.image_files import IMAGE_SUFFIXES, find_images, image_size, resolve_file, walk
from ppdet.data.problems import DatasetProblemsError
from ppdet.utils.errors import DataError

#: Files of the annotations of one image.
_SUFFIXES = {"voc": ".xml", "yolo": ".txt", "labelme": ".json"}
#: What counts say of images beside those of a list.
UNLISTED = "images that the list does not name left out"
_TITLES = {"voc": "VOC", "yolo": "YOLO", "labelme": "labelme"}


class FolderContent(NamedTuple):
    """What a folder gives.

    Attributes:
        images: In the order of their names, or of the list.
        counts: What was left out or is odd, and how many of it.
    """

    images: list[LabelledImage]
    counts: Counter[str]


class Pair(NamedTuple):
    """An image, relative to the image folder, and its annotation file."""

    image: str
    annotation: Optional[Path]


def read_folder(
    kind: str,
    annotation_dir: Path,
    image_dir: Path,
    names: Optional[Sequence[str]],
    *,
    negatives: bool = False,
    only: Optional[Path] = None,
) -> FolderContent:
    """Read a folder of annotation files.

    Args:
        kind: ``voc``, ``yolo`` or ``labelme``.
        annotation_dir: Folder of its annotation files.
        image_dir: Folder of its images.
        names: Classes in order; needed for YOLO, whose files have numbers only.
        negatives: Take images without an annotation file as images without objects; else they are left out.
        only: A list of the images that belong to the dataset, one a line, with or without suffix
            (``ImageSets/Main/train.txt``); those without an annotation file have no objects.

    Raises:
        DataError: If anything cannot be read; names file and line or object.
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
    return FolderContent(list(read_images(kind, pairs, image_dir, names or (), counts)), counts)


def read_images(
    kind: str, pairs: Sequence[Pair], image_dir: Path, names: Sequence[str], counts: Counter[str]
) -> Iterator[LabelledImage]:
    """Read the annotation files of images; arguments as of `read_folder`.

    Args:
        pairs: Images and their annotation files; None for an image without objects.
        counts: Counts what is left out or odd.

    Raises:
        DataError: If anything cannot be read; names file and line or object.
    """
    for image, annotation in tqdm(pairs, desc=f"reading {_TITLES[kind]}", unit="image", disable=None):
        size = image_size(str(image_dir / image))
        if size is None:
            raise DataError(f"image {image_dir / image} cannot be read; restore it or remove it")
        objects: tuple[Labelled, ...] = ()
        written = size
        if annotation is not None and kind == "yolo":
            objects = read_labels(annotation, size, names)
            counts["oriented boxes (four corners): upright boxes around them, corners kept"] += sum(
                len(item.mask) == 1 and len(item.mask[0]) == 4 and not is_rectangle(item.mask, item.box)
                for item in objects
                if isinstance(item.mask, tuple)
            )
        elif annotation is not None and kind == "voc":
            parsed = parse_voc(annotation)
            if parsed.problems:
                raise DatasetProblemsError(str(annotation), parsed.problems)
            written = parsed.size
            objects = tuple(
                Labelled(item.name, ordered(item.box), extra=item.extra) for item in parsed.objects
            )
        elif annotation is not None:
            file = read_labelme_file(annotation)
            written = file.size
            objects, left_out = objects_of(file.shapes, size, annotation)
            counts.update(left_out)
        if 0 not in written and written != size:
            counts["annotation files that give another size than their image has, which counts"] += 1
        yield LabelledImage(image, size, objects)


def write_plain(path: Path, text: str) -> None:
    """Write a file of a new folder that is not at its place yet, so that it need not replace anything."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def _pairs_by_name(kind: str, annotation_dir: Path, image_dir: Path, counts: Counter[str]) -> list[Pair]:
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
    return [Pair(image, files.get(key)) for key, sharing in images.items() for image in sharing]


def _labelme_pairs(annotation_dir: Path, image_dir: Path, counts: Counter[str]) -> list[Pair]:
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
    pairs = [Pair(image, path) for image, path in owners.items()]
    return pairs + [Pair(image, None) for image in rest if image not in owners]


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


def _listed(pairs: list[Pair], only: Path, counts: Counter[str]) -> list[Pair]:
    """The pairs whose images a list names, in its order."""
    by_name: dict[str, list[Pair]] = {}
    for pair in pairs:
        path = PurePosixPath(pair.image)
        for name in dict.fromkeys((pair.image, path.with_suffix("").as_posix(), path.name, path.stem)):
            by_name.setdefault(name, []).append(pair)
    chosen: dict[str, Pair] = {}
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
    counts[UNLISTED] += len(pairs) - len(chosen)
    counts["listed images without annotation file, taken as images without objects"] += sum(
        pair.annotation is None for pair in chosen.values()
    )
    return list(chosen.values())


def _base(name: str) -> str:
    """File name without folders and the suffix of an image or XML file."""
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in {*IMAGE_SUFFIXES, ".xml"} else path.name
