"""Random ground truth and detections with every kind of error, in COCO's formats."""

from __future__ import annotations

from typing import Any

import numpy as np

from ppdet.metrics.analysis.analysis import Analysis
from ppdet.metrics.analysis.instances import objects_of_coco, predictions_of_coco

Row = dict[str, Any]


def scene(
    seed: int,
    *,
    images: int = 30,
    classes: int = 4,
    crowd: float = 0.0,
    digits: int = 9,
    spread: float = 0.12,
) -> tuple[Row, list[Row]]:
    """An annotation file and result rows. Fewer digits make equal scores."""
    rng = np.random.default_rng(seed)
    annotations: list[Row] = []
    rows: list[Row] = []
    ids = [2 * k + 3 for k in range(classes)]  # neither contiguous nor from 0
    for image_id in range(1, 3 * images, 3):
        for _ in range(rng.integers(0, 7)):
            width, height = np.exp(rng.normal(4, 0.9, 2))
            x, y = rng.uniform(0, 400, 2)
            category = int(rng.choice(ids))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category,
                    "bbox": [x, y, width, height],
                    "area": width * height * rng.choice([1, 0.7]),
                    "iscrowd": int(rng.random() < crowd),
                }
            )
            for _ in range(rng.integers(0, 4)):
                left, top, wide, high = rng.normal(0, spread, 4) * [width, height, width, height]
                shown = category if rng.random() < 0.8 else int(rng.choice(ids))
                box = [x + left, y + top, max(1.0, width + wide), max(1.0, height + high)]
                rows.append(_detection(rng, image_id, shown, box, digits))
        for _ in range(rng.integers(0, 4)):
            box = [*rng.uniform(0, 400, 2), *np.exp(rng.normal(4, 0.9, 2))]
            rows.append(_detection(rng, image_id, int(rng.choice(ids)), box, digits))
    truth = {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "height": 480, "width": 640} for i in range(1, 3 * images, 3)
        ],
        "annotations": annotations,
        "categories": [{"id": k, "name": f"class {k}"} for k in ids],
    }
    return truth, rows


def _detection(rng: np.random.Generator, image_id: int, category: int, box: list[float], digits: int) -> Row:
    score = round(float(rng.random()), digits)
    return {
        "image_id": image_id,
        "category_id": category,
        "bbox": [float(v) for v in box],
        "score": score,
    }


def analysis_of(truth: Row, rows: list[Row]) -> Analysis:
    """The analysis of a scene."""
    objects = objects_of_coco(truth)
    return Analysis(objects, predictions_of_coco(rows, objects))
