"""A handful of images with plain rectangles in COCO's layout, for tests that need any dataset at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

#: Annotation ids of the 80 classes of COCO: 1..90 without these.
COCO_GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
COCO_IDS = tuple(i for i in range(1, 91) if i not in COCO_GAPS)


def coco_categories() -> list[dict[str, Any]]:
    """As many categories as COCO has, with its ids."""
    return [{"id": i, "name": f"class{i}"} for i in COCO_IDS]


def write_split(
    folder: Path,
    name: str,
    *,
    images: int,
    categories: Sequence[dict[str, Any]],
    size: tuple[int, int],
    seed: int,
) -> Path:
    """Write one split: ``folder/<name>/*.jpg`` and ``folder/annotations/instances_<name>.json``.

    Returns:
        The annotation file.
    """
    rng = np.random.default_rng(seed)
    height, width = size
    (folder / name).mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": list(categories)}
    for image_id in range(1, images + 1):
        picture = np.full((height, width, 3), 60, np.uint8)
        file_name = f"{image_id:012d}.jpg"
        for _ in range(2):
            w, h = (int(v) for v in rng.integers(24, min(size) // 2, 2))
            x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
            kind = int(rng.integers(0, len(categories)))
            cv2.rectangle(
                picture, (x, y), (x + w - 1, y + h - 1), tuple(int(v) for v in rng.integers(90, 255, 3)), -1
            )
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": image_id,
                    "category_id": categories[kind]["id"],
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                    "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                }
            )
        (folder / name / file_name).write_bytes(cv2.imencode(".jpg", picture)[1].tobytes())
        content["images"].append({"id": image_id, "file_name": file_name, "height": height, "width": width})
    path = folder / "annotations" / f"instances_{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), "utf-8")
    return path


def write_coco(
    folder: Path,
    *,
    train: int = 4,
    val: int = 2,
    categories: Sequence[dict[str, Any]] = (),
    size: tuple[int, int] = (96, 128),
) -> Path:
    """Write ``train2017`` and ``val2017`` under `folder`; 80 categories unless given.

    Returns:
        `folder`.
    """
    chosen = list(categories) or coco_categories()
    write_split(folder, "train2017", images=train, categories=chosen, size=size, seed=1)
    write_split(folder, "val2017", images=val, categories=chosen, size=size, seed=2)
    return folder
