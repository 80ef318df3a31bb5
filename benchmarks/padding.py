"""Share of a training batch that is padding, with and without `group_by_aspect_ratio`.

    python benchmarks/padding.py ANNOTATIONS.json [--batch 2 4 8]

Only sizes are read: the images of an epoch are resized to short side 800, long side 1333, and padded to the
largest of their batch and to a multiple of 32, as the R-CNN FPN readers do.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppdet.data.sampler import Sampler
from ppdet.data.transforms.pad import PadBatch
from ppdet.data.transforms.resize import ResizeParams, resized_size

EPOCHS = 20


def padded_share(sizes: np.ndarray, batch_size: int, *, grouped: bool) -> float:
    """Share of all pixels of some epochs that is padding.

    Args:
        sizes: ``[I, 2]`` (height, width).
        batch_size: Images per batch.
        grouped: With `group_by_aspect_ratio`.
    """
    groups = (sizes[:, 1] > sizes[:, 0]).astype(np.int64) if grouped else None
    sampler = Sampler(len(sizes), batch_size, 0, True, True, True, groups=groups)
    params = ResizeParams((800, 1333), True, 2)
    pad = PadBatch(pad_to_stride=32)
    content = total = 0
    for epoch in range(EPOCHS):
        for plan in sampler.batches(epoch):
            resized = [resized_size(tuple(sizes[image].tolist()), params) for image in plan.images]
            height, width = pad.size_of(resized)
            content += sum(h * w for h, w in resized)
            total += batch_size * height * width
    return 1 - content / total


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("annotations", type=Path)
    parser.add_argument("--batch", type=int, nargs="+", default=[2, 4, 8], help="images per batch")
    args = parser.parse_args()
    rows = json.loads(args.annotations.read_text("utf-8"))["images"]
    sizes = np.array([[row["height"], row["width"]] for row in rows])
    print(f"{len(sizes)} images, {EPOCHS} epochs\n\n| Images per batch | as drawn | grouped |\n|---|---|---|")
    for batch in args.batch:
        shares = [100 * padded_share(sizes, batch, grouped=grouped) for grouped in (False, True)]
        print(f"| {batch} | {shares[0]:.1f} % | {shares[1]:.1f} % |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
