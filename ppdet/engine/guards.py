"""Numbers that are not finite and memory that does not suffice, reported with the images concerned.

A check reads from the device and so waits for it. On a CPU that costs nothing, and every step is checked
before its update. On a GPU losses are read with the log, every `log_iter` steps, unless steps may be skipped
(`max_skipped`): then every step is checked there too. Before a checkpoint is written, losses up to it have
been read, and the weights, which are on the host by then, are checked themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import paddle
from paddle import Tensor, nn

from ppdet.engine.state_dicts import to_numpy
from ppdet.structures import Batch
from ppdet.utils.errors import TrainingError


class NonFiniteError(TrainingError):
    """A loss or gradient is not a finite number."""


def gradients_finite(model: nn.Layer) -> Tensor:
    """A bool scalar on the device: whether every gradient is finite. A sum is, if all its terms are."""
    sums = [p.grad.sum().astype("float32") for p in model.parameters() if p.grad is not None]
    return paddle.isfinite(paddle.stack(sums)).all() if sums else paddle.to_tensor(True)


def check_weights(model: nn.Layer, weights: Mapping[str, np.ndarray], step: int) -> None:
    """Check what is about to be saved: gradients can spoil weights though every loss was finite.

    Args:
        model: Says which entries are parameters; buffers may hold any constant.
        weights: State dict on the host.
        step: For the message.

    Raises:
        NonFiniteError: If a parameter is not finite; names it and what finds the step that did it.
    """
    names = [name for name, _ in model.named_parameters() if name in weights]
    bad = [name for name in names if not np.isfinite(weights[name]).all()]
    if bad:
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise NonFiniteError(
            f"step {step}: weights are not finite: {', '.join(bad[:3])}{more}. They are not saved. Resume "
            "(-r) the last checkpoint with max_skipped: 1, which checks the gradients of each step and keeps "
            "the batch that causes it"
        )


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
