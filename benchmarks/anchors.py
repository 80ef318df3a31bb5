"""What fitted anchors bring: the objects they reach, and the AP of YOLOv3-tiny trained with either.

    python benchmarks/anchors.py [--coco DIR] [--weights yolov3-tiny.weights] [--page FILE.md]

On images of `ppdet data synth` the detector starts from random weights; on the images of `--coco` (in COCO's
layout) from Darknet's, which were trained with today's anchors. Everything else is the same for both.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple, Optional

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("GLOG_minloglevel", "2")

import ppdet  # noqa: E402  # after Paddle's setting
from ppdet.data.tools.config_anchors import better_anchors  # noqa: E402
from ppdet.data.tools.input_size import configured_size  # noqa: E402
from ppdet.data.tools.synth import SyntheticOptions, write_dataset  # noqa: E402
from ppdet.engine.evaluator import hardware, versions  # noqa: E402
from ppdet.experiment.build import build_dataset  # noqa: E402

CONFIG = "yolov3_tiny_coco"
SEEDS = (0,)


class Case(NamedTuple):
    """A dataset and a schedule."""

    name: str
    overrides: list[str]


def cases(folder: Path, coco: Optional[Path], weights: Optional[str]) -> list[Case]:
    """What is trained."""
    found = []
    write_dataset(folder / "synth", SyntheticOptions(train=240, val=60, height=160, width=160))
    parts = {"Train": "train", "Eval": "val"}
    overrides = [f"{key}Dataset.dataset_dir={folder / 'synth'}" for key in parts]
    overrides += [f"{key}Dataset.image_dir={part}" for key, part in parts.items()]
    overrides += [f"{key}Dataset.anno_path=annotations/instances_{part}.json" for key, part in parts.items()]
    overrides += ["num_classes=6", "pretrain_weights=null", *_schedule(160, epochs=20, rate=0.002)]
    found.append(Case("`data synth`", overrides))
    if coco is not None:
        overrides = [f"{key}Dataset.dataset_dir={coco}" for key in ("Train", "Eval")]
        start = "null" if weights is None else weights
        overrides += [f"pretrain_weights={start}", *_schedule(320, epochs=10, rate=0.0005)]
        found.append(Case("COCO, 50 images", overrides))
    return found


def _schedule(side: int, *, epochs: int, rate: float) -> list[str]:
    return [
        f"epoch={epochs}",
        f"snapshot_epoch={epochs}",
        "worker_num=1",
        "log_iter=1000",
        "TrainReader.batch_size=8",
        f"TrainReader.batch_transforms.BatchRandomResize.target_size=[{side}]",
        f"EvalReader.sample_transforms.Resize.target_size=[{side},{side}]",
        f"LearningRate.base_lr={8 * rate}",  # for a batch of 64, which the rate follows
        f"LearningRate.schedulers.PiecewiseDecay.milestones=[{epochs * 2 // 3},{epochs * 8 // 9}]",
        "LearningRate.schedulers.LinearWarmup.steps=20",
    ]


def measure(case: Case, folder: Path) -> dict[str, Any]:
    """Reach of both sets of anchors, and the AP of a training with each, by seed."""
    base = ppdet.load_config(CONFIG, case.overrides)
    dataset = build_dataset(base, "TrainDataset")
    found = better_anchors(base, dataset, configured_size(base, dataset))
    assert found is not None
    sides = {"today": [], "fitted": [f"{found.block}.anchors={found.arguments['anchors']}".replace(" ", "")]}
    result: dict[str, Any] = {}
    for side, more in sides.items():
        fit = getattr(found, side)
        aps = []
        for seed in SEEDS:
            place = [f"save_dir={folder}", f"filename={side}{seed}", f"seed={seed}"]
            trained = ppdet.train(ppdet.load_config(CONFIG, [*case.overrides, *more, *place]), evaluate=True)
            numbers = ppdet.evaluate(ppdet.load_detector(trained.final, runtime="native")).metrics["bbox"]
            aps.append((100 * numbers["AP"], 100 * numbers["AP50"]))
            print(case.name, side, seed, aps[-1], flush=True)
        result[side] = {"recall": fit.recall, "mean_iou": fit.mean_iou, "anchors": fit.anchors, "ap": aps}
    return result


def table(results: dict[str, dict[str, Any]]) -> str:
    """The result as Markdown."""
    lines = [
        "| Dataset | Anchors | Reached, IoU >= 0.5 | Mean best IoU | AP, by seed | AP50, by seed |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for name, sides in results.items():
        for side, one in sides.items():
            aps = ["; ".join(f"{pair[column]:.1f}" for pair in one["ap"]) for column in (0, 1)]
            reach = f"{100 * one['recall']:.1f} % | {one['mean_iou']:.3f}"
            lines.append(f"| {name} | {side} | {reach} | {aps[0]} | {aps[1]} |")
    return "\n".join(lines)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--coco", type=Path, metavar="DIR", help="train2017, val2017 and annotations")
    parser.add_argument("--weights", help="Darknet's yolov3-tiny.weights, to start from on COCO")
    parser.add_argument("--page", type=Path, metavar="FILE.md", help="result page")
    args = parser.parse_args()
    logging.getLogger("ppdet").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        results = {
            case.name: measure(case, Path(folder) / "runs")
            for case in cases(Path(folder), args.coco, args.weights)
        }
    shown = table(results)
    print(shown)
    if args.page is not None:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
        )
        known = ", ".join(f"{what} {version}" for what, version in versions().items())
        lines = [
            "# Anchors fitted to a dataset",
            "",
            "`python benchmarks/anchors.py --coco DIR --weights FILE --page FILE` at commit",
            f"{commit.stdout.strip()}: YOLOv3-tiny, seeds {', '.join(map(str, SEEDS))}.",
            f"{hardware()['cpu']}; {known}.",
            "",
            shown,
            "",
        ]
        args.page.write_text("\n".join(lines), "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
