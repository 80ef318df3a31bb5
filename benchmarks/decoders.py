"""Time to decode and resize photographs, the least that a reader can take; and simplejpeg beside OpenCV.

    pip install simplejpeg          # libjpeg-turbo, MIT; without it OpenCV alone is measured
    python benchmarks/decoders.py --images dataset/coco/val2017 [--rounds 11]

Processor time of one thread, in milliseconds an image: medians over rounds in which all take turns.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from pathlib import Path
from typing import Any, Callable

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np


def decoded(data: bytes) -> np.ndarray:
    """Pixels, RGB, as ppdet decodes them."""
    image: np.ndarray = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def short_side_800(image: np.ndarray) -> np.ndarray:
    """As the R-CNN readers resize."""
    scale = min(800 / min(image.shape[:2]), 1333 / max(image.shape[:2]))
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True, help="folder of JPEG files")
    parser.add_argument("--count", type=int, default=100, help="images (default: 100)")
    parser.add_argument("--rounds", type=int, default=11, help="rounds (default: 11)")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    files = [path.read_bytes() for path in sorted(args.images.rglob("*.jpg"))[: args.count]]
    images = [decoded(data) for data in files]
    tasks: dict[str, tuple[Callable[[Any], Any], list[Any]]] = {
        "decode, OpenCV": (decoded, files),
        "resize to 608 x 608, cubic": (lambda x: cv2.resize(x, (608, 608), interpolation=2), images),
        "resize to short side 800, cubic": (short_side_800, images),
    }
    if importlib.util.find_spec("simplejpeg") is not None:
        import simplejpeg

        colour = [data for data in files if simplejpeg.decode_jpeg_header(data)[2] != "Gray"]
        tasks["decode, simplejpeg"] = (lambda data: simplejpeg.decode_jpeg(data, "RGB"), colour)
        equal = sum(np.array_equal(decoded(data), simplejpeg.decode_jpeg(data, "RGB")) for data in colour)
        print(
            f"simplejpeg {simplejpeg.__version__} gives the pixels of OpenCV for {equal} of "
            f"{len(colour)} images"
        )
    found: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(args.rounds):
        for name, (task, items) in tasks.items():
            began = time.process_time()
            for item in items:
                task(item)
            found[name].append(1000 * (time.process_time() - began) / len(items))
    print("| task | ms an image, median (least - most) |\n|---|---|")
    for name, values in found.items():
        print(f"| {name} | {np.median(values):.2f} ({min(values):.2f} - {max(values):.2f}) |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
