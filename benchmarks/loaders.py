"""Images per second and core that the readers of the baselines load, against those of another commit.

    python benchmarks/loaders.py --data COCO_FOLDER --against COMMIT [--rounds 5] [--page FILE.md]

COCO_FOLDER has ``annotations/instances_val2017.json`` and ``val2017``. Both commits run in processes of their
own that alternate. Time is the processor's (this process, its children and the system for them), so that
other programs disturb little; everything from the file to the float tensor where the model runs counts.
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
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

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


def run_once(name: str, data: Path, tree: Path) -> dict[str, float]:
    """`measure` in a process of its own, with the package of a tree."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, "--data", str(data), "--once", name],
        env={**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "GLOG_minloglevel": "2"},
        check=True,
        capture_output=True,
        text=True,
    )
    numbers: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return numbers


def compare(data: Path, trees: dict[str, Path], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Images per second by reader and tree, the trees in turn."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(rounds):
        for name in READERS:
            for label, tree in trees.items():
                found[name][label].append(run_once(name, data, tree)["images_per_second"])
    return found


def page(found: dict[str, dict[str, list[float]]], before: str, now: str, rounds: int) -> str:
    """The result page."""
    from ppdet.engine.evaluator import hardware, versions

    cpu = hardware()
    rows = []
    for name, rates in found.items():
        old, new = rates["before"], rates["now"]
        ratios = [n / o for o, n in zip(old, new)]
        cells = [f"{statistics.median(r):.0f} ({min(r):.0f} - {max(r):.0f})" for r in (old, new)]
        rows.append(f"| {name} | {cells[0]} | {cells[1]} | {statistics.median(ratios):.2f} |")
    return "\n".join(
        [
            "# Loaders: images per second of one core",
            "",
            f"`python benchmarks/loaders.py --data FOLDER --against {before} --rounds {rounds}`",
            f"at {now}; {IMAGES} photographs of COCO a run, {WARM_UP} before them; {rounds} pairs of",
            "processes that alternate. Images per second of the processor's time, loading processes and the",
            "last steps in the process of the model included (with two processes, their start too);",
            "median (least - most).",
            f"{cpu['cpu']}, {cpu['cores']} cores, other programs running (load average "
            f"{os.getloadavg()[0]:.1f}); " + ", ".join(f"{k} {v}" for k, v in versions().items()) + ".",
            "",
            f"| Reader | {before} | {now} | Ratio, median of the pairs |",
            "|---|---|---|---|",
            *rows,
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
    parser.add_argument("--rounds", type=int, default=5, help="alternating pairs (%(default)s)")
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
            found = compare(args.data.resolve(), {"before": other, "now": ROOT}, args.rounds)
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
