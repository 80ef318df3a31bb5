"""Anybody's detections: a file in COCO's results format, and its ground truth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from ppdet.metrics.analysis.analysis import Analysis
from ppdet.metrics.analysis.instances import objects_of_coco, predictions_of_coco
from ppdet.report.page import ReportError


def analysis_of_files(detections: Path, annotations: Path, *, masks: Optional[bool] = None) -> Analysis:
    """Read detections and ground truth.

    Args:
        detections: A list of results, or a dataset whose annotations have a score.
        annotations: Annotation file.
        masks: Compare masks instead of boxes; None does where detections have masks and no boxes.

    Raises:
        ReportError: If a file is missing or of another kind, or none of the detections fits.
        DataError: If entries lack what is needed.
    """
    truth = read_json(annotations)
    if not isinstance(truth, Mapping) or not {"images", "annotations", "categories"} <= set(truth):
        raise ReportError(
            f"{annotations}: expected a COCO annotation file with images, annotations and categories"
        )
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
    objects = objects_of_coco(truth, with_masks=masks)
    predictions = predictions_of_coco(rows, objects, with_masks=masks)
    if len(rows) and not len(predictions):
        raise ReportError(
            f"none of the {len(rows):,} detections of {detections} has an image_id and a category_id of "
            f"{annotations} (it has {rows[0].get('image_id')!r} and {rows[0].get('category_id')!r}); do the "
            "two files belong together?"
        )
    return Analysis(objects, predictions)


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
