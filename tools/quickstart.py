"""The whole way in one command: make a dataset, train on it, evaluate, and draw what the detector finds.

Everything it does is printed as the command that does it, to be typed again with other values. What is there
already is not made again: the dataset if it was made with the same options, the model if it was trained with
the same config.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppdet.cli import main

CONFIG = "configs/quickstart_ppyoloe.yml"
DATA = "dataset/quickstart"
RUN = Path("output/quickstart_ppyoloe")
FINAL = RUN / "model_final.pdparams"
OUTPUT = Path("output/quickstart")
#: Images are about as large as the objects in them allow, since convolutions on a CPU cost what pixels cost.
MAKE_DATA = ["data", "synth", DATA, "--train", "352", "--val", "80", "--height", "128", "--width", "128"]
#: The resolved config that the finished model was trained with.
TRAINED_WITH = OUTPUT / "trained_with.yml"


def step(words: list[str]) -> None:
    """Show a command and run it; stop if it fails."""
    print(f"\n$ ppdet {' '.join(words)}", flush=True)
    status = main(words)
    if status:
        raise SystemExit(status)


def is_trained(config: str) -> bool:
    """Whether the model there was trained to the end with this config."""
    done = TRAINED_WITH.is_file() and FINAL.is_file()
    return done and TRAINED_WITH.read_text("utf-8") == config


def table(metrics: dict[str, Any]) -> str:
    """The figures of the evaluation, for a screen."""
    box, fps = metrics["bbox"], metrics["fps"]
    lines = [f"  {name:<6} {box[name]:.3f}" for name in ("AP", "AP50", "AP75", "APs", "APm", "AR100")]
    return "\n".join([*lines, f"  fps    {fps['fps']:.1f}  (batch 1, reading and post-processing included)"])


def contact_sheet(folder: Path, target: Path, *, columns: int = 4, rows: int = 2, side: int = 240) -> None:
    """The first drawn images of a folder side by side in one file; `side` is a cell's in pixels."""
    import cv2
    import numpy as np

    sheet = np.full((rows * side, columns * side, 3), 255, np.uint8)
    for index, path in enumerate(sorted(folder.glob("*.jpg"))[: rows * columns]):
        picture = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        scale = (side - 4) / max(picture.shape[:2])
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        top, left = side * (index // columns), side * (index % columns)
        sheet[top : top + small.shape[0], left : left + small.shape[1]] = small
    target.write_bytes(cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes())


def quickstart() -> None:
    """Run the steps and say what they came to."""
    start = time.monotonic()
    step(MAKE_DATA)
    # Not before the first command, which sets up logging: Paddle would do it when it is imported.
    from ppdet import load_config

    config = load_config(CONFIG).to_yaml()
    if is_trained(config):
        print(f"\n{RUN} holds a model trained with this config; remove it to train again")
    else:
        step(["train", "-c", CONFIG, "--eval"])
        if not FINAL.is_file():
            raise SystemExit("training was stopped before its end; run this again to train anew")
        OUTPUT.mkdir(parents=True, exist_ok=True)
        TRAINED_WITH.write_text(config, "utf-8")
    report = OUTPUT / "metrics.json"
    page = OUTPUT / "evaluation.html"
    step(["eval", "-c", CONFIG, "--json", str(report), "--report", str(page), "--classwise"])
    pictures = OUTPUT / "predictions"
    step(["infer", "-c", CONFIG, "--infer_dir", f"{DATA}/val", "--output_dir", str(pictures)])
    contact_sheet(pictures, OUTPUT / "predictions.jpg")
    print(f"\nOn the held-out images, after {time.monotonic() - start:.0f} s in all:")
    print(table(json.loads(report.read_text("utf-8"))))
    print(f"\nfigures: {report}")
    print(f"pictures: {pictures}, some of them in {OUTPUT / 'predictions.jpg'}")
    print(f"pages for a browser: {RUN / 'report.html'} (training), {page} (evaluation)")
    print(f"model: {FINAL}")
    print("\nTry next: train on COCO or on your own data (README.md), or change the recipe here, e.g.")
    print(f"  .venv/bin/ppdet train -c {CONFIG} -o epoch=2 LearningRate.base_lr=0.01 filename=mine --eval")


if __name__ == "__main__":
    quickstart()
