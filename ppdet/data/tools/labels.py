"""Annotations made by a detector, to be corrected by people, and which images to look at first."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import numpy as np

from ppdet.data.formats.dataset import LabelledDataset
from ppdet.data.formats.registry import write_any
from ppdet.data.formats.writing import Written, require_new
from ppdet.experiment.trained import TrainedDetector
from ppdet.inference.images import ImageList, list_images
from ppdet.structures import Detections
from ppdet.utils.errors import DataError
from ppdet.utils.files import expanded, replacing
from ppdet.utils.progress import progress

#: Detections with lower scores say nothing about an image: detectors have some everywhere.
_LEAST = 0.2
#: The list of images, the most uncertain first.
UNCERTAIN = "uncertain.csv"


@dataclass(frozen=True)
class PredictedLabels:
    """What was written.

    Attributes:
        folder: The dataset, and the list `UNCERTAIN` in it.
        images: Images in it.
        objects: Objects of at least the score.
        skipped: Images that could not be read; each was logged.
        uncertain: (file, uncertainty) of each image, the most uncertain first.
        counts: What the format cannot hold, and how many of it.
    """

    folder: Path
    images: int
    objects: int
    skipped: int
    uncertain: tuple[tuple[str, float], ...]
    counts: dict[str, int]


def predict_labels(
    detector: TrainedDetector,
    images: Union[str, os.PathLike[str]],
    target: Union[str, os.PathLike[str]],
    *,
    to: str = "labelme",
    score: float = 0.3,
    copy: bool = False,
) -> PredictedLabels:
    """Detect objects in images without annotations, and write them as annotations to be corrected.

    Images without a detection are part of the dataset too: somebody has to look whether that is right.

    Args:
        detector: From `load_detector`.
        images: A folder with images, below it too.
        target: A new folder for the dataset.
        to: A format, key of `ppdet.data.formats.registry.FORMATS`.
        score: Lowest score that becomes an annotation, 0 to 1.
        copy: Copy the images; by default they are hard links, which need no space.

    Raises:
        UserError: If there are no images, none can be read, or the target is not new.
    """
    detector.require_names()
    root, folder = expanded(images), expanded(target)
    if not root.is_dir():
        raise DataError(f"{root}: not a folder of images")
    if not 0 <= score <= 1:
        raise DataError(f"score is {score:g}; it is a number from 0 to 1")
    require_new(folder)
    listed = list_images(root, leave_out=folder)
    content, ranking = _annotated(detector, listed, root, score)
    written = write_any(
        {"": LabelledDataset(content, root, to)}, folder, to, images="copy" if copy else "link"
    )
    _write_ranking(folder / UNCERTAIN, ranking)
    return PredictedLabels(
        folder=folder,
        images=len(content["images"]),
        objects=len(content["annotations"]),
        skipped=len(listed.samples) - len(content["images"]),
        uncertain=tuple((path, value) for path, value, _ in ranking),
        counts=_lost(written),
    )


def uncertainty(scores: Iterable[float]) -> float:
    """How unsure a detector is of an image: the sum over its detections of 1 - |2 score - 1|.

    A detection counts 1 at a score of 0.5, and 0 at 0 and 1, where it is certain (Settles 2009, "Active
    Learning Literature Survey", section 3.1). The sum over detections is one of the ways that Brust et al.
    2019 compare ("Active Learning for Deep Object Detection", arXiv:1809.09875, section 3.2): it prefers
    images with much to correct.

    Args:
        scores: Of all detections of at least 0.2.
    """
    return float(sum(1 - abs(2 * score - 1) for score in scores))


def _annotated(
    detector: TrainedDetector, listed: ImageList, root: Path, score: float
) -> tuple[dict[str, Any], list[tuple[str, float, int]]]:
    """The content of a COCO file; (file, uncertainty, objects) of each image, the most uncertain first."""
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(detector.class_names)]
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": categories}
    ranking: list[tuple[str, float, int]] = []
    runner = detector.runner(len(listed.samples), skip_corrupt=True)
    found = detector.stream(runner, listed.samples)
    for sample, detections in progress(found, total=len(listed.samples), desc="predict-labels", unit="img"):
        height, width = sample.original_size
        name = Path(sample.path).relative_to(root).as_posix()
        number = len(content["images"]) + 1
        content["images"].append({"id": number, "file_name": name, "width": width, "height": height})
        kept = detections.filter(score=score)
        content["annotations"] += _rows(kept, number, len(content["annotations"]) + 1)
        certain = detections.scores[detections.scores >= _LEAST]
        ranking.append((name, uncertainty(certain.tolist()), len(kept)))
    if not ranking:
        raise DataError(f"{root}: no image could be read")
    return content, sorted(ranking, key=lambda row: (-row[1], row[0]))


def _rows(detections: Detections, image_id: int, first: int) -> list[dict[str, Any]]:
    rows = detections.to_coco(image_id=image_id)
    for number, row in enumerate(rows, start=first):
        row["bbox"] = [round(side, 2) for side in row["bbox"]]
        row["score"] = round(row["score"], 4)
        row.update(id=number, iscrowd=0, area=float(np.prod(row["bbox"][2:])))
    return rows


def _lost(written: Written) -> dict[str, int]:
    """What a format cannot hold, but for classes that were not found: they are no loss here."""
    return {what: count for what, count in written.counts.items() if "classes without objects" not in what}


def _write_ranking(path: Path, ranking: list[tuple[str, float, int]]) -> None:
    with replacing(path) as scratch, scratch.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "uncertainty", "objects"])
        writer.writerows((name, f"{value:.3f}", count) for name, value, count in ranking)
