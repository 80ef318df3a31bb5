"""PASCAL VOC as a format of datasets: VOCdevkit, a folder of XML files, a list, Roboflow's VOC export."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, SubElement

from ppdet.data.annotation_files import open_bytes, xml_text
from ppdet.data.category_tables import read_categories
from ppdet.data.formats.attributes import as_text, attributes_of
from ppdet.data.formats.dataset import (
    LabelledDataset,
    ReadOptions,
    by_part,
    folders_of_parts,
    from_images,
    image_folder,
    places_near,
)
from ppdet.data.formats.fit import Part
from ppdet.data.formats.folders import UNLISTED, Pair, read_folder, read_images, write_plain
from ppdet.data.formats.labelled import LabelledImage
from ppdet.data.formats.voc import read_pairs, split_pair
from ppdet.data.image_files import resolve_file
from ppdet.utils.errors import DataError

_LISTS = ("train", "val", "test")
#: File with the classes in order, beside ``Annotations``.
_CLASSES = "label_list.txt"
#: Bytes of a file that tell what it is.
_SNIFFED = 4096


def recognise(source: Path) -> bool:
    """Whether a folder has XML files of VOC, itself or where VOC keeps them; or a file is a list of them."""
    if source.is_file():
        return source.suffix.lower() == ".txt" and _is_list(source)
    return bool(_annotation_folders(source))


def read(source: Path, options: ReadOptions) -> dict[str, LabelledDataset]:
    """Read a dataset; lists of ``ImageSets/Main``, or folders named train, valid, test, are its parts.

    Raises:
        DataError: If a file cannot be read; names it.
    """
    if source.is_file():
        return {"": _read_list(source, options)}
    folders = _annotation_folders(source)
    if not folders:
        raise DataError(f"{source}: no folder with XML files of VOC")
    if len(folders) > 1:
        return by_part([(_place(folder).name, _read_folder(folder, options, None)) for folder in folders])
    lists = folders[0].parent / "ImageSets" / "Main"
    found = [lists / f"{part}.txt" for part in _LISTS if (lists / f"{part}.txt").is_file()]
    if not found and (lists / "trainval.txt").is_file():
        found = [lists / "trainval.txt"]
    if not found:
        return {"": _read_folder(folders[0], options, None)}
    parts = by_part([(path.stem, _read_folder(folders[0], options, path)) for path in found])
    if len(parts) > 1:  # what one list leaves out is in the others
        listed = {row["file_name"] for part in parts.values() for row in part.content["images"]}
        first = next(iter(parts.values()))
        rest = first.counts.get(UNLISTED, 0) + len(first.content["images"]) - len(listed)
        for part in parts.values():
            part.counts.pop(UNLISTED, None)
        first.counts.update({"images that no list names left out": rest} if rest else {})
    return parts


def write(parts: Mapping[str, Part], folder: Path) -> None:
    """Write ``Annotations``, the lists of ``ImageSets/Main``, and what `VOCDataSet` trains from.

    That is a list of images and XML files for each part, and ``label_list.txt``.
    """
    for name, part in parts.items():
        images, pairs = [], []
        for image in part.images:
            stem = PurePosixPath(image.file_name).with_suffix("").as_posix()
            write_plain(folder / "Annotations" / f"{stem}.xml", _xml(image))
            images.append(f"{stem}\n")
            pairs.append(f"JPEGImages/{image.file_name} Annotations/{stem}.xml\n")
        write_plain(folder / "ImageSets" / "Main" / f"{name}.txt", "".join(images))
        write_plain(folder / f"{name}.txt", "".join(pairs))
        write_plain(folder / _CLASSES, "".join(f"{label}\n" for label in part.names))


def _xml(image: LabelledImage) -> str:
    path = PurePosixPath(image.file_name)
    root = Element("annotation")
    SubElement(root, "folder").text = path.parent.name or "JPEGImages"
    SubElement(root, "filename").text = path.name
    size = SubElement(root, "size")
    for key, pixels in zip(("width", "height", "depth"), (image.size[1], image.size[0], 3)):
        SubElement(size, key).text = str(pixels)
    SubElement(root, "segmented").text = "0"
    for item in image.objects:
        attributes = attributes_of(item.extra, ("difficult", "truncated", "occluded"))
        node = SubElement(root, "object")
        SubElement(node, "name").text = item.name
        SubElement(node, "pose").text = str(attributes.pop("pose", "Unspecified"))
        for key in ("truncated", "occluded", "difficult"):
            SubElement(node, key).text = str(item.extra.get(key, 0))
        box = SubElement(node, "bndbox")
        for key, corner in zip(("xmin", "ymin", "xmax", "ymax"), item.box):
            SubElement(box, key).text = f"{corner:.10g}"
        if attributes:
            listed = SubElement(node, "attributes")
            for name, value in attributes.items():
                pair = SubElement(listed, "attribute")
                SubElement(pair, "name").text = name
                SubElement(pair, "value").text = as_text(value)
    return xml_text(root)


def _read_folder(folder: Path, options: ReadOptions, only: Path | None) -> LabelledDataset:
    stems = [path.relative_to(folder).with_suffix("").as_posix() for path in sorted(folder.glob("**/*.xml"))]
    image_dir = options.image_dir or image_folder(stems, places_near(folder)) or folder
    images, counts = read_folder("voc", folder, image_dir, None, negatives=True, only=only)
    return from_images(images, image_dir, "voc", counts, _names(_place(folder), options))


def _read_list(path: Path, options: ReadOptions) -> LabelledDataset:
    """The images and XML files that the lines of a list name."""
    lines = read_pairs(path)
    image_dir = options.image_dir or image_folder((image for image, _ in lines), places_near(path))
    image_dir = image_dir or path.parent
    pairs = []
    for image, xml in lines:
        file = resolve_file(image_dir, image)
        places = ((place, resolve_file(place, xml)) for place in (path.parent, image_dir, image_dir.parent))
        annotation = next((place / found for place, found in places if found is not None), None)
        if file is None or annotation is None:
            lost = f"image {image} is not in {image_dir}" if file is None else f"{xml} does not exist"
            raise DataError(f"{path}: {lost}; names are relative to the list")
        pairs.append(Pair(file, annotation))
    counts: Counter[str] = Counter()
    images = list(read_images("voc", pairs, image_dir, (), counts))
    return from_images(images, image_dir, "voc", counts, _names(path.parent, options))


def _names(folder: Path, options: ReadOptions) -> Sequence[str]:
    """The classes in order, as given or as a list beside the annotations has them; none: those that occur."""
    if options.names is not None:
        return options.names
    return read_categories(folder / _CLASSES).names if (folder / _CLASSES).is_file() else ()


def _annotation_folders(source: Path) -> list[Path]:
    """Folders with XML files of VOC: the first place that has any."""
    if not source.is_dir():
        return []
    years = sorted([*source.glob("VOC2*"), *source.glob("VOCdevkit/VOC2*")])
    parts = [*folders_of_parts(source), *(part / "Annotations" for part in folders_of_parts(source))]
    if _has_xml(source, "*.xml"):
        return [source]
    for folders in ([source / "Annotations"], [year / "Annotations" for year in years], parts, [source]):
        found = [folder for folder in folders if _has_xml(folder, "**/*.xml")]
        if found:
            return found
    return []


def _place(folder: Path) -> Path:
    """The folder that an annotation folder belongs to: itself, or the one above ``Annotations``."""
    return folder.parent if folder.name == "Annotations" else folder


def _has_xml(folder: Path, pattern: str) -> bool:
    first = next(folder.glob(pattern), None)
    if first is None:
        return False
    with open_bytes(first) as file:
        start = file.read(_SNIFFED).replace(b"\0", b"")
    return b"<annotation>" in start or b"<annotation " in start


def _is_list(path: Path) -> bool:
    with open_bytes(path) as file:
        line = file.read(_SNIFFED).split(b"\n")[0]
    pair = split_pair(line.decode("utf-8", "replace").strip())
    return pair is not None and pair[1].lower().endswith(".xml")
