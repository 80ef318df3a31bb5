"""Seconds and memory of `ppdet data` on annotations of COCO's size, beside pycocotools opening the same file.

    python benchmarks/data_workshop.py [--images 118287] [--objects 862678] [--rounds 3] [--page FILE.md]

The file is made up, as in `coco_startup.py`; its images are links to a few pictures. Every command is a
process of its own, imports included, and they take turns. `ppdet data` keeps no cache here.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import cv2  # noqa: E402  # after the path
import numpy as np  # noqa: E402

from benchmarks.coco_startup import write_annotations  # noqa: E402
from ppdet.data.json_stream import stream_json  # noqa: E402

#: Names that one file may have.
_LINKS = 30_000


class Cost(NamedTuple):
    """What a process took: wall-clock seconds, and the peak of its memory in 10^9 bytes."""

    seconds: float
    gigabytes: float


def commands(data: Path, out: Path) -> dict[str, list[str]]:
    """What is measured."""
    file, images = str(data / "annotations.json"), str(data / "images")
    ppdet = [sys.executable, "-m", "ppdet", "data"]
    opened = f"from pycocotools.coco import COCO; COCO({file!r})"
    return {
        "pycocotools, opening": [sys.executable, "-c", opened],
        "check": [*ppdet, "check", "--anno_path", file, "--image_dir", images],
        "stats": [*ppdet, "stats", "--anno_path", file, "--image_dir", images],
        "split": [*ppdet, "split", file, "--image_dir", images, "--output_dir", str(out / "split")],
        "merge": [*ppdet, "merge", file, "--image_dir", images, "--output", str(out / "merged.json")],
        "convert to YOLO": [
            *(*ppdet, "convert", file, str(out / "yolo"), "--image_dir", images),
            *("--to", "yolo", "--images", "none"),
        ],
    }


def cost_of(command: list[str], home: Path) -> Cost:
    """Run a command to its end.

    Raises:
        RuntimeError: If it fails.
    """
    environment = {**os.environ, "PPDET_HOME": str(home), "PYTHONPATH": str(ROOT)}
    with (home / "said.txt").open("wb") as said:
        before = time.perf_counter()
        process = subprocess.Popen(command, stdout=said, stderr=said, env=environment, cwd=home)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - before
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"{' '.join(command)}\n{(home / 'said.txt').read_text('utf-8')[-2000:]}")
    return Cost(seconds, usage.ru_maxrss * 1024 / 1e9)


def write_pictures(data: Path) -> None:
    """The images that the annotations name."""
    folder = data / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    source = folder
    for key, rows in stream_json(data / "annotations.json"):
        for number, row in enumerate(rows if key == "images" else ()):
            path = folder / row["file_name"]
            if number % _LINKS:
                os.link(source, path)
                continue
            picture = cv2.resize(rng.integers(0, 256, (48, 64, 3)).astype(np.uint8), (640, 480))
            cv2.imencode(".jpg", picture)[1].tofile(path)
            source = path
        if key == "images":
            return


def table(costs: dict[str, list[Cost]]) -> str:
    """The result as Markdown."""
    base = statistics.median(cost.seconds for cost in costs["pycocotools, opening"])
    lines = ["| Command | s, median (least - most) | times pycocotools | peak, GB |", "|---|--:|--:|--:|"]
    for name, all_of in costs.items():
        seconds = [cost.seconds for cost in all_of]
        middle = statistics.median(seconds)
        peak = max(cost.gigabytes for cost in all_of)
        spread = f"{middle:.1f} ({min(seconds):.1f} - {max(seconds):.1f})"
        lines.append(f"| {name} | {spread} | {middle / base:.2f} | {peak:.2f} |")
    return "\n".join(lines)


def page(args: argparse.Namespace, shown: str) -> str:
    """The result page, as README.md wants it."""
    # Not before: the peak of a process is at least that of the one that starts it.
    from ppdet.engine.evaluator import hardware, versions

    machine = hardware()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    known = ", ".join(f"{what} {version}" for what, version in versions().items())
    said = f"--images {args.images} --objects {args.objects} --rounds {args.rounds} --page FILE"
    lines = [
        "# `ppdet data` on annotations of COCO's size",
        "",
        f"`python benchmarks/data_workshop.py {said}` at commit {commit.stdout.strip()}:",
        f"{args.images:,} images and {args.objects:,} objects, {args.size / 1e6:.0f} MB of JSON. Every",
        f"command is a process of its own; they take turns. {machine['cpu']}, {machine['cores']} cores;",
        f"{known}.",
        f"Load average before: {args.load:.1f}.",
        "",
        shown,
        "",
        "`check` reads the header of every image. `split` and `merge` write annotations of the same size",
        "anew, `convert` a text file for each image.",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=118_287)
    parser.add_argument("--objects", type=int, default=862_678)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--page", type=Path, metavar="FILE.md", help="result page")
    args = parser.parse_args()
    args.load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder) / "data", Path(folder) / "out"
        data.mkdir()
        write_annotations(data / "annotations.json", args.images, args.objects)
        args.size = (data / "annotations.json").stat().st_size
        write_pictures(data)
        costs: dict[str, list[Cost]] = {name: [] for name in commands(data, out)}
        for _ in range(args.rounds):
            for name, command in commands(data, out).items():
                shutil.rmtree(out, ignore_errors=True)
                out.mkdir()
                costs[name].append(cost_of(command, out))
                print(name, costs[name][-1], flush=True)
    shown = table(costs)
    print(shown)
    if args.page is not None:
        args.page.write_text(page(args, shown), "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
