"""Write the small set of goldens from the full one: ``python -m tests.golden.make [networks]``.

The small set holds numbers only: single operations with their inputs, training targets from ground-truth
boxes, key lists, learning rates. They are the reference's own numbers, copied. ``networks`` also writes
`networks.json` anew: it holds samples of what whole networks of every family give for a computed image. The
reference was never run on that image; these are numbers of ppdet, recorded while all tests against the full
goldens passed. Do that again only after running ``benchmarks/parity.py``.
"""

from __future__ import annotations

import json
import re
import shutil
import sys

import numpy as np

from tests.golden.networks import NETWORKS, recorded
from tests.support import GOLDENS, SMALL_GOLDENS

COPIED = ("unit_ops.npz", "modern_units.npz", "learning_rates.json", "parameters.json.gz")
#: Golden -> keys to keep.
PARTS = {
    "faster_rcnn_r50_fpn_1x_coco_train": r"meta|\w+/gt/|\w+/rpn/|\w+/aligned/roi/stage0",
    "cascade_rcnn_r50_fpn_1x_coco_train": r"meta|crowd/gt/|crowd/aligned/roi/",
    "mask_rcnn_r50_fpn_1x_coco_train": r"meta|crowd/gt/|crowd/aligned/roi/stage0|crowd/mask/",
    "retinanet_r50_fpn_1x_coco_train": r"meta|\w+/gt/|\w+/assign/|\w+/avg_factor",
    "yolov3_darknet53_270e_coco_train": r"meta|gt/|target\d",
}


def main() -> None:
    """Entry point."""
    for name in COPIED:
        shutil.copyfile(GOLDENS / name, SMALL_GOLDENS / name)
    for name, pattern in PARTS.items():
        arrays = np.load(GOLDENS / f"{name}.npz")
        kept = {key: arrays[key] for key in arrays.files if re.match(pattern, key)}
        np.savez_compressed(SMALL_GOLDENS / f"{name}.npz", **kept)
    if sys.argv[1:] == ["networks"]:
        lines = [f"{json.dumps(name)}: {json.dumps(recorded(name))}" for name in NETWORKS]
        text = "{\n" + ",\n".join(lines) + "\n}\n"
        (SMALL_GOLDENS / "networks.json").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
