"""Kernels that a training step and an inference launch, and whether Paddle has each of them for GPUs.

    python benchmarks/gpu_kernels.py --page FILE.md        the table, for the configs below
    python benchmarks/gpu_kernels.py --list FILE.json      what a GPU build registers; no GPU is needed

The stored list, `gpu_kernels_2.6.2.json`, is of the newest GPU build that pip installs, 2.6.2. Operators
have the names of Paddle's operator list; gradients are those that this list names for an operator.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Callable

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ppdet.doctor.kernels import missing, recorded, registered  # noqa: E402

STORED = ROOT / "benchmarks" / "gpu_kernels_2.6.2.json"
CONFIGS = (
    "quickstart_faster_rcnn",
    "quickstart_mask_rcnn",
    "quickstart_cascade_mask_rcnn",
    "quickstart_retinanet",
    "quickstart_yolov3",
    "quickstart_ppyoloe",
    "rtdetr_r18vd_6x_coco",
)
IMAGES, SIDE = 2, 64


def batch_of(classes: int) -> Any:
    """Noise with three objects an image, masks included."""
    import paddle

    from ppdet.structures import Batch, BatchTargets, PolygonBatch

    rng = np.random.default_rng(0)
    corner = rng.uniform(0, SIDE / 2, (IMAGES, 3, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(8, SIDE / 2, (IMAGES, 3, 2))], axis=2).astype(
        "float32"
    )
    vertices = boxes.reshape(-1, 4)[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    targets = BatchTargets(
        boxes=paddle.to_tensor(boxes),
        labels=paddle.to_tensor(rng.integers(0, classes, (IMAGES, 3))),
        is_crowd=paddle.zeros([IMAGES, 3], dtype="bool"),
        weights=paddle.ones([IMAGES, 3]),
        polygons=PolygonBatch(paddle.to_tensor(vertices), paddle.arange(3 * IMAGES, dtype="int64")),
    )
    return Batch(
        images=paddle.randn([IMAGES, 3, SIDE, SIDE]),
        image_sizes=paddle.full([IMAGES, 2], float(SIDE)),
        scale_factors=paddle.ones([IMAGES, 2]),
        image_ids=tuple(range(IMAGES)),
        paths=("noise",) * IMAGES,
        targets=targets,
    )


def launches_of(config: str) -> dict[str, dict[str, dict[str, int]]]:
    """Launches of losses, ``train``, and of an inference, ``infer``, by operator and type."""
    import paddle

    from ppdet import build_model, load_config

    model = build_model(load_config(ROOT / "configs" / f"{config}.yml", ["pretrain_weights=null"]))
    batch = batch_of(model.num_classes)
    runs: dict[str, Callable[[], Any]] = {
        "train": lambda: model(batch),
        "infer": lambda: model.detect(batch.images, batch.image_sizes, batch.scale_factors),
    }
    found = {}
    for name, run in runs.items():
        model.train() if name == "train" else model.eval()
        with paddle.no_grad():
            run()  # anchors and constants are made once
            with recorded() as launches:
                run()
        found[name] = launches
    return found


def page(found: dict[str, dict[str, dict[str, dict[str, int]]]]) -> str:
    """The result page."""
    kernels = json.loads(STORED.read_text("utf-8"))
    rows, used = [], {}
    for config, runs in found.items():
        cells = [str(sum(sum(c.values()) for c in runs[name].values())) for name in ("train", "infer")]
        without = {m for name in runs for m in missing(runs[name], kernels, train=name == "train")}
        rows.append(f"| {config} | {cells[0]} | {cells[1]} | {', '.join(sorted(without)) or 'none'} |")
        for launches in runs.values():
            used.update(launches)
    return "\n".join(
        [
            "# Kernels for GPUs",
            "",
            "`python benchmarks/gpu_kernels.py --page FILE.md`. Launches of training (forward, losses)",
            f"and of an inference, {IMAGES} images; they do not depend on the device. The last column",
            "compares with the kernels, and their gradients, that paddlepaddle-gpu 2.6.2 registers for the",
            "same type.",
            "",
            "| Config | Training | Inference | Without a kernel for GPUs |",
            "|---|--:|--:|---|",
            *rows,
            "",
            f"{len(used)} operators in all: {', '.join(f'`{name}`' for name in sorted(used))}.",
            "",
            "`cast`, `div_scale` and `shape64` are not in the list of 2.6.2: it does not report the first,",
            "which every build has; the others are newer.",
            "",
        ]
    )


def main() -> int:
    """Write a list or the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", type=Path, metavar="FILE.json", help="kernels of this build for GPUs")
    parser.add_argument("--page", type=Path, metavar="FILE.md", help="result page")
    args = parser.parse_args()
    if args.list:
        rows = (f" {json.dumps(name)}: {json.dumps(types)}" for name, types in sorted(registered().items()))
        args.list.write_text("{\n" + ",\n".join(rows) + "\n}\n", "utf-8")
        return 0
    text = page({config: launches_of(config) for config in CONFIGS})
    print(text)
    if args.page:
        args.page.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
