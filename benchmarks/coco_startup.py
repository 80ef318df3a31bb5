"""Seconds and memory of opening an annotation file of COCO's size, beside pycocotools opening the same file.

    python benchmarks/coco_startup.py [--images 118287] [--objects 862678] [--rounds 3]

The file is made up: as many images and objects as `instances_train2017.json`, polygons of about as many
points. Sides alternate, each in a process of its own; "cached" opens the file once more. Times are wall-clock
seconds of the call, without the imports; memory is the peak of the process, imports included.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, TextIO

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

SIDES = ("pycocotools", "ppdet", "ppdet, cached")


def write_annotations(path: Path, images: int, objects: int) -> None:
    """Write an annotation file with the keys, the order and about the size of COCO's."""
    rng = np.random.default_rng(0)
    ids = np.sort(rng.choice(max(600_000, images), images, replace=False))
    owners, classes = rng.choice(ids, objects), rng.integers(1, 81, objects)
    vertices = np.clip(rng.lognormal(2.9, 0.8, objects), 4, 200).astype(int)
    with path.open("w", encoding="ascii") as file:
        file.write('{"info": {"year": 2017}, "licenses": [], "images": [')
        _write_rows(file, (_image(int(number)) for number in ids))
        file.write('], "annotations": [')
        _write_rows(
            file,
            (
                _annotation(rng, row, int(owners[row]), int(classes[row]), int(vertices[row]))
                for row in range(objects)
            ),
        )
        categories = [{"supercategory": "thing", "id": i, "name": f"class{i}"} for i in range(1, 81)]
        file.write(f'], "categories": {json.dumps(categories)}}}')


def _write_rows(file: TextIO, rows: Any) -> None:
    for number, row in enumerate(rows):
        file.write((", " if number else "") + json.dumps(row))


def _image(number: int) -> dict[str, Any]:
    name = f"{number:012d}.jpg"
    url = f"http://images.cocodataset.org/train2017/{name}"
    return {"license": 3, "file_name": name, "coco_url": url, "height": 480, "width": 640, "id": number}


def _annotation(rng: np.random.Generator, row: int, image: int, label: int, vertices: int) -> dict[str, Any]:
    x, y, width, height = np.round(rng.uniform([0, 0, 5, 5], [300, 200, 300, 250]), 2).tolist()
    turns = np.sort(rng.uniform(0, 2 * np.pi, vertices))
    circle = np.stack([np.cos(turns), np.sin(turns)], axis=1) / 2 + 0.5
    points = np.round(circle * [width, height] + [x, y], 2).reshape(-1).tolist()
    return {
        "segmentation": [points],
        "area": round(width * height * 0.7, 4),
        "iscrowd": 0,
        "image_id": image,
        "bbox": [x, y, width, height],
        "category_id": label,
        "id": row + 1,
    }


def measure(side: str, path: Path) -> None:
    """Open the file in this process, and print seconds and bytes."""
    if side == "pycocotools":
        from pycocotools.coco import COCO

        start = time.perf_counter()
        COCO(str(path))
    else:
        from ppdet.data.datasets import base
        from ppdet.data.datasets.coco import COCODataSet

        # The pictures are not there; that they are is asked of the disk, which is no part of this figure.
        base.AnnotatedDataset.resolve_image_files = lambda self, source: None
        base.AnnotatedDataset.require_distinct_files = lambda self, source: None
        start = time.perf_counter()
        COCODataSet(dataset_dir=str(path.parent), anno_path=path.name, data_fields=["gt_bbox", "gt_poly"])
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps([seconds, peak]))


def main() -> None:
    """Alternate the sides and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=118_287)
    parser.add_argument("--objects", type=int, default=862_678)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        measure(args.side, args.file)
        return
    figures: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "instances.json"
        write_annotations(path, args.images, args.objects)
        for number in range(args.rounds):
            home = Path(folder) / f"home{number}"  # so that the first opening of a round finds no cache
            for side in SIDES:
                command = [sys.executable, __file__, "--side", side, "--file", str(path)]
                done = subprocess.run(
                    command,
                    check=True,
                    capture_output=True,
                    text=True,
                    env={**os.environ, "PPDET_HOME": str(home)},
                )
                figures[side].append(tuple(json.loads(done.stdout.splitlines()[-1])))
        megabytes = path.stat().st_size / 1e6
    print(f"{args.images:,} images, {args.objects:,} objects, {megabytes:.0f} MB; median of {args.rounds}\n")
    print(
        "| opened by | seconds | spread | peak memory, GB | seconds against pycocotools | memory against it |"
    )
    print("|---|--:|--:|--:|--:|--:|")
    base_seconds, base_peak = (statistics.median(values) for values in zip(*figures["pycocotools"]))
    for side, rows in figures.items():
        seconds, peaks = zip(*rows)
        middle, peak = statistics.median(seconds), statistics.median(peaks)
        print(
            f"| {side} | {middle:.1f} | {min(seconds):.1f}-{max(seconds):.1f} | {peak / 1e9:.2f} "
            f"| {middle / base_seconds:.2f} | {peak / base_peak:.2f} |"
        )


if __name__ == "__main__":
    main()
