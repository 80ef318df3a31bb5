"""Draw the pictures of docs/augmentation.md: every transform on images of drawn shapes.

Usage: ``python tools/draw_augmentations.py [NAME ...]``, without names all of them
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ppdet.config.errors import suggestion  # noqa: E402  # after the path
from ppdet.data.tools.browse import browse, single_transform  # noqa: E402
from ppdet.data.tools.synth import SyntheticOptions, write_dataset  # noqa: E402
from ppdet.experiment.config import load_config  # noqa: E402

FOLDER = ROOT / "docs" / "images" / "augmentation"
#: Transform -> arguments with which its effect is well seen.
PICTURES = {
    "RandomFlip": "{prob: 1.0}",
    "RandomAffine": "{degrees: [-30, 30], shear: [-10, 10]}",
    "RandomScaledCrop": "{target_dim: [192, 256], scale_range: [0.4, 2.0]}",
    "RandomResizeCrop": "{resizes: [200, 280], cropsizes: [[120, 200]], thresholds: [0.0], prob: 1.0}",
    "RandomCrop": "{allow_no_crop: false}",
    "RandomExpand": "{prob: 0.0, ratio: 2.0}",
    "Mosaic": "{input_dim: [192, 256], scale: [0.6, 1.4], enable_mixup: false}",
    "Mixup": "{}",
    "CopyPaste": "{}",
    "RandomErasingImage": "{prob: 1.0}",
    "RandomDistort": "{}",
    "RandomGrayscale": "{prob: 1.0}",
    "RandomGaussianBlur": "{prob: 1.0, sigma: [1.0, 4.0]}",
    "RandomGaussianNoise": "{prob: 1.0, std: [10, 40]}",
    "RandomJpegCompression": "{prob: 1.0, quality: [3, 15]}",
    "AutoAugment": "{autoaug_type: v1}",
    "RandAugment": "{num_ops: 2, magnitude: 8}",
    "TrivialAugment": "{}",
    "Albumentations": "{transforms: [{Perspective: {p: 1.0}}, {RandomFog: {p: 0.5}}]}",
}
_DRAWS = 3
_HEIGHT, _GAP, _QUALITY = 144, 6, 82
#: Its first image has objects of many shapes, some one over the other.
_SEED = 4


def draw(name: str, data: Path) -> np.ndarray:
    """One image as it is, and after some draws of a transform, in a row: ``[H, W, 3]`` uint8 RGB."""
    places = [f"{key}.dataset_dir={data}" for key in ("TrainDataset", "EvalDataset", "TestDataset")]
    given = [*places, "TrainReader.shuffle=false", "TrainReader.batch_size=1"]
    plain = load_config("quickstart_mask_rcnn", given)
    only = single_transform(plain, "TrainReader", f"{name}: {PICTURES[name]}")
    experiment = load_config("quickstart_mask_rcnn", [*given, *only])
    pictures: list[np.ndarray] = []
    for epoch in range(_DRAWS):
        (shown,) = browse(experiment, count=1, epoch=epoch)
        before, after = shown.pictures.values()
        pictures += [after] if pictures else [before, after]
    tiles = [
        cv2.resize(p, (round(p.shape[1] * _HEIGHT / p.shape[0]), _HEIGHT), interpolation=cv2.INTER_AREA)
        for p in pictures
    ]
    gap = np.full((_HEIGHT, _GAP, 3), 255, np.uint8)
    return np.hstack([part for tile in tiles for part in (gap, tile)][1:])


def main() -> int:
    """Draw and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="transforms; all of them by default")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder; by default that of the page")
    args = parser.parse_args()
    for name in args.names:
        if name not in PICTURES:
            parser.error(f"there is no picture of {name}{suggestion(name, PICTURES)}")
    args.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "shapes"
        write_dataset(data, SyntheticOptions(train=12, val=1, height=192, width=256, seed=_SEED))
        for name in args.names or PICTURES:
            bgr = cv2.cvtColor(draw(name, data), cv2.COLOR_RGB2BGR)
            _, content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
            (args.output / f"{name}.jpg").write_bytes(content.tobytes())
            print(args.output / f"{name}.jpg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
