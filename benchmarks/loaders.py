"""Images per second and core that the readers of the baselines load, against those of another commit.

    python benchmarks/loaders.py --data COCO_FOLDER --against COMMIT [--paddledet PYTHON] [--page FILE.md]

COCO_FOLDER has ``annotations/instances_val2017.json`` and ``val2017``. Both commits run in processes of their
own that alternate, and so does PaddleDetection with the same YAML files (`beside.py` says how to install it).
Time is the processor's (this process, its children and the system for them), so that other programs disturb
little; everything from the file to the float tensor where the model runs counts.
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
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve()
ROOT = HERE.parents[1]
THEIRS = "PaddleDetection"

#: Name -> config, reader, loading processes.
READERS = {
    "R-CNN FPN, training": ("faster_rcnn_r50_fpn_1x_coco", "TrainReader", 0),
    "R-CNN FPN, evaluation": ("faster_rcnn_r50_fpn_1x_coco", "EvalReader", 0),
    "YOLOv3, training": ("yolov3_darknet53_270e_coco", "TrainReader", 0),
    "YOLOv3, evaluation": ("yolov3_darknet53_270e_coco", "EvalReader", 0),
    "R-CNN FPN, training, 2 processes": ("faster_rcnn_r50_fpn_1x_coco", "TrainReader", 2),
    "YOLOv3, training, 2 processes": ("yolov3_darknet53_270e_coco", "TrainReader", 2),
}
WARM_UP, IMAGES = 16, 96


def processor_seconds() -> float:
    """Time of the processor that this process and its ended children have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measure(name: str, data: Path) -> dict[str, float]:
    """Load some images with the `ppdet` that Python finds."""
    import cv2

    cv2.setNumThreads(1)
    from ppdet import load_config
    from ppdet.experiment.build import build_dataset, build_loader

    config, key, processes = READERS[name]
    which = key.replace("Reader", "Dataset")
    places = {"dataset_dir": data, "image_dir": "val2017", "anno_path": "annotations/instances_val2017.json"}
    overrides = [f"{which}.{field}={value}" for field, value in places.items()]
    experiment = load_config(ROOT / "configs" / f"{config}.yml", [*overrides, "seed=0"])
    dataset = build_dataset(experiment, which)
    loader = build_loader(experiment, key, dataset, num_workers=processes)
    loaded = epoch = warm = 0
    before = processor_seconds()
    while loaded < warm + IMAGES:
        loader.set_epoch(epoch)
        for batch in loader:
            loaded += len(batch)
            if not warm and loaded >= WARM_UP and not processes:
                before, warm = processor_seconds(), loaded
            if loaded >= warm + IMAGES:
                break
        epoch += 1
    loader.close()
    return {"images_per_second": (loaded - warm) / (processor_seconds() - before)}


def run_once(command: Sequence[str], tree: Path) -> float:
    """Images per second that a command prints last, with the packages of the tree before others."""
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "GLOG_minloglevel": "2"},
            check=True,
            capture_output=True,
            text=True,
            cwd=folder,
        )
    return float(json.loads(run.stdout.splitlines()[-1])["images_per_second"])


def compare(args: argparse.Namespace, trees: dict[str, Path]) -> dict[str, dict[str, list[float]]]:
    """Images per second by reader and side, the sides in turn."""
    data = str(args.data.resolve())
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(args.rounds):
        for name, (config, key, processes) in READERS.items():
            for label, tree in trees.items():
                once = [sys.executable, "-W", "ignore", str(HERE), "--data", data, "--once", name]
                found[name][label].append(run_once(once, tree))
            if args.paddledet and not processes:
                words = [str(ROOT / "configs" / f"{config}.yml"), key, data, str(WARM_UP), str(IMAGES)]
                theirs = [args.paddledet, "-W", "ignore", str(HERE.parent / "sides/paddledet_loader.py")]
                found[name][THEIRS].append(run_once([*theirs, *words], Path(os.devnull)))
    return found


def row(name: str, rates: dict[str, list[float]]) -> str:
    """Of the table: each side, and how many times as many the code of now reads."""
    cells = []
    for label in ("now", "before", THEIRS):
        side = rates.get(label)
        cells.append(f"{statistics.median(side):.0f} ({min(side):.0f} - {max(side):.0f})" if side else "-")
        if label != "now":
            ratios = [n / o for o, n in zip(side or [], rates["now"])]
            cells.append(f"{statistics.median(ratios):.2f}" if ratios else "-")
    return f"| {name} | {' | '.join(cells)} |"


def page(found: dict[str, dict[str, list[float]]], before: str, now: str, rounds: int) -> str:
    """The result page."""
    from ppdet.engine.evaluator import hardware, versions

    cpu = hardware()
    return "\n".join(
        [
            "# Loaders: images per second of one core",
            "",
            f"`python benchmarks/loaders.py --data FOLDER --against {before} --rounds {rounds}`",
            f"at {now}; {IMAGES} photographs of COCO a run, {WARM_UP} before them; {rounds} rounds of",
            "processes that take turns. Images per second of the processor's time, loading processes and the",
            "last steps in the process of the model included (with two processes, their start too);",
            "median (least - most), and the median of the ratios of a round.",
            f"{cpu['cpu']}, {cpu['cores']} cores (load average {os.getloadavg()[0]:.1f}); "
            + ", ".join(f"{k} {v}" for k, v in versions().items())
            + ".",
            "",
            f"| Reader | {now} | {before} | times as many | {THEIRS} | times as many |",
            "|---|--:|--:|--:|--:|--:|",
            *(row(name, rates) for name, rates in found.items()),
            "",
        ]
    )


def main() -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="COCO_FOLDER")
    parser.add_argument("--against", metavar="COMMIT", help="the other side")
    parser.add_argument("--paddledet", metavar="PYTHON", help="interpreter that has paddledet 2.6.0")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each side (%(default)s)")
    parser.add_argument("--page", type=Path, metavar="FILE.md", help="result page; FILE.json beside it")
    parser.add_argument("--once", choices=list(READERS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.once:
        print(json.dumps(measure(args.once, args.data.resolve())))
        return 0
    git = ["git", "-C", str(ROOT)]
    now = subprocess.run([*git, "rev-parse", "--short", "HEAD"], check=True, capture_output=True, text=True)
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "tree"
        subprocess.run([*git, "worktree", "add", "--detach", "-q", str(other), args.against], check=True)
        try:
            found = compare(args, {"before": other, "now": ROOT})
        finally:
            subprocess.run([*git, "worktree", "remove", "--force", str(other)], check=True)
    sys.path.insert(0, str(ROOT))
    text = page(found, args.against, now.stdout.strip(), args.rounds)
    print(text)
    if args.page:
        args.page.write_text(text, "utf-8")
        args.page.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
