"""Seconds and memory of converting a dataset of COCO's size, beside pycocotools opening the same annotations.

    python benchmarks/convert.py [--images 118287] [--objects 862678] [--rounds 1]

The annotations are those of `coco_startup.py`; the images are hard links to one picture, since only their
headers are read. Each conversion is a process of its own. Times are wall-clock seconds of the call, without
the imports; memory is the peak of the process, imports included.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from coco_startup import write_annotations

from ppdet.data.json_stream import stream_json

#: Conversions in their order: name, source and target below the folder, format, what is done with images.
STEPS = {
    "COCO to YOLO": ("instances_train.json", "yolo", "yolo", "link"),
    "COCO to COCO": ("instances_train.json", "coco", "coco", "none"),
    "COCO to VOC": ("instances_train.json", "voc", "voc", "none"),
    "YOLO to COCO": ("yolo", "yolo-coco", "coco", "none"),
}
OPENED = "opened by pycocotools"
#: Hard links that one file may have.
_LINKS = 30_000


def write_images(folder: Path, annotations: Path) -> None:
    """An image for each of the annotation file."""
    from PIL import Image

    folder.mkdir()
    # Row by row: what this process peaks at, the ones that it starts report as their own peak.
    rows = next(value for key, value in stream_json(annotations) if key == "images")
    for number, name in enumerate(row["file_name"] for row in rows):
        if number % _LINKS == 0:
            first = folder / name
            Image.new("RGB", (640, 480)).save(first)
        else:
            os.link(first, folder / name)


def measure(side: str, folder: Path) -> None:
    """Convert in this process, and print seconds and bytes."""
    if side == OPENED:
        from pycocotools.coco import COCO

        start = time.perf_counter()
        COCO(str(folder / "instances_train.json"))
    else:
        from ppdet.data.formats.registry import read_parts, write_any

        source, target, kind, images = STEPS[side]
        start = time.perf_counter()
        write_any(read_parts(folder / source), folder / target, kind, images=images)
    seconds = time.perf_counter() - start
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))


def main() -> None:
    """Run every step and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=118_287)
    parser.add_argument("--objects", type=int, default=862_678)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--side", choices=(OPENED, *STEPS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        measure(args.side, args.folder)
        return
    figures: dict[str, list[tuple[float, float]]] = {side: [] for side in (OPENED, *STEPS)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_annotations(folder / "instances_train.json", args.images, args.objects)
        write_images(folder / "images", folder / "instances_train.json")
        for _ in range(args.rounds):
            for side, rows in figures.items():
                command = [sys.executable, __file__, "--side", side, "--folder", str(folder)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                rows.append(tuple(json.loads(done.stdout.splitlines()[-1])))
                print(side, *rows[-1], file=sys.stderr)
            for _, target, _, _ in STEPS.values():
                shutil.rmtree(folder / target)
        megabytes = (folder / "instances_train.json").stat().st_size / 1e6
    print(f"{args.images:,} images, {args.objects:,} objects, {megabytes:.0f} MB; median of {args.rounds}\n")
    print("| | seconds | peak memory, GB | memory against pycocotools |")
    print("|---|--:|--:|--:|")
    base = statistics.median(peak for _, peak in figures[OPENED])
    for side, rows in figures.items():
        seconds, peak = (statistics.median(values) for values in zip(*rows))
        print(f"| {side} | {seconds:.1f} | {peak / 1e9:.2f} | {peak / base:.2f} |", flush=True)


if __name__ == "__main__":
    main()
