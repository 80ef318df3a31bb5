"""Detections of many images as files: JSON, COCO's JSON, CSV, and YOLO's text file per image.

Each file is written as the images come, so nothing is kept. Until the writer's ``with`` block is left it has
another name, and if the block breaks off (Ctrl-C too) it keeps one that says so: an earlier file stays until
the new one is complete. The same holds for the folder of YOLO's files.
"""

from __future__ import annotations

import csv
import json
import logging
import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Optional, TextIO, Union

from ppdet.structures import Detections
from ppdet.structures.sample import rle_as_text
from ppdet.utils.errors import FileError

logger = logging.getLogger(__name__)

#: Of a line of YOLO annotations: label, centre x, centre y, width, height.
_ANNOTATION_COLUMNS = 5


class Result(NamedTuple):
    """What was found in an image or frame.

    Attributes:
        image: The file as the user named it.
        place: Relative path, with forward slashes, that is distinct for every image and frame.
        size: (height, width) in pixels.
        detections: In its pixels.
        drawn: The file that it is drawn in.
        frame: Number of the frame of a video, from 0; None for images.
        image_id: Id in the annotation file, if there is one.
    """

    image: str
    place: str
    size: tuple[int, int]
    detections: Detections
    drawn: str
    frame: Optional[int] = None
    image_id: Union[int, str, None] = None


class ResultWriter(ABC):
    """Writes results one after the other, inside of its ``with`` block; nothing is written before that.

    Args:
        path: File, or folder of files, to write.
        names: Class names by label.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._path = path
        self._names = names

    @abstractmethod
    def write(self, result: Result) -> None:
        """Add an image."""

    def close(self, *, complete: bool = True) -> None:
        """Finish the files. The default has nothing to do.

        Args:
            complete: Whether all images were written.
        """
        del complete

    def __enter__(self) -> ResultWriter:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        value: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close(complete=kind is None)


class _FileWriter(ResultWriter):
    """One file, in its place when it is complete; what a run that breaks off has written is beside it."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        super().__init__(path, names)
        self._unfinished = path.with_name(f".{path.name}.tmp")
        self._file: TextIO

    def __enter__(self) -> ResultWriter:
        self._file = self._unfinished.open("w", encoding="utf-8", newline="")
        self._begin()
        return self

    def _begin(self) -> None:
        """Write what comes before the first result; the default is nothing."""

    def close(self, *, complete: bool = True) -> None:
        """Close the file and put it in its place."""
        self._file.close()
        if complete:
            self._unfinished.replace(self._path)
        else:
            partial = self._path.with_name(f"{self._path.stem}.incomplete{self._path.suffix}")
            self._unfinished.replace(partial)
            logger.warning("%s: written up to where the run broke off", partial)


def json_row(result: Result, names: Sequence[str]) -> dict[str, Any]:
    """An image in ``detections.json``.

    Args:
        result: The image and its detections.
        names: Class names by label.
    """
    row: dict[str, Any] = {"image": result.image}
    if result.frame is not None:
        row["frame"] = result.frame
    return row | {"drawn": result.drawn, "objects": _objects(result.detections, names)}


