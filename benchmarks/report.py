"""Time, memory and size of the page of an evaluation: COCO val2017's numbers by default.

  python benchmarks/report.py [--images 5000] [--detections 100]

Makes annotations, detections and pictures from random numbers, then runs `ppdet report` in its own process.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

CLASSES = 80
#: Pictures that are written; all images share them.
PICTURES = 20


def write_dataset(folder: Path, images: int, per_image: int) -> tuple[int, int]:
    """Annotations, detections and pictures; classes as unequal as in COCO.

    Returns:
        How many objects and how many detections there are.
    """
    rng = np.random.default_rng(0)
    frequency = 1 / np.arange(1, CLASSES + 1)
    frequency /= frequency.sum()
    (folder / "val").mkdir()
    for number in range(PICTURES):
        noise = cv2.resize(rng.integers(0, 255, (24, 32, 3), np.uint8), (640, 480))
        cv2.imwrite(str(folder / "val" / f"{number}.jpg"), noise)
    objects, rows = [], []
    for image_id in range(1, images + 1):
        boxes = _boxes(rng, rng.poisson(7.3))
        labels = rng.choice(CLASSES, len(boxes), p=frequency) + 1
        for box, label in zip(boxes.round(2).tolist(), labels.tolist()):
            row = {"id": len(objects) + 1, "image_id": image_id, "category_id": label, "bbox": box}
            objects.append({**row, "area": 0.6 * box[2] * box[3], "iscrowd": int(rng.random() < 0.01)})
        near = np.repeat(np.arange(len(boxes)), rng.integers(0, 9, len(boxes)))[:per_image]
        moved = boxes[near] + rng.normal(0, 0.1, (len(near), 4)) * np.tile(boxes[near, 2:], 2)
        found = np.concatenate([moved, _boxes(rng, per_image - len(near))]).clip(min=1).round(2)
        kept = rng.random(len(near)) < 0.7
        shown = np.where(kept, labels[near], rng.integers(1, CLASSES + 1, len(near)))
        classes = np.concatenate([shown, rng.choice(CLASSES, per_image - len(near), p=frequency) + 1])
        scores = rng.random(per_image) * np.where(np.arange(per_image) < len(near), 1.0, 0.5)
        for box, label, score in zip(found.tolist(), classes.tolist(), scores.round(5).tolist()):
            rows.append({"image_id": image_id, "category_id": label, "bbox": box, "score": score})
    truth = {
        "images": [
            {"id": i, "file_name": f"{i % PICTURES}.jpg", "height": 480, "width": 640}
            for i in range(1, images + 1)
        ],
        "annotations": objects,
        "categories": [{"id": k, "name": f"class {k}"} for k in range(1, CLASSES + 1)],
    }
    (folder / "annotations.json").write_text(json.dumps(truth), "utf-8")
    (folder / "detections.json").write_text(json.dumps(rows), "utf-8")
    return len(objects), len(rows)


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Boxes ``[count, 4]`` xywh inside 640 by 480 pixels, of sizes as in COCO."""
    size = np.exp(rng.normal(4, 1, (count, 2))).clip(4, 460)
    return np.concatenate([rng.uniform(0, np.maximum([640, 480] - size, 1)), size], axis=1)


def main() -> None:
    """Make the data, run the command, print what it took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100, help="per image")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        objects, detections = write_dataset(folder, args.images, args.detections)
        words = ["report", str(folder / "detections.json"), "--anno_path", str(folder / "annotations.json")]
        words += ["--image_dir", str(folder / "val"), "--output", str(folder / "page.html")]
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "ppdet", *words], check=True)
        seconds = time.perf_counter() - start
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        size = (folder / "page.html").stat().st_size
    print(
        f"{args.images:,} images, {objects:,} objects, {detections:,} detections: {seconds:.1f} s "
        f"({used.ru_utime + used.ru_stime:.1f} s of processor time), {used.ru_maxrss / 1e6:.2f} GB at most, "
        f"page of {size / 1e6:.1f} MB"
    )


if __name__ == "__main__":
    main()
