"""Small datasets for tests of the data pipeline."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import cv2
import numpy as np

from ppdet.config.spec import Spec
from ppdet.data.readers import EvalReader, TrainReader
from ppdet.data.transforms.decode import Decode
from ppdet.data.transforms.flip import RandomFlip
from ppdet.data.transforms.normalize import NormalizeImage, Permute
from ppdet.data.transforms.pad import PadBatch
from ppdet.data.transforms.resize import RandomResize
from ppdet.structures import Sample, Target

CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}, {"id": 12, "name": "owl"}]
TRAIN_STEPS = [
    Spec.of(Decode),
    Spec.of(RandomResize, target_size=[[24, 48], [32, 48]]),
    Spec.of(RandomFlip),
    Spec.of(NormalizeImage),
    Spec.of(Permute),
]


def train_reader(**arguments: Any) -> TrainReader:
    """A reader that draws sizes and flips."""
    pad: list[Spec] = [Spec.of(PadBatch, pad_to_stride=8)]
    return TrainReader(**{"sample_transforms": TRAIN_STEPS, "batch_transforms": pad, **arguments})


def eval_reader(**arguments: Any) -> EvalReader:
    """A reader without draws."""
    steps = [Spec.of(Decode), Spec.of(NormalizeImage), Spec.of(Permute)]
    pad: list[Spec] = [Spec.of(PadBatch)]
    return EvalReader(**{"sample_transforms": steps, "batch_transforms": pad, **arguments})


def coco_content(images: int = 6) -> dict[str, Any]:
    """A good annotation file: image k has k % 3 objects, so every third has none."""
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": [dict(c) for c in CATEGORIES]}
    for k in range(images):
        content["images"].append({"id": 100 + k, "file_name": f"{k}.jpg", "height": 30 + k, "width": 40})
        for j in range(k % 3):
            x, y, w, h = 2 + j * 10, 3 + j, 8, 6
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": 100 + k,
                    "category_id": CATEGORIES[(k + j) % 3]["id"],
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                    "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                }
            )
    return content


def write_coco(folder: Path, content: dict[str, Any], *, images: bool = True) -> dict[str, str]:
    """Write annotations and images; returns the arguments of the dataset."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "anno.json").write_text(json.dumps(content), "utf-8")
    if images:
        for k, image in enumerate(content["images"]):
            write_image(
                folder / "images" / image["file_name"], image.get("height", 9), image.get("width", 9), k
            )
    return {"dataset_dir": str(folder), "image_dir": "images", "anno_path": "anno.json"}


def write_image(path: Path, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Write noise that JPEG keeps roughly; returns what was written, RGB."""
    small = np.random.default_rng(seed).integers(0, 255, (4, 5, 3), np.uint8)
    image = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    _, data = cv2.imencode(path.suffix, image[:, :, ::-1])
    path.write_bytes(data.tobytes())
    return image


def target_of(
    boxes: Sequence[Sequence[float]],
    masks: Optional[tuple[Any, ...]] = None,
    labels: Optional[Sequence[int]] = None,
) -> Target:
    """A target without crowds."""
    count = len(boxes)
    return Target(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array(range(count) if labels is None else labels, np.int64),
        is_crowd=np.zeros(count, bool),
        masks=masks,
    )


def sample_of(image: np.ndarray, target: Optional[Target] = None) -> Sample:
    """A decoded sample."""
    height, width = image.shape[:2]
    return Sample(
        image_id=1,
        path="made.jpg",
        image=image,
        original_size=(height, width),
        image_size=(float(height), float(width)),
        target=target,
    )