def _objects(found: Detections, names: Sequence[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for index in range(len(found)):
        row: dict[str, Any] = {
            "name": names[int(found.labels[index])],
            "label": int(found.labels[index]),
            "score": round(float(found.scores[index]), 5),
            "box": [round(float(v), 2) for v in found.boxes[index]],
        }
        if found.masks is not None:
            row["mask"] = rle_as_text(found.masks[index])
        rows.append(row)
    return rows


class JsonWriter(_FileWriter):
    """A list with a row per image: image, frame (of videos), drawn, objects.

    Objects have name, label, score, box as x1, y1, x2, y2 in pixels, and maybe mask as COCO's run lengths.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        super().__init__(path, names)
        self._separator = "[\n"

    def write(self, result: Result) -> None:
        """Add an image."""
        row = json_row(result, self._names)
        self._file.write(self._separator + json.dumps(row, ensure_ascii=False))
        self._separator = ",\n"

    def close(self, *, complete: bool = True) -> None:
        """End the list."""
        self._file.write("[]\n" if self._separator == "[\n" else "\n]\n")
        super().close(complete=complete)


class CocoWriter(_FileWriter):
    """A COCO dataset whose annotations have a ``score``: `images`, `annotations`, `categories`.

    Args:
        path: The file.
        names: Class names by label.
        category_ids: Ids by label, as an annotation file has them; label + 1 if None.
        first_id: Id of the first image that no annotation file gives one; the others count on. Beyond the
            ids of the file, if there is one.
    """

    def __init__(
        self,
        path: Path,
        names: Sequence[str],
        category_ids: Optional[Sequence[int]] = None,
        first_id: int = 1,
    ) -> None:
        super().__init__(path, names)
        self._images: list[dict[str, Any]] = []
        self._ids = list(range(1, len(names) + 1)) if category_ids is None else list(category_ids)
        self._count = 0
        self._next_id = first_id

    def _begin(self) -> None:
        self._file.write('{"annotations": [')

    def write(self, result: Result) -> None:
        """Add an image."""
        image_id: Union[int, str]
        if result.image_id is None:
            image_id, self._next_id = self._next_id, self._next_id + 1
        else:
            image_id = result.image_id
        height, width = result.size
        row = {"id": image_id, "file_name": result.place, "height": height, "width": width}
        self._images.append(row)
        found = result.detections
        for index in range(len(found)):
            self._count += 1
            x1, y1, x2, y2 = (float(v) for v in found.boxes[index])
            annotation: dict[str, Any] = {
                "id": self._count,
                "image_id": image_id,
                "category_id": self._ids[int(found.labels[index])],
                "bbox": [round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)],
                "area": round((x2 - x1) * (y2 - y1), 2),
                "iscrowd": 0,
                "score": round(float(found.scores[index]), 5),
            }
            if found.masks is not None:
                annotation["segmentation"] = rle_as_text(found.masks[index])
            self._file.write(("\n" if self._count == 1 else ",\n") + json.dumps(annotation))

    def close(self, *, complete: bool = True) -> None:
        """Add images and categories."""
        categories = [{"id": i, "name": name} for i, name in zip(self._ids, self._names)]
        rest = {"images": self._images, "categories": categories}
        self._file.write("\n],\n" + json.dumps(rest, ensure_ascii=False, indent=1)[1:].lstrip() + "\n")
        super().close(complete=complete)


class CsvWriter(_FileWriter):
    """A row per object: image, frame (of videos), label, name, score, x1, y1, x2, y2."""

    def _begin(self) -> None:
        self._rows = csv.writer(self._file)
        self._rows.writerow(["image", "frame", "label", "name", "score", "x1", "y1", "x2", "y2"])

    def write(self, result: Result) -> None:
        """Add an image."""
        found = result.detections
        for box, score, label in zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist()):
            frame = "" if result.frame is None else result.frame
            corners = [f"{v:.2f}" for v in box]
            self._rows.writerow([result.image, frame, label, self._names[label], f"{score:.5f}", *corners])


class YoloWriter(ResultWriter):
    """A text file per image with a line per object: label, centre x, centre y, width, height, score.

    Centres and sides are shares of the image's sides. An image without objects has an empty file. The files
    of a run that breaks off are in ``<folder>.incomplete``; those of a complete one replace files of the same
    image, and others in the folder stay and are counted in a warning.

    Raises:
        FileError: If the folder holds annotations: files with five columns, which have no score.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        super().__init__(path, names)
        _require_no_annotations(path)
        self._unfinished = path.with_name(f".{path.name}.tmp")

    def __enter__(self) -> ResultWriter:
        shutil.rmtree(self._unfinished, ignore_errors=True)
        self._unfinished.mkdir(parents=True)
        return self

    def write(self, result: Result) -> None:
        """Write the file of an image."""
        height, width = result.size
        lines = []
        found = result.detections
        for (x1, y1, x2, y2), score, label in zip(
            found.boxes.tolist(), found.scores.tolist(), found.labels.tolist()
        ):
            shares = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
            lines.append(" ".join([str(label), *(f"{v:.6f}" for v in shares), f"{score:.5f}"]) + "\n")
        target = (self._unfinished / result.place).with_suffix(".txt")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("".join(lines), "utf-8")

    def close(self, *, complete: bool = True) -> None:
        """Move the files to their places."""
        if not complete:
            partial = self._path.with_name(f"{self._path.name}.incomplete")
            shutil.rmtree(partial, ignore_errors=True)
            self._unfinished.replace(partial)
            logger.warning("%s: written up to where the run broke off", partial)
            return
        written = set()
        for path in [path for path in self._unfinished.rglob("*") if path.is_file()]:
            target = self._path / path.relative_to(self._unfinished)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
            written.add(target)
        shutil.rmtree(self._unfinished)
        self._path.mkdir(exist_ok=True)
        others = sum(path not in written for path in self._path.rglob("*.txt"))
        if others:
            logger.warning("%s: %d text files are not of this run; remove them if unused", self._path, others)


def _require_no_annotations(folder: Path) -> None:
    for path in sorted(folder.rglob("*.txt")):
        with path.open("rb") as file:
            columns = len(file.readline().split())
        if columns == _ANNOTATION_COLUMNS:
            raise FileError(
                f"{path}: has {columns} columns, as annotations have and results (6) have not; "
                "choose another --output_dir, so that results do not replace annotations"
            )
