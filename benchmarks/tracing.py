"""What tracing a detector takes as it is written, and after Paddle has translated its code.

    python benchmarks/tracing.py [--rounds N] [--page FILE.md]

Translated code is kept by a process, so each trace has a process of its own; the two sides take turns.
Seconds are those of the processor, from the built model to the written files of Paddle Inference.
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
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("GLOG_minloglevel", "2")

from pages import origin, spread  # noqa: E402

import ppdet  # noqa: E402  # after Paddle's setting
from ppdet.export import program  # noqa: E402

CONFIGS = (
    "faster_rcnn_r50_fpn_1x_coco",
    "cascade_mask_rcnn_r50_fpn_1x_coco",
    "retinanet_r50_fpn_1x_coco",
    "yolov3_darknet53_270e_coco",
    "ppyoloe_plus_crn_s_80e_coco",
    "rtdetr_r18vd_6x_coco",
)
SIDES = ("written", "translated")


def trace(config: str, side: str) -> float:
    """Seconds of the processor that a trace takes in this process."""
    model = ppdet.build_model(ppdet.load_config(config, ["pretrain_weights=null"]))
    model.eval()
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        with mock.patch.object(program, "has_other_code", lambda detector: side == "translated"):
            traced = program.DetectionProgram(model)
        program.save_program(traced, Path(folder) / "model", uint8_input=False)
        return time.process_time() - began


def measure(config: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of each side in each round."""
    found: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side in SIDES:
            words = [sys.executable, "-W", "ignore", __file__, "--one", config, side]
            out = subprocess.run(words, check=True, capture_output=True, text=True).stdout
            found[side].append(float(json.loads(out.splitlines()[-1])))
    return found


def page(found: dict[str, dict[str, list[float]]], rounds: int) -> str:
    """The result page."""
    rows = []
    for config, sides in found.items():
        written, translated = (sides[side] for side in SIDES)
        ratio = statistics.median(t / w for w, t in zip(written, translated))
        rows.append(f"| {config} | {spread(written, 2)} | {spread(translated, 2)} | {ratio:.1f} |")
    return "\n".join(
        [
            "# Tracing a detector, as written and translated",
            "",
            *origin(f"python benchmarks/tracing.py --rounds {rounds}"),
            "",
            "Seconds of the processor for a trace and its files, median (least - most), and the median of",
            "the ratios of a round.",
            "",
            "| Config | as written, s | translated, s | ratio |",
            "|---|--:|--:|--:|",
            *rows,
            "",
        ]
    )


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--page", type=Path, metavar="FILE.md", help="result page")
    parser.add_argument("--one", nargs=2, metavar=("CONFIG", "SIDE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(trace(*args.one)))
        return 0
    text = page({config: measure(config, args.rounds) for config in CONFIGS}, args.rounds)
    print(text)
    if args.page:
        args.page.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
