"""Which images of an evaluation a page keeps, small and with their boxes, so that a browser can draw them."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, Optional

import numpy as np

from ppdet.metrics.analysis.analysis import Analysis
from ppdet.utils.errors import UserError

#: Images kept at most, their longer side in pixels, and their bytes in all (in the page a third more).
IMAGES = 160
SIDE = 480
BYTES = 4_500_000
#: Images that each view names at most, and examples of a cell of the confusion matrix.
PER_VIEW = 48
PER_CELL = 6
#: Detections below this score are left out of pictures, and all but so many of the best of each image.
LEAST_SCORE = 0.05
PER_IMAGE = 100
MASKS_PER_IMAGE = 30

#: Row of an image, of an object in it or -1, and of a detection in it or -1.
Case = tuple[int, int, int]


@dataclass
class Gallery:
    """What the script of the page draws.

    Attributes:
        images: Pictures with their boxes.
        views: Lists of cases by name, each with its title.
        cells: ``[row, column, count, cases]`` of the confusion matrix.
        note: Which images are kept.
    """

    images: list[dict[str, Any]] = field(default_factory=list)
    views: dict[str, dict[str, Any]] = field(default_factory=dict)
    cells: list[list[Any]] = field(default_factory=list)
    note: str = ""


def build_gallery(analysis: Analysis, folder: Optional[Path]) -> Gallery:
    """Choose images, and make their thumbnails.

    Args:
        analysis: Of the detections.
        folder: Where the images are; None shows boxes on an empty ground.
    """
    views = _views(analysis)
    by_cell = _cases_by_cell(analysis)
    gallery = Gallery()
    place: dict[int, int] = {}
    total = 0
    for row in _in_turn(views, by_cell, len(analysis.objects.image_ids)):
        if len(place) == IMAGES or total > BYTES:
            break
        source, size = _thumbnail(analysis, row, folder)
        total += len(source) * 3 // 4
        place[row] = len(gallery.images)
        gallery.images.append(_entry(analysis, row, source, size))
    index = _LocalRows(analysis, place)
    titles = {
        "worst": ("Most errors", "Images with the most errors"),
        "wrong": ("Wrong detections", "Wrong detections by falling score"),
        "missed": ("Missed objects", "Missed objects, largest first"),
        "mixed": ("Mix-ups", "Objects taken for another class"),
        "all": ("All kept", "All images kept in this file"),
    }
    views["all"] = [(row, -1, -1) for row in sorted(place)]
    for name, (label, title) in titles.items():
        kept = [index.local(case) for case in views[name] if case[0] in place]
        gallery.views[name] = {"label": label, "title": title, "cases": kept}
    for (row, column), cases in sorted(by_cell.items()):
        count = int(analysis.confusion.counts[row, column])
        chosen = sorted(cases, key=lambda case: case[0] not in place)[:PER_CELL]
        gallery.cells.append([row, column, count, [index.local(case) for case in chosen]])
    images = len(analysis.objects.image_ids)
    gallery.note = (
        f"This file keeps {len(place):,} of {images:,} images, at most {SIDE} pixels wide or high, with "
        f"their "
        f"{PER_IMAGE} best detections of score {LEAST_SCORE} or more."
    )
    return gallery


def _views(analysis: Analysis) -> dict[str, list[Case]]:
    """Cases of each view, the most telling first, one per image."""
    objects, predictions, cases = analysis.objects, analysis.predictions, analysis.confusion.cases
    off = cases[cases[:, 0] != cases[:, 1]]
    thing, detection = off[:, 2], off[:, 3]
    image = _image_of(analysis, off)
    errors = np.bincount(image, minlength=len(objects.image_ids))
    worst = np.argsort(-errors, kind="stable")
    background = len(objects.class_names)
    missed = np.flatnonzero(off[:, 1] == background)
    alone = np.flatnonzero(off[:, 1] != background)
    mixed = np.flatnonzero((off[:, 0] != background) & (off[:, 1] != background))
    missed = missed[np.argsort(-objects.area[thing[missed]], kind="stable")]
    alone = alone[np.argsort(-predictions.score[detection[alone]], kind="stable")]
    mixed = mixed[np.argsort(-predictions.score[detection[mixed]], kind="stable")]
    found: dict[str, list[Case]] = {"worst": [(int(row), -1, -1) for row in worst[:PER_VIEW] if errors[row]]}
    for name, rows in (("wrong", alone), ("missed", missed), ("mixed", mixed)):
        first: dict[int, Case] = {}
        for row in rows:
            first.setdefault(int(image[row]), (int(image[row]), int(thing[row]), int(detection[row])))
            if len(first) == PER_VIEW:
                break
        found[name] = list(first.values())
    return found


def _image_of(analysis: Analysis, cases: np.ndarray) -> np.ndarray:
    image = np.zeros(len(cases), np.int64)
    has_thing, has_detection = cases[:, 2] >= 0, cases[:, 3] >= 0
    image[has_thing] = analysis.objects.image[cases[has_thing, 2]]
    image[has_detection] = analysis.predictions.image[cases[has_detection, 3]]
    return image


def _cases_by_cell(analysis: Analysis) -> dict[tuple[int, int], list[Case]]:
    """Cases of each cell of the confusion matrix, by falling score, or size where nothing was detected."""
    cases = analysis.confusion.cases
    weight = np.zeros(len(cases))
    has_detection = cases[:, 3] >= 0
    weight[has_detection] = analysis.predictions.score[cases[has_detection, 3]]
    weight[~has_detection] = analysis.objects.area[cases[~has_detection, 2]]
    found: dict[tuple[int, int], list[Case]] = {}
    image = _image_of(analysis, cases)
    for index in np.argsort(-weight, kind="stable"):
        row, column, thing, detection = cases[index].tolist()
        cell = found.setdefault((row, column), [])
        if len(cell) < 10 * PER_CELL:
            cell.append((int(image[index]), thing, detection))
    return found


def _in_turn(
    views: dict[str, list[Case]], by_cell: dict[tuple[int, int], list[Case]], images: int
) -> Iterator[int]:
    """Rows of images, one of each view after the other, then of the cells, then any; none twice."""
    seen: set[int] = set()
    rounds: Sequence[Any] = list(zip_longest(*views.values()))
    cells = list(zip_longest(*(cases[:PER_CELL] for cases in by_cell.values())))
    for case in chain(*rounds, *cells, ((row, -1, -1) for row in range(images))):
        if case is not None and case[0] not in seen:
            seen.add(case[0])
            yield case[0]


class _LocalRows:
    """From rows of the whole dataset to places in the kept images."""

    def __init__(self, analysis: Analysis, place: dict[int, int]) -> None:
        self._analysis, self._place = analysis, place
        self._first_object = np.searchsorted(
            analysis.objects.image, np.arange(len(analysis.objects.image_ids))
        )

    def local(self, case: Case) -> list[Any]:
        """Place of the image, or its name where it is not kept; of the object; of the detection."""
        row, thing, detection = case
        if row not in self._place:
            return [Path(self._analysis.objects.file_names[row]).name]
        shown = _shown(self._analysis, row)
        spot = np.flatnonzero(shown == detection)
        return [
            self._place[row],
            thing - int(self._first_object[row]) if thing >= 0 else -1,
            int(spot[0]) if len(spot) else -1,
        ]


def _shown(analysis: Analysis, row: int) -> np.ndarray:
    """Detections of an image that its picture has, by falling score."""
    first, last = np.searchsorted(analysis.predictions.image, [row, row + 1])
    rows = np.arange(first, min(last, first + PER_IMAGE))
    return rows[analysis.predictions.score[rows] >= LEAST_SCORE]


def _entry(analysis: Analysis, row: int, source: str, size: tuple[int, int, float]) -> dict[str, Any]:
    """An image for the script: see evaluation.js for the form."""
    objects, predictions, matches = analysis.objects, analysis.predictions, analysis.matches
    width, height, scale = size
    first, last = (int(v) for v in np.searchsorted(objects.image, [row, row + 1]))
    truth = []
    for g in range(first, last):
        thing: list[Any] = [*_scaled(objects.xywh[g], scale), int(objects.label[g])]
        thing.append(int(objects.is_crowd[g]))
        if objects.masks is not None:
            thing.append(_polygons(objects.masks[g], scale))
        truth.append(thing)
    found = []
    for number, d in enumerate(_shown(analysis, row)):
        match = int(matches.thing[0, d])
        correct = match >= 0 and bool(matches.counts[match])
        state = 0 if correct else 1 if match < 0 and matches.countable[d] else 2
        entry: list[Any] = [*_scaled(predictions.xywh[d], scale), int(predictions.label[d])]
        entry += [round(float(predictions.score[d]), 4), match - first if correct else -1, state]
        if predictions.masks is not None and number < MASKS_PER_IMAGE:
            entry.append(_polygons(predictions.masks[d], scale))
        found.append(entry)
    return {
        "file": Path(objects.file_names[row]).name,
        "width": width,
        "height": height,
        "source": source,
        "truth": truth,
        "found": found,
    }


def _scaled(xywh: np.ndarray, scale: float) -> list[float]:
    return [round(float(v) * scale, 1) for v in xywh]


def _thumbnail(analysis: Analysis, row: int, folder: Optional[Path]) -> tuple[str, tuple[int, int, float]]:
    """A picture as a data URI; its width and height; and its scale against the annotations' pixels."""
    import cv2

    from ppdet.data.transforms.decode import read_image

    objects = analysis.objects
    height, width = (int(v) for v in objects.image_sizes[row])
    image = None
    if folder is not None:
        try:
            image = read_image(str(folder / objects.file_names[row]))
            height, width = image.shape[:2]
        except UserError:  # boxes on an empty ground say more than no page
            image = None
    if not (height and width):
        mine = objects.xywh[objects.image == row]
        width, height = (max(1, int(v)) for v in (mine[:, :2] + mine[:, 2:]).max(axis=0, initial=64))
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if image is None:
        ground = f"%3Csvg xmlns='http://www.w3.org/2000/svg' width='{size[0]}' height='{size[1]}'%3E"
        ground += "%3Crect width='100%25' height='100%25' fill='%2333363d'/%3E%3C/svg%3E"
        return f"data:image/svg+xml,{ground}", (*size, scale)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    written, data = cv2.imencode(
        ".webp", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, 62]
    )
    assert written
    return f"data:image/webp;base64,{base64.b64encode(data.tobytes()).decode('ascii')}", (*size, scale)


def _polygons(mask: Any, scale: float) -> list[list[int]]:
    """Outlines of a run-length mask, ``[x, y, x, y, ...]`` in whole pixels of the thumbnail."""
    import cv2
    from pycocotools import mask as mask_utils

    contours, _ = cv2.findContours(mask_utils.decode(mask), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    outlines = []
    for contour in contours:
        points = cv2.approxPolyDP(np.round(contour * scale).astype(np.int32), 0.8, True)
        if len(points) >= 3:
            outlines.append(points.ravel().tolist())
    return outlines
