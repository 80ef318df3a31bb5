"""Training steps and inferences beside PaddleDetection 2.6.0, on the same Paddle, config, images and boxes.

    python3.11 -m venv pd
    pd/bin/pip install paddlepaddle==3.3.1 "numpy<2" "opencv-python<4.12" scipy pycocotools pyyaml tqdm \
        six pandas typeguard terminaltables shapely matplotlib requests scikit-learn imgaug
    pd/bin/pip install --no-deps paddledet==2.6.0
    python benchmarks/beside_paddledet.py --python pd/bin/python [--rounds 10]

The two take turns, step by step; each has a process of its own. A step is forward, backward and the update;
both
models have random weights. Its two-stage detectors do not train on Paddle 3 (an error in its losses), so
they are
not here.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import paddle  # noqa: E402

from ppdet import build_model, load_config  # noqa: E402
from ppdet.doctor.kernels import recorded  # noqa: E402
from ppdet.structures import Batch  # noqa: E402

MODELS = {
    "RetinaNet R50-FPN": ("retinanet_r50_fpn_1x_coco", "retinanet_r50_fpn"),
    "YOLOv3 DarkNet53": ("yolov3_darknet53_270e_coco", "yolov3_darknet53"),
    "PP-YOLOE+ s": ("ppyoloe_plus_crn_s_80e_coco", "ppyoloe_plus_crn"),
}
SIDE, IMAGES, OBJECTS = 320, 2, 10
WARM_UP = 2


def arrays() -> dict[str, np.ndarray]:
    """Noise with ten objects an image."""
    rng = np.random.default_rng(0)
    low = rng.uniform(0, SIDE / 2, (IMAGES, OBJECTS, 2))
    boxes = np.concatenate([low, low + rng.uniform(20, SIDE / 2, (IMAGES, OBJECTS, 2))], axis=2)
    return {
        "images": rng.normal(size=(IMAGES, 3, SIDE, SIDE)).astype("float32"),
        "image_sizes": np.full((IMAGES, 2), SIDE, "float32"),
        "scale_factors": np.ones((IMAGES, 2), "float32"),
        "boxes": boxes.astype("float32"),
        "labels": rng.integers(0, 80, (IMAGES, OBJECTS)),
    }


class Ours:
    """This project's side."""

    def __init__(self, name: str, values: dict[str, np.ndarray]) -> None:
        self._model = build_model(load_config(name, ["num_classes=80", "norm_type=bn"]))
        rest = {
            "is_crowd": np.zeros((IMAGES, OBJECTS), bool),
            "weights": np.ones((IMAGES, OBJECTS), "float32"),
        }
        ids = {"image_ids": tuple(range(IMAGES)), "paths": ("",) * IMAGES}
        self._batch = Batch.from_arrays({**values, **rest, **ids})
        trained = [p for p in self._model.parameters() if p.trainable]
        self._optimizer = paddle.optimizer.Momentum(1e-4, parameters=trained, weight_decay=1e-4)

    def step(self) -> None:
        """One update."""
        paddle.add_n(list(self._model(self._batch).values())).backward()
        self._optimizer.step()
        self._optimizer.clear_grad()

    def infer(self) -> None:
        """One inference."""
        with paddle.no_grad():
            self._model.detect(self._batch.images, self._batch.image_sizes, self._batch.scale_factors)

    def answer(self, task: str) -> float:
        """As `Theirs.answer`."""
        run: Callable[[], None] = self.step if task.startswith("step") else self.infer
        self._model.train() if task.startswith("step") else self._model.eval()
        if task.endswith("launches"):
            with recorded() as launched:
                run()
            return sum(sum(counts.values()) for counts in launched.values())
        began = time.perf_counter()
        run()
        return time.perf_counter() - began


class Theirs:
    """PaddleDetection's side, in a process of its environment."""

    def __init__(self, python: str, config: str, batch: Path) -> None:
        script = Path(__file__).with_name("paddledet_steps.py").read_text("utf-8")
        words = [
            python,
            "-W",
            "ignore",
            "-c",
            script,
            f"{ROOT}/configs/_base_/models/{config}.yml",
            str(batch),
        ]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            cwd=tempfile.gettempdir(),
        )

    def answer(self, task: str) -> float:
        """Seconds of a ``step`` or ``infer``, or its ``launches``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"task": task}) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("answer "):
                return float(line.partition(" ")[2])
        raise RuntimeError(f"PaddleDetection ended in {task}; run its side by itself to see why")

    def close(self) -> None:
        """End the process."""
        self._process.kill()


def compared(name: str, python: str, rounds: int) -> str:
    """A row of the table."""
    ours_config, theirs_config = MODELS[name]
    values = arrays()
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "batch.npz", **values)
        ours, theirs = Ours(ours_config, values), Theirs(python, theirs_config, Path(folder) / "batch.npz")
        sides: list[Any] = [ours, theirs]
        times: list[list[float]] = [[], []]
        for number in range(WARM_UP + rounds):
            for side, found in zip(sides, times):
                seconds = side.answer("step")
                if number >= WARM_UP:
                    found.append(seconds)
        counts = [[side.answer(f"{task} launches") for side in sides] for task in ("step", "infer")]
        theirs.close()
    medians = [float(np.median(found)) for found in times]
    spread = [f"{median:.2f} ({min(found):.2f} - {max(found):.2f})" for median, found in zip(medians, times)]
    launched = " | ".join(f"{a:.0f} | {b:.0f}" for a, b in counts)
    return f"| {name} | {spread[0]} | {spread[1]} | {medians[1] / medians[0]:.2f} | {launched} |"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", required=True, help="interpreter that has paddledet 2.6.0")
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    print(
        "| detector | step, s | PaddleDetection, s | ratio | launches of a step | PaddleDetection | ", end=""
    )
    print("of an inference | PaddleDetection |\n|---|---|---|---|---|---|---|---|")
    for name in MODELS:
        print(compared(name, args.python, args.rounds), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
