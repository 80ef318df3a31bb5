"""A training step with convolutions by oneDNN and by Paddle, turn by turn in one process.

    python benchmarks/convolutions.py                     every family, a process each; prints
    python benchmarks/convolutions.py --page FILE.md      and writes the result page, raw numbers beside it

Both sides see the same batches in the same order of sizes, since a step of each takes the next batch in turn.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("GLOG_minloglevel", "2")

from ppdet import load_config  # noqa: E402  # after Paddle's setting
from ppdet.data.tools.synth import SyntheticOptions, write_dataset  # noqa: E402
from ppdet.engine.evaluator import hardware, versions  # noqa: E402
from ppdet.engine.hooks import Hook, Run  # noqa: E402
from ppdet.engine.settings import TrainSettings  # noqa: E402
from ppdet.engine.trainer import Trainer  # noqa: E402
from ppdet.experiment.build import build_training  # noqa: E402
from ppdet.ops import onednn  # noqa: E402
from ppdet.utils.cpu import product_threads  # noqa: E402

SIZE, WARM_UP = 320, 6
_SQUARE = ["TrainReader.batch_size=2", f"TrainReader.sample_transforms.Resize.target_size=[{SIZE},{SIZE}]"]
#: Name, config, overrides: images of 320 pixels, two a batch; the quickstart as it is (128 pixels, eight).
CONFIGS = {
    "Faster R-CNN R50-FPN": ("faster_rcnn_r50_fpn_1x_coco.yml", _SQUARE),
    "Mask R-CNN R50-FPN": ("mask_rcnn_r50_fpn_1x_coco.yml", _SQUARE),
    "RetinaNet R50-FPN": ("retinanet_r50_fpn_1x_coco.yml", _SQUARE),
    "YOLOv3 DarkNet53": (
        "yolov3_darknet53_270e_coco.yml",
        ["TrainReader.batch_size=2", f"TrainReader.batch_transforms.BatchRandomResize.target_size=[{SIZE}]"],
    ),
    "PP-YOLOE+ of the quickstart": ("quickstart_ppyoloe.yml", []),
}
SIDES = ("Paddle", "oneDNN")


class Turns(Hook):
    """Changes sides after each step and notes its time."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {side: [] for side in SIDES}
        self._seen = 0
        self._begin(0)

    def _begin(self, side: int) -> None:
        os.environ[onednn.SWITCH] = "onednn" if side else "paddle"
        self._side, self._start = SIDES[side], time.perf_counter()

    def after_step(self, trainer: Run) -> None:
        """Note the time of this step; the next one is the other side's."""
        self._seen += 1
        if self._seen > WARM_UP:
            self.times[self._side].append(time.perf_counter() - self._start)
        self._begin(self._seen % 2)


def measure(name: str, steps: int) -> dict[str, list[float]]:
    """Seconds of each step of both sides."""
    config, overrides = CONFIGS[name]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        write_dataset(data, SyntheticOptions(train=32, val=1, height=240, width=320))
        categories = json.loads((data / "annotations/instances_train.json").read_text("utf-8"))["categories"]
        common = [
            f"TrainDataset.dataset_dir={data}",
            "TrainDataset.image_dir=train",
            "worker_num=1",
            "seed=0",
        ]
        common += ["TrainDataset.anno_path=annotations/instances_train.json", "pretrain_weights=null"]
        common += [f"num_classes={len(categories)}"]
        training = build_training(load_config(ROOT / "configs" / config, overrides=[*common, *overrides]))
        turns = Turns()
        settings = TrainSettings(epochs=10**6, max_iters=WARM_UP + 2 * steps, log_iter=10**6)
        trainer = Trainer(
            training.model, training.optimizer, training.schedule, training.loader, settings, hooks=[turns]
        )
        trainer._check_every_step = False  # random weights overflow, which changes no time
        trainer.train()
        training.loader.close()
    return turns.times


def row(name: str, times: dict[str, list[float]]) -> str:
    """A line of the table."""
    paddle, ours = (statistics.median(times[side]) for side in SIDES)
    cells = []
    for side in SIDES:
        middle, least, most = (f"{1e3 * of(times[side]):.0f}" for of in (statistics.median, min, max))
        cells.append(f"{middle} ({least}-{most})")
    return f"| {name} | {cells[0]} | {cells[1]} | {paddle / ours:.2f} |"


def page(found: dict[str, Any], steps: int) -> str:
    """The result page, as README.md wants it."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    machine = found["hardware"]
    lines = [
        "# A training step with convolutions by oneDNN and by Paddle",
        "",
        f"`python benchmarks/convolutions.py --steps {steps} --page FILE` at commit {commit.stdout.strip()};",
        f"a process per family, sides in turn, {WARM_UP} steps of warm-up, {steps} steps of each side.",
        f"{machine['cpu']}, {machine['cores']} cores, {product_threads()} threads; "
        + ", ".join(f"{what} {version}" for what, version in found["versions"].items())
        + f". Load average before: {found['load_average']:.1f}.",
        "",
        "| Family | Paddle, ms (least-most) | oneDNN, ms | Paddle / oneDNN |",
        "|---|---|---|---|",
        *(row(name, found[name]) for name in CONFIGS if name in found),
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=20, help="steps of each side (%(default)s)")
    parser.add_argument("--only", choices=list(CONFIGS), help="one family, in this process; prints JSON")
    parser.add_argument("--page", type=Path, metavar="FILE.md", help="result page; FILE.json beside it")
    args = parser.parse_args()
    logging.getLogger("ppdet").setLevel(logging.WARNING)
    if args.only is not None:
        print(json.dumps(measure(args.only, args.steps)))
        return 0
    found: dict[str, Any] = {"hardware": hardware(), "versions": versions()}
    found["load_average"] = os.getloadavg()[0]
    for name in CONFIGS:
        words = [sys.executable, __file__, "--only", name, "--steps", str(args.steps)]
        said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        found[name] = json.loads(said.splitlines()[-1])
        print(row(name, found[name]), flush=True)
    if args.page is not None:
        args.page.write_text(page(found, args.steps), "utf-8")
        args.page.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
