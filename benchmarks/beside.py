"""Training steps and inferences beside PaddleDetection and torchvision: same images, boxes and batch.

    python3.11 -m venv pd
    pd/bin/pip install paddlepaddle==3.3.1 "numpy<2" "opencv-python<4.12" scipy pycocotools pyyaml tqdm six \
        pandas typeguard terminaltables shapely matplotlib requests scikit-learn imgaug setuptools
    pd/bin/pip install --no-deps paddledet==2.6.0
    python3.11 -m venv tv
    tv/bin/pip install torchvision numpy
    python benchmarks/beside.py --paddledet pd/bin/python --torchvision tv/bin/python [--page FILE.md]

Each side is a process of its own, with an environment as a newcomer has it; they take turns, step by step.
A step is forward, backward and the update. Weights are random. PaddleDetection gets ours, since on them
depends how many regions have an object, and with it the work of a mask head. For the same reason the
learning rate is 0: updates are computed, but each side takes each step with the weights of the first.
PaddleDetection reads the same YAML file too. Its R-CNNs run on Paddle 3 once `concat` takes numbers again,
which its script sees to.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple, Optional

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from pages import spread  # noqa: E402

from ppdet.engine.evaluator import hardware, versions  # noqa: E402  # after the environment was kept

SIDES = Path(__file__).resolve().parent / "sides"
SIDE, IMAGES, OBJECTS = 320, 2, 10
WARM_UP = 2
#: In this order: steps change the running statistics of BatchNorm.
TASKS = ("infer", "step")


class Model(NamedTuple):
    """A detector: the config, which PaddleDetection reads too, and torchvision's function."""

    config: str
    torchvision: Optional[str] = None


MODELS = {
    "Faster R-CNN R50-FPN": Model("faster_rcnn_r50_fpn_1x_coco", "fasterrcnn_resnet50_fpn"),
    "Faster R-CNN R50-vd-FPN": Model("faster_rcnn_r50_vd_fpn_1x_coco"),
    "Faster R-CNN R50-C4": Model("faster_rcnn_r50_1x_coco"),
    "Mask R-CNN R50-FPN": Model("mask_rcnn_r50_fpn_1x_coco", "maskrcnn_resnet50_fpn"),
    "Cascade Mask R-CNN R50-FPN": Model("cascade_mask_rcnn_r50_fpn_1x_coco"),
    "RetinaNet R50-FPN": Model("retinanet_r50_fpn_1x_coco", "retinanet_resnet50_fpn"),
    "YOLOv3 DarkNet53": Model("yolov3_darknet53_270e_coco"),
    "PP-YOLOE+ s": Model("ppyoloe_plus_crn_s_80e_coco"),
}


def write_batch(path: Path) -> None:
    """Noise with ten objects an image."""
    rng = np.random.default_rng(0)
    low = rng.uniform(0, SIDE / 2, (IMAGES, OBJECTS, 2))
    boxes = np.concatenate([low, low + rng.uniform(20, SIDE / 2, (IMAGES, OBJECTS, 2))], axis=2)
    np.savez(
        path,
        images=rng.normal(size=(IMAGES, 3, SIDE, SIDE)).astype("float32"),
        image_sizes=np.full((IMAGES, 2), SIDE, "float32"),
        scale_factors=np.ones((IMAGES, 2), "float32"),
        boxes=boxes.astype("float32"),
        labels=rng.integers(0, 80, (IMAGES, OBJECTS)),
    )


