"""What two processes do in `test_ppyoloe`: the losses of one image each; run by paddle.distributed.launch."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import paddle
import paddle.distributed as dist

from ppdet.structures import BatchTargets
from tests.modeling.test_ppyoloe import head_of, random_outputs
from tests.modeling.test_soft_assign import targets_of

#: Twelve objects in the first image: the sum of their scores is above 2, so that no divisor is cut at 1.
BOXES = [[8.0 * i, 6.0 * i, 50.0 + 6.3 * i, 46.0 + 6.9 * i] for i in range(12)]
OBJECTS = ([BOXES, [[0.0] * 4] * 12], [[i % 3 for i in range(12)], [-1] * 12])


def losses_of(images: slice, folder: Path, name: str) -> None:
    """Losses of some of two images, the second of which has no objects, and a gradient, into a file."""
    whole, targets = random_outputs(3), targets_of(*OBJECTS)
    maps = [[x[images] for x in part] for part in whole]
    maps[0][2].stop_gradient = False
    mine = BatchTargets(
        *(getattr(targets, key)[images] for key in ("boxes", "labels", "is_crowd", "weights"))
    )
    losses = head_of().losses(type(whole)(*maps), mine)
    paddle.add_n(list(losses.values())).backward()
    values = {key: value.numpy() for key, value in losses.items()}
    np.savez(folder / f"{name}.npz", gradient=maps[0][2].grad.numpy(), **values)


if __name__ == "__main__":
    dist.init_parallel_env()
    rank = dist.get_rank()
    losses_of(slice(rank, rank + 1), Path(sys.argv[1]), f"rank{rank}")
