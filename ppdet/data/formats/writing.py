"""Writes a dataset of any format into another one, in a new place, whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from tqdm import tqdm

from ppdet.data.formats.dataset import FEATURES, Format, LabelledDataset, united
from ppdet.data.formats.fit import Part, class_names, fitted_images
from ppdet.data.image_files import forget_listings, resolve_file
from ppdet.utils.errors import DataError, FileError

#: What may be done with the images of a dataset that is written.
IMAGE_MODES = ("link", "copy", "none")


class Written(NamedTuple):
    """What a conversion has written.

    Attributes:
        images: Images by part.
        objects: Objects by part, as they were read.
        counts: What the format cannot hold, and how many of it.
    """

    images: dict[str, int]
    objects: dict[str, int]
    counts: dict[str, int]


def require_new(target: Path) -> None:
    """Check that a dataset may be written to a place.

    Raises:
        FileError: If there is a file, or a folder with something in it.
    """
    if target.exists() and (target.is_file() or any(target.iterdir())):
        raise FileError(f"{target} exists already; name a new place, or remove it first")


def write_parts(
    parts: Mapping[str, LabelledDataset], target: Path, form: Format, *, images: str = "link"
) -> Written:
    """Write a dataset.

    Args:
        parts: The dataset by part; `""` for one without parts.
        target: A new folder. Or a new file, with a suffix, for annotations alone: parts are united, and
            names of images stay relative to the folder they have in common.
        form: The format, of `ppdet.data.formats.registry.FORMATS`.
        images: ``link`` makes hard links, and copies where the file system cannot; ``copy`` copies; ``none``
            writes annotations alone.

    Raises:
        DataError: If an image is not there, or two have names that the format does not tell apart.
        FileError: If the target exists, or cannot be written.
    """
    if form.write is None:
        raise DataError(f"{form.title} is read only; choose another format")
    if images not in IMAGE_MODES:
        raise DataError(f"images is {images!r}; it is one of {', '.join(IMAGE_MODES)}")
    require_new(target)
    single = bool(target.suffix) and not target.is_dir()
    if single:
        root = Path(os.path.commonpath([str(part.image_dir.resolve()) for part in parts.values()]))
        parts, images = {"": united(parts, root)}, "none"
    parts = {part or form.only_part: dataset for part, dataset in parts.items()}
    counts: Counter[str] = Counter()
    names = class_names(parts)
    if "unused" not in form.holds:
        names = _used(parts, names, counts)
    with _new_folder(target) as folder:
        files = _file_names(parts, form, single=single)
        given = {
            part: Part(
                dataset,
                names,
                "" if single else images_folder(form, part),
                files[part],
                fitted_images(dataset, form.holds, files[part], counts),
            )
            for part, dataset in parts.items()
        }
        form.write(given, folder)
        if images != "none":
            for part, dataset in parts.items():
                _place_images(dataset, folder / images_folder(form, part), files[part], copy=images == "copy")
        if single:
            _single_file(folder, target, form)
    forget_listings()
    return Written(
        {part: len(dataset.content["images"]) for part, dataset in parts.items()},
        {part: len(dataset.content["annotations"]) for part, dataset in parts.items()},
        {what: count for what, count in counts.items() if count},
    )


def images_folder(form: Format, part: str) -> str:
    """Folder of the images of a part in a written dataset, relative to it."""
    return "/".join(piece for piece in form.images.format(part=part).split("/") if piece) or "."


@contextlib.contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """A folder that takes the place of `target` when the block ends without an error, and else is gone."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if temporary.exists():
            if target.exists():
                target.rmdir()  # empty, as was checked
            temporary.rename(target)
    except OSError as error:
        raise FileError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _single_file(folder: Path, target: Path, form: Format) -> None:
    """Move the one file of annotations out of its folder, which is removed."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    if len(files) != 1 or files[0].suffix.lower() != target.suffix.lower():
        kinds = ", ".join(sorted({path.suffix for path in files}))
        raise FileError(
            f"{target}: {form.title} is written as {kinds}; name a folder, or a file with its suffix"
        )
    files[0].replace(target)
    shutil.rmtree(folder)


def _used(
    parts: Mapping[str, LabelledDataset], names: tuple[str, ...], counts: Counter[str]
) -> tuple[str, ...]:
    used = set()
    for part in parts.values():
        name_of = {row["id"]: str(row["name"]) for row in part.content["categories"]}
        used |= {name_of[row["category_id"]] for row in part.content["annotations"]}
    counts[FEATURES["unused"]] += len(set(names) - used)
    return tuple(name for name in names if name in used)


def _file_names(
    parts: Mapping[str, LabelledDataset], form: Format, *, single: bool
) -> dict[str, dict[Any, str]]:
    """Names of the images in the written dataset, by part and id."""
    names = {
        part: {
            image["id"]: _inside(image["file_name"], dataset.image_dir) for image in dataset.content["images"]
        }
        for part, dataset in parts.items()
    }
    if "{part}" not in form.images and len(parts) > 1:
        every = [name for of_part in names.values() for name in of_part.values()]
        if len(set(every)) < len(every):  # parts share a folder, and names
            names = {
                part: {id_: f"{part}/{name}" for id_, name in of_part.items()}
                for part, of_part in names.items()
            }
    if not single:
        _require_distinct(names, form)
    return names


def _require_distinct(names: Mapping[str, Mapping[Any, str]], form: Format) -> None:
    for part, of_part in names.items():
        seen: dict[str, str] = {}
        for name in of_part.values():
            key = PurePosixPath(name).with_suffix("").as_posix().lower() if form.file_per_image else name
            if key in seen:
                raise DataError(
                    f"images {seen[key]} and {name}{f' of {part}' if part else ''}: their annotations would "
                    f"have one name in {form.title}; rename one of them"
                )
            seen[key] = name


def _inside(name: str, image_dir: Path) -> str:
    """A name that stays inside of the folder of the images: no absolute path, nothing above.

    Folders called images go: the written dataset has its own, and YOLO's readers take the last one for it.
    """
    plain = name.replace("\\", "/")
    if plain.startswith("/") or plain[1:3] == ":/":
        path = Path(plain)
        plain = path.relative_to(image_dir).as_posix() if path.is_relative_to(image_dir) else path.name
    pieces = [piece for piece in plain.split("/") if piece not in ("", ".", "..")]
    if not pieces:
        raise DataError(f"an image has the file_name {name!r}, which is none")
    return "/".join([*(piece for piece in pieces[:-1] if piece not in ("images", "JPEGImages")), pieces[-1]])


def _place_images(dataset: LabelledDataset, folder: Path, names: Mapping[Any, str], *, copy: bool) -> None:
    for image in tqdm(dataset.content["images"], desc="images", unit="image", disable=None):
        found = resolve_file(dataset.image_dir, image["file_name"])
        if found is None:
            raise DataError(
                f"image {image['file_name']} is not in {dataset.image_dir}; name the folder with "
                "--image_dir, or write annotations alone with --images none"
            )
        source, place = dataset.image_dir / found, folder / names[image["id"]]
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():
            raise DataError(
                f"image {image['file_name']} is listed twice; `ppdet data merge` unites its objects"
            )
        if copy:
            shutil.copyfile(source, place)
            continue
        try:
            os.link(source.resolve(), place)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, place)
