"""What two processes do in `test_detr_training`: losses and gradients of one image each."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import paddle
import paddle.distributed as dist

from ppdet.modeling.transformers.denoising import DenoisingDraws
from ppdet.structures import Batch, BatchTargets
from tests.modeling.small_detr import small_detr
from tests.modeling.small_rcnn import small_batch

#: Objects of two images and `num_denoising`. Denoising queries are padded to the image with most objects of
#: a process, so with them both have the same number.
CASES = {
    "one_empty": ([[[10.0, 10.0, 50.0, 40.0], [60.0, 5.0, 90.0, 60.0], [5.0, 5.0, 40.0, 60.0]], []], 0),
    "denoising": ([[[10.0, 10.0, 50.0, 40.0], [60.0, 5.0, 90.0, 60.0]], [[5.0, 5.0, 40.0, 60.0]] * 2], 10),
}


class SharedDraws(DenoisingDraws):
    """The draws of two images, of which a process takes its own."""

    images = slice(0, 2)

    @classmethod
    def of(cls, images: int, queries: int, num_classes: int) -> DenoisingDraws:
        """The same for every number of processes."""
        paddle.seed(7)
        whole = DenoisingDraws.of(2, queries, num_classes)
        mine = [value[cls.images] for value in (whole.flips, whole.labels, whole.signs, whole.magnitudes)]
        assert mine[0].shape[0] == images
        return DenoisingDraws(*mine)


def step_of(images: slice, folder: Path, name: str) -> None:
    """Losses and gradients of some of the two images, into a file per case."""
    from ppdet.modeling.transformers import rtdetr

    SharedDraws.images = images
    rtdetr.DenoisingDraws = SharedDraws  # type: ignore[misc]
    for case, (boxes, num_denoising) in CASES.items():
        paddle.seed(3)
        model = small_detr(num_denoising=num_denoising)
        model.eval()  # statistics of a batch are of one process
        whole = small_batch(boxes)
        assert whole.targets is not None
        keys = ("boxes", "labels", "is_crowd", "weights")
        batch = Batch(
            **{key: getattr(whole, key)[images] for key in ("images", "image_sizes", "scale_factors")},
            image_ids=whole.image_ids[images],
            paths=whole.paths[images],
            targets=BatchTargets(**{key: getattr(whole.targets, key)[images] for key in keys}),
        )
        losses = model(batch)
        paddle.add_n(list(losses.values())).backward()
        values = {key: value.numpy() for key, value in losses.items()}
        for key, parameter in model.named_parameters():
            if parameter.grad is not None:
                values[f"gradient of {key}"] = parameter.grad.numpy()
        np.savez(folder / f"{case}_{name}.npz", **values)


if __name__ == "__main__":
    dist.init_parallel_env()
    rank = dist.get_rank()
    step_of(slice(rank, rank + 1), Path(sys.argv[1]), f"rank{rank}")
