"""Memory of a training and its loading processes over many steps.

    python benchmarks/memory_growth.py [--steps 5000] [--workers 8]

Trains a small Faster R-CNN on synthetic photographs and adds up, a hundred times, what all its processes
occupy: as resident set size, in which a page counts once for each process that has it, and as proportional
set size, in which it counts once. The growth is between two windows: steps 10 % to 20 %, and the last 10 %.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ppdet.launch.workers import descendants  # noqa: E402
from tests.cli.small import make_project  # noqa: E402

#: Names in ``smaps_rollup`` -> what they mean.
KINDS = {"Rss": "resident", "Pss": "proportional"}


def occupied(pid: int) -> dict[str, float]:
    """Megabytes of a process and everything below it, by ``Rss`` and ``Pss``."""
    total = dict.fromkeys(KINDS, 0.0)
    for process in [pid, *descendants(pid)]:
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text("ascii").splitlines()
        except OSError:  # it has ended
            continue
        for line in lines:
            kind, _, rest = line.partition(":")
            if kind in total:
                total[kind] += int(rest.split()[0]) / 1024
    return total


def last_step(metrics: Path) -> int:
    """The last step that a training has logged; 0 before the first."""
    if not metrics.is_file():
        return 0
    lines = metrics.read_text("utf-8").splitlines()
    return max((int(json.loads(line).get("step", 0)) for line in lines[-3:]), default=0)


def main() -> int:
    """Train, and print what was occupied."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=8)
    args = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_project(Path(scratch))
        values = [
            f"max_iters={args.steps}",
            "epoch=100000",
            "snapshot_epoch=100000",
            f"log_iter={max(1, args.steps // 100)}",
        ]
        values += [f"worker_num={args.workers}", "TrainDataset.repeat=50"]
        training = subprocess.Popen(
            [sys.executable, "-m", "ppdet", "train", "-c", "small.yml", "-o", *values],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        found: dict[int, dict[str, float]] = {}
        while training.poll() is None:
            step = last_step(folder / "output/small/metrics.jsonl")
            if step and step not in found:
                found[step] = occupied(training.pid)
            time.sleep(0.2)
    early = [size for step, size in found.items() if 0.1 * args.steps <= step < 0.2 * args.steps]
    late = [size for step, size in found.items() if 0.9 * args.steps <= step < args.steps]
    count = f"{args.steps} steps, {args.workers} loading processes, {len(found)} samples"
    print(f"{count}; seconds: {time.perf_counter() - began:.0f}")
    for kind, meaning in KINDS.items():
        before, after = (statistics.median(size[kind] for size in sizes) for sizes in (early, late))
        print(
            f"{meaning}: {before:.0f} MB in steps 10 % to 20 %, {after:.0f} MB in the last 10 %: "
            f"{after / before - 1:+.2%}"
        )
    return training.returncode


if __name__ == "__main__":
    raise SystemExit(main())
