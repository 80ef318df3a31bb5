"""Keeps the packed annotations of large files, so that a second start does not parse half a gigabyte of JSON
again.

An entry is a `.npz` without pickles. Its name is a digest of everything it depends on: path, size and time of
the annotation file, the options, and the version of the format. What cannot be read or written is made anew,
in silence.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import hashlib
import json
import logging
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np

from ppdet.data.datasets.packed import PackedAnnotations, PackedMasks
from ppdet.data.problems import DatasetProblem
from ppdet.structures import Categories
from ppdet.utils.errors import FileError
from ppdet.utils.files import cache_folder, replacing

logger = logging.getLogger(__name__)

#: Files below this many bytes parse faster than anyone notices.
SMALLEST = 32 << 20
#: Goes up when what is packed changes.
_VERSION = 2


@dataclass(frozen=True)
class ParsedFile:
    """What is left of an annotation file.

    Attributes:
        packed: Images and objects in use.
        categories: The file's own table, in its order.
        summary: What was kept and dropped, for the log.
        remarks: What is odd about single objects, without being wrong.
    """

    packed: PackedAnnotations
    categories: Categories
    summary: str
    remarks: tuple[DatasetProblem, ...]


def cached(source: Path, options: dict[str, Any], parse: Callable[[], ParsedFile]) -> ParsedFile:
    """`parse()`, or what it gave the last time for the same file and options.

    Args:
        source: The annotation file.
        options: Everything else that the result depends on; JSON values.
        parse: Reads the file.
    """
    try:
        state = source.stat()
    except OSError:
        return parse()  # which says what is wrong with the file
    if state.st_size < SMALLEST:
        return parse()
    depends = [_VERSION, str(source.resolve()), state.st_size, state.st_mtime_ns, options]
    digest = hashlib.sha256(json.dumps(depends, sort_keys=True).encode("utf-8")).hexdigest()
    entry = cache_folder() / "annotations" / f"{digest[:32]}.npz"
    parsed = _load(entry)
    if parsed is None:
        logger.info("%s: reading %.0f MB of annotations", source, state.st_size / 2**20)
        with collector_paused():
            parsed = parse()
        _save(entry, parsed)
    return parsed


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Within, Python does not look for cycles, which millions of new lists make it do again and again.

    A fifth of the time of reading COCO's training annotations.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _load(entry: Path) -> Optional[ParsedFile]:
    try:
        with np.load(entry, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        about = json.loads(arrays.pop("about").tobytes().decode("utf-8"))
        masks = {name[6:]: arrays.pop(name) for name in list(arrays) if name.startswith("masks.")}
        packed = PackedAnnotations(**arrays, masks=PackedMasks(**masks) if masks else None)
        remarks = tuple(DatasetProblem(kind, text) for kind, text in about["remarks"])
        categories = Categories(tuple(about["names"]), tuple(about["ids"]))
        return ParsedFile(packed, categories, str(about["summary"]), remarks)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None


def _save(entry: Path, parsed: ParsedFile) -> None:
    about = {
        "names": parsed.categories.names,
        "ids": parsed.categories.ids,
        "summary": parsed.summary,
        "remarks": [(remark.kind, remark.text) for remark in parsed.remarks],
    }
    arrays: dict[str, Any] = {"about": np.frombuffer(json.dumps(about).encode("utf-8"), np.uint8)}
    for prefix, part in (("", parsed.packed), ("masks.", parsed.packed.masks)):
        if part is not None:
            for field in dataclasses.fields(part):
                value = getattr(part, field.name)
                if isinstance(value, np.ndarray):
                    arrays[prefix + field.name] = value
    # Several processes of one training may write the same entry at once. What cannot be kept is read again.
    with contextlib.suppress(FileError), replacing(entry) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
