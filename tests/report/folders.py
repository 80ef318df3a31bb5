"""Folders as a training leaves them, and files of detections, written in a moment."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import cv2
import numpy as np

from tests.metrics.analysis.scenes import scene


def write_run(
    folder: Path,
    *,
    steps: int = 200,
    loss: Optional[Callable[[int], float]] = None,
    ap: Optional[Callable[[int], float]] = None,
    validation_loss: Optional[Callable[[int], float]] = None,
    data_share: float = 0.05,
    last_step: Optional[int] = None,
    config: str = "epoch: 4\nLearningRate: {base_lr: 0.01}\n",
) -> Path:
    """A training of `steps` steps with a log every 5 and an evaluation every 40; values by step."""
    folder.mkdir(parents=True, exist_ok=True)
    total = steps if last_step is None else last_step
    lines: list[dict[str, Any]] = []
    for step in range(5, steps + 1, 5):
        value = (loss or (lambda s: 2 * math.exp(-s / 80) + 0.3))(step)
        lines.append(
            {
                "kind": "train",
                "step": step,
                "epoch": step // 50,
                "losses": {"loss_cls": value / 2, "loss_box": value / 2, "loss": value},
                "learning_rate": 0.01,
                "data_time": 0.2 * data_share,
                "batch_time": 0.2,
                "images_per_second": 40.0,
                "eta": 0.2 * (total - step),
                "memory": 2_000_000_000,
                "gradient_norm": 3.0,
            }
        )
        if step % 40 == 0:
            numbers = {
                "AP": (ap or (lambda s: 0.4 - 0.3 * math.exp(-s / 20)))(step),
                "AP50": 0.6,
                "APs": -1.0,
            }
            row: dict[str, Any] = {"kind": "eval", "step": step, "epoch": step // 50, "bbox": numbers}
            if validation_loss is not None:
                row["loss"] = {"loss": validation_loss(step)}
            lines.append(row)
            for name in ("one", "two"):
                path = folder / "pictures" / f"{step:08d}" / f"{name}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), np.full((40, 60, 3), step, np.uint8))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines), "utf-8")
    facts = {
        "model": "FasterRCNN",
        "parameters": 1_234_567,
        "command": ["ppdet", "train", "-c", "a <b>.yml"],
        "last_step": total,
        "steps_per_epoch": 50,
        "best_metric": None,
        "best_is": "max",
        "seed": 3,
        "hardware": {"cpu": "a processor", "cores": 2},
        "versions": {"ppdet": "0.1.0"},
    }
    (folder / "run.json").write_text(json.dumps(facts), "utf-8")
    (folder / "config.yml").write_text(config, "utf-8")
    (folder / "train.log").write_text(
        "2026-11-26 04:00:00,000 INFO ppdet.engine: fine\n"
        "2026-11-26 04:00:01,000 WARNING ppdet.data: 3 boxes <outside> their image\n",
        "utf-8",
    )
    return folder


def write_detections(
    folder: Path, *, seed: int = 3, images: int = 12, shift: float = 0.0
) -> tuple[Path, Path]:
    """Detections and annotations of a random scene; `shift` pixels spoil the detections."""
    folder.mkdir(parents=True, exist_ok=True)
    truth, rows = scene(seed, images=images, spread=0.15)
    truth["categories"][1]["name"] = "</script><b>bold & bad"
    for row in rows:
        row["bbox"][0] += shift
    annotations, detections = folder / "annotations.json", folder / f"detections{int(shift)}.json"
    annotations.write_text(json.dumps(truth), "utf-8")
    detections.write_text(json.dumps(rows), "utf-8")
    return detections, annotations


def write_images(folder: Path, names: tuple[str, ...]) -> Path:
    """A grey 640 by 480 picture for each name."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        picture = np.full((480, 640, 3), 60 + 10 * (number % 15), np.uint8)
        cv2.imwrite(str(folder / name), picture)
    return folder


def data_of(page: str) -> dict[str, Any]:
    """What the script of a page reads."""
    start = page.index('<script type="application/json" id="data">') + len(
        '<script type="application/json" id="data">'
    )
    found: dict[str, Any] = json.loads(page[start : page.index("</script>", start)])
    return found
