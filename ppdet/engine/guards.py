"""Numbers that are not finite and memory that does not suffice, reported with the images concerned.

A check reads from the device and so waits for it. On a CPU that costs nothing, and every step is checked
before its update. On a GPU losses are read with the log, every `log_iter` steps, unless steps may be skipped
(`max_skipped`): then every step is checked there too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import paddle
from paddle import Tensor, nn

from ppdet.engine.files import TrainingError
from ppdet.engine.state import to_numpy
from ppdet.structures import Batch


class NonFiniteError(TrainingError):
    """A loss or gradient is not a finite number."""


def gradients_finite(model: nn.Layer) -> Tensor:
    """A bool scalar on the device: whether every gradient is finite. A sum is, if all its terms are."""
    sums = [p.grad.sum().astype("float32") for p in model.parameters() if p.grad is not None]
    return paddle.isfinite(paddle.stack(sums)).all() if sums else paddle.to_tensor(True)


def suspects(batch: Batch) -> list[str]:
    """Images of a batch whose own numbers are not finite, with what is wrong, for people to read."""
    found = []
    fields = {"image": batch.images, "image size": batch.image_sizes, "scale factor": batch.scale_factors}
    if batch.targets is not None:
        fields["box"] = batch.targets.boxes
        fields["weight"] = batch.targets.weights
    arrays = {name: to_numpy(value) for name, value in fields.items()}
    for i, (image_id, path) in enumerate(zip(batch.image_ids, batch.paths)):
        bad = [name for name, values in arrays.items() if not np.isfinite(values[i]).all()]
        if bad:
            found.append(f"image {image_id} ({path}): {', '.join(bad)} not finite")
    return found


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device or the machine ran out of memory."""
    text = str(error)
    return isinstance(error, MemoryError) or "ResourceExhausted" in text or "Out of memory" in text


def out_of_memory_error(error: BaseException, window: Sequence[Batch]) -> TrainingError:
    """The error that names the shapes of the batches that did not fit."""
    shapes = []
    for batch in window:
        boxes = "" if batch.targets is None else f" with {batch.targets.boxes.shape[1]} boxes"
        shapes.append(f"{tuple(batch.images.shape)}{boxes} (images {', '.join(map(str, batch.image_ids))})")
    return TrainingError(
        f"out of memory on {paddle.get_device()} in a step with {'; '.join(shapes)}. Make "
        "TrainReader.batch_size or the image size smaller; accumulate: 2 keeps the total batch. "
        f"{str(error).strip()[-300:]}"
    )