class Side:
    """A framework's process."""

    def __init__(self, name: str, python: str, script: str, *words: str, folder: Path) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [python, "-W", "ignore", str(SIDES / script), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=ENVIRONMENT,
            cwd=folder,
        )
        self._answer("building its model")

    def ask(self, task: str, *, count: bool = False) -> dict[str, Any]:
        """Seconds, or launches, of a ``step`` or ``infer``.

        Raises:
            RuntimeError: If the process has ended.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # told below
            print(json.dumps({"task": task, "count": count}), file=self._process.stdin, flush=True)
        return self._answer(task)

    def _answer(self, task: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("answer "):
                found: dict[str, Any] = json.loads(line.partition(" ")[2])
                return found
        raise RuntimeError(f"{self.name} ended in {task}; run its script by itself to see why")

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def sides_of(model: Model, args: argparse.Namespace, folder: Path) -> list[Side]:
    """A process for each framework; ours comes first, since it writes the weights."""
    batch, weights = str(folder / "batch.npz"), str(folder / "weights.pdparams")
    sides = [Side("ppdet", sys.executable, "ppdet_side.py", model.config, batch, weights, folder=folder)]
    if args.paddledet:
        yaml = str(ROOT / "configs" / f"{model.config}.yml")
        theirs = (args.paddledet, "paddledet_side.py", yaml, batch, weights)
        sides.append(Side("PaddleDetection", *theirs, folder=folder))
    if args.torchvision and model.torchvision:
        words = (args.torchvision, "torchvision_side.py", model.torchvision, batch)
        sides.append(Side("torchvision", *words, folder=folder))
    return sides


def compare(model: Model, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """By side and task, the seconds of each turn, and where Paddle runs it what it launches."""
    sides = sides_of(model, args, folder)
    found: dict[str, Any] = {side.name: {} for side in sides}
    try:
        for task in TASKS:
            for side in sides:
                for _ in range(WARM_UP):  # anchors and constants are made once
                    side.ask(task)
                counts = {} if side.name == "torchvision" else side.ask(task, count=True)
                found[side.name][task] = {**counts, "seconds": []}
            for _ in range(args.rounds):
                for side in sides:
                    found[side.name][task]["seconds"].append(side.ask(task)["seconds"])
    finally:
        for side in sides:
            side.close()
    return found


def times_table(found: dict[str, Any], task: str) -> list[str]:
    """Seconds of a task, and how many times as long the others took."""
    rows = [
        "| Detector | ppdet, s | PaddleDetection, s | ratio | torchvision, s | ratio |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, sides in found.items():
        own = sides["ppdet"][task]["seconds"]
        cells = [spread(own, 2)]
        for other in ("PaddleDetection", "torchvision"):
            theirs = sides[other][task]["seconds"] if other in sides else []
            ratios = [t / o for o, t in zip(own, theirs)]
            cells += [spread(theirs, 2), f"{statistics.median(ratios):.2f}"] if theirs else ["-", "-"]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def counts_table(found: dict[str, Any]) -> list[str]:
    """Launches and waits of a step and an inference: ours, and theirs."""
    rows = [
        "| Detector | step: launches | waits | inference: launches | waits |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, sides in found.items():
        cells = []
        for task in reversed(TASKS):
            counts = [sides[side][task] if side in sides else None for side in ("ppdet", "PaddleDetection")]
            cells.append(" : ".join("-" if c is None else str(c["launches"]) for c in counts))
            cells.append(" : ".join("-" if c is None else str(c["waiting"] + c["reads"]) for c in counts))
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def page(found: dict[str, Any], args: argparse.Namespace) -> str:
    """The result page."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    cpu = hardware()
    return "\n".join(
        [
            "# Training steps beside PaddleDetection and torchvision",
            "",
            f"`python benchmarks/beside.py --rounds {args.rounds} ...` at {commit.stdout.strip()}:",
            f"{IMAGES} images of {SIDE} pixels of {OBJECTS} objects; the sides take turns, a step each;",
            f"{WARM_UP} steps before. {cpu['cpu']}, {cpu['cores']} cores; "
            + ", ".join(f"{what} {version}" for what, version in versions().items())
            + f"; {args.others}. Load average at the end: {os.getloadavg()[0]:.1f}.",
            "",
            "Seconds of a step, median (least - most), and the median of the ratios to ppdet's step of the",
            "same turn: above 1, ppdet is faster.",
            "",
            *times_table(found, "step"),
            "",
            "Seconds of an inference before the first step. Random weights find hardly an object, so NMS has",
            "little to do and a mask head nothing.",
            "",
            *times_table(found, "infer"),
            "",
            "Operators of Paddle that a step or an inference launches, ppdet : PaddleDetection, and how",
            "often it waits for the device: kernels that copy a result to the host, and reads of tensors on",
            "the host. Neither depends on the device. Paddle's list leaves out one operator of",
            "PaddleDetection's inference, its fused NMS `multiclass_nms3`.",
            "",
            *counts_table(found),
            "",
        ]
    )


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--paddledet", metavar="PYTHON", help="interpreter that has paddledet 2.6.0")
    parser.add_argument("--torchvision", metavar="PYTHON", help="interpreter that has torchvision")
    parser.add_argument("--only", nargs="+", choices=list(MODELS), default=list(MODELS), metavar="DETECTOR")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--page", type=Path, metavar="FILE.md", help="result page; FILE.json beside it")
    parser.add_argument("--others", default="", help="versions of the other sides, for the page")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_batch(Path(folder) / "batch.npz")
        found = {name: compare(MODELS[name], args, Path(folder)) for name in args.only}
    text = page(found, args)
    print(text)
    if args.page:
        args.page.write_text(text, "utf-8")
        args.page.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
