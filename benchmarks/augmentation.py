"""Images per second of each transform in one thread, beside those of Albumentations where it has the same.

    python benchmarks/augmentation.py [--images 24] [--repeat 25]

Images of drawn shapes, 480 x 640, with boxes and polygons. Both sides get and give back image, boxes and
masks, and run in turns. `Albumentations` is the bridge of ppdet, conversion of masks included.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any, Optional

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppdet.config.registry import Table
from ppdet.data.tools.shapes import draw_picture
from ppdet.structures import Sample, Target

SIZE = (480, 640)
WARM_UP = 5
#: Name, arguments, and the same of Albumentations (None: it has none that does the same).
PAIRS: list[tuple[str, dict[str, Any], Optional[dict[str, Any]]]] = [
    ("RandomFlip", {"prob": 1.0}, {"HorizontalFlip": {"p": 1.0}}),
    (
        "RandomAffine",
        {"degrees": [-10, 10], "scale": [0.5, 1.5]},
        {
            "Affine": {
                "rotate": [-10, 10],
                "scale": [0.5, 1.5],
                "shear": [-2, 2],
                "translate_percent": [-0.1, 0.1],
                "p": 1.0,
            }
        },
    ),
    ("RandomScaledCrop", {"target_dim": 640}, None),
    ("RandomResizeCrop", {"resizes": [400, 500], "cropsizes": [[300, 400]], "prob": 1.0}, None),
    ("Mosaic", {"input_dim": 640, "enable_mixup": False}, None),
    ("CopyPaste", {}, None),
    ("RandomErasingImage", {"prob": 1.0}, None),
    ("RandomGrayscale", {"prob": 1.0}, {"ToGray": {"p": 1.0}}),
    ("RandomGaussianBlur", {"prob": 1.0}, {"GaussianBlur": {"sigma_limit": [0.1, 2.0], "p": 1.0}}),
    ("RandomGaussianNoise", {"prob": 1.0}, {"GaussNoise": {"std_range": [0.008, 0.06], "p": 1.0}}),
    (
        "RandomJpegCompression",
        {"prob": 1.0},
        {"ImageCompression": {"quality_range": [40, 95], "compression_type": "jpeg", "p": 1.0}},
    ),
    ("AutoAugment", {}, None),
    ("RandAugment", {}, None),
    ("TrivialAugment", {}, None),
]


def drawn(number: int) -> Sample:
    """An image with its objects."""
    picture, objects = draw_picture(SIZE, np.random.default_rng(number))
    target = Target(
        boxes=np.array([item.box for item in objects], np.float32).reshape(-1, 4),
        labels=np.array([item.label for item in objects], np.int64),
        is_crowd=np.zeros(len(objects), bool),
        masks=tuple(tuple(part.astype(np.float32) for part in item.polygons) for item in objects),
    )
    size = (float(SIZE[0]), float(SIZE[1]))
    return Sample(number, f"{number}.jpg", picture, SIZE, size, target=target)


def seconds(transform: Any, samples: list[Sample], seed: int) -> float:
    """Time of one pass over the images; every one has the four others after it as partners."""
    rng = np.random.default_rng(seed)
    need = transform.needs_partners
    given = [
        sample.replace(partners=tuple(samples[(i + k + 1) % len(samples)] for k in range(need)))
        for i, sample in enumerate(samples)
    ]
    start = time.perf_counter()
    for sample in given:
        transform(sample, rng)
    return time.perf_counter() - start


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--repeat", type=int, default=25, help="passes over the images")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    table, samples = Table({}), [drawn(number) for number in range(args.images)]
    print("| transform | images/s (p5 to p95) | Albumentations | ratio |\n|---|--:|--:|--:|")
    for name, arguments, theirs in PAIRS:
        sides = [table.get(name)(**arguments)]
        if theirs is not None:
            sides.append(table.get("Albumentations")(transforms=[theirs]))
        times = np.array(
            [[seconds(side, samples, k) for side in sides] for k in range(WARM_UP + args.repeat)]
        )
        speeds = args.images / times[WARM_UP:]
        middle = np.median(speeds, axis=0)
        shown = [
            f"{m:.0f} ({np.percentile(s, 5):.0f} to {np.percentile(s, 95):.0f})"
            for m, s in zip(middle, speeds.T)
        ]
        other = f"{shown[1]} | {middle[0] / middle[1]:.2f}" if theirs else "|"
        print(f"| {name} | {shown[0]} | {other} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
