"""Anybody's detections: a file in COCO's results format, and its ground truth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from ppdet.data.formats.coco import read_coco
from ppdet.data.formats.masks import MaskError, read_mask
from ppdet.data.formats.values import Id, fits_int64, identifier
from ppdet.data.ground_truth import truth_of_coco
from ppdet.metrics.analysis.analysis import Analysis
from ppdet.metrics.analysis.instances import objects_of_truth, predictions_of_coco
from ppdet.report.page import ReportError


def analysis_of_files(detections: Path, annotations: Path, *, masks: Optional[bool] = None) -> Analysis:
    """Read detections and ground truth.

    Args:
        detections: A list of results, or a dataset whose annotations have a score.
        annotations: Annotation file.
        masks: Compare masks instead of boxes; None does where detections have masks and no boxes.

    Raises:
        ReportError: If the detections are missing or of another kind, or none of them fits.
        DataError: If the annotations are missing or not in order, or entries lack what is needed.
    """
    rows = read_json(detections)
    if isinstance(rows, Mapping):
        rows = rows.get("annotations")
    if not isinstance(rows, Sequence) or any(not isinstance(row, Mapping) for row in rows[:1]):
        raise ReportError(
            f"{detections}: expected COCO's results format, a list of "
            '{"image_id", "category_id", "bbox": [x, y, width, height], "score"}'
        )
    if masks is None:
        masks = bool(rows) and "segmentation" in rows[0] and "bbox" not in rows[0]
    if masks:
        _check_masks(rows, detections)
    parsed = read_coco(annotations, with_masks=masks)
    numbers = {image.id: number for number, image in enumerate(parsed.images, start=1)}
    if all(map(fits_int64, numbers)):
        numbers = {id_: int(id_) for id_ in numbers}
    truth = truth_of_coco(parsed, parsed.categories, source=str(annotations), image_ids=numbers)
    objects = objects_of_truth(truth, with_masks=masks)
    known = [{**row, "image_id": numbers.get(_id(row.get("image_id")))} for row in rows]
    predictions = predictions_of_coco(known, objects, with_masks=masks)
    if len(rows) and not len(predictions):
        raise ReportError(
            f"none of the {len(rows):,} detections of {detections} has an image_id and a category_id of "
            f"{annotations} (it has {rows[0].get('image_id')!r} and {rows[0].get('category_id')!r}); do the "
            "two files belong together?"
        )
    return Analysis(objects, predictions)


def _id(value: Any) -> Id:
    """The id of an image as one key; no image has the empty one."""
    own = identifier(value)
    return "" if own is None else own


def _check_masks(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Refuse masks that the C code of COCO's API would read beyond."""
    for index, row in enumerate(rows):
        try:
            read_mask(row.get("segmentation"), (0, 0))
        except MaskError as error:
            raise ReportError(f"{path}: detection {index} has {error}") from None


def read_json(path: Path) -> Any:
    """Content of a JSON file.

    Raises:
        ReportError: If it cannot be read or is not JSON.
    """
    try:
        with path.open("rb") as file:
            return json.load(file)
    except OSError as error:
        raise ReportError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ReportError(f"{path}: is not JSON: {error}") from None
