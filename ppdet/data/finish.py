"""The last steps of a reader on pixels, once per batch and where the model runs.

Loading processes hand on what they read: bytes, in rows of pixels. A batch of bytes takes a quarter of the
memory and of the way to the device; turning it into what a backbone takes is a few operations there.

Letters: N images, H, W height and width of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import numpy as np

from ppdet.data.transforms.base import Step, Transform
from ppdet.data.transforms.normalize import NormalizeImage, Permute
from ppdet.data.transforms.pad import PadBatch
from ppdet.data.transforms.yolo_format import TargetStep
from ppdet.utils.device import to_device
from ppdet.utils.errors import DataError

if TYPE_CHECKING:
    from paddle import Tensor


@dataclass(frozen=True)
class Finish:
    """`NormalizeImage`, `Permute` and, where there is one, `PadBatch`, on whole batches.

    Attributes:
        normalize: Mean, deviation and scale.
        pad: Common size of the images of a batch; None where they have one already.
    """

    normalize: NormalizeImage
    pad: Optional[PadBatch]

    def stack(self, images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """The first half, in a loading process: one array of all images.

        Args:
            images: N images ``[h, w, 3]``, of any dtype.

        Returns:
            ``images [N, H, W, 3]``, uint8 if all are and else float32, zeros at the right and bottom; and
            ``content_sizes [N, 2]`` int64 (height, width) of what is not padding.

        Raises:
            DataError: If images differ in size and nothing pads them, or one has no three channels.
        """
        shapes = [image.shape for image in images]
        if any(shape[2] != 3 for shape in shapes):
            raise DataError(f"NormalizeImage and Permute expect images [H, W, 3], got shapes {shapes[:4]}")
        sizes = [(shape[0], shape[1]) for shape in shapes]
        if self.pad is None and len(set(sizes)) > 1:
            raise differing_sizes(shapes)
        height, width = sizes[0] if self.pad is None else self.pad.size_of(sizes)
        dtype = np.uint8 if all(image.dtype == np.uint8 for image in images) else np.float32
        stacked = np.zeros((len(images), height, width, 3), dtype)
        for canvas, image in zip(stacked, images):
            canvas[: image.shape[0], : image.shape[1]] = image
        return {"images": stacked, "content_sizes": np.array(sizes, np.int64)}

    def __call__(self, images: Any, content_sizes: Any) -> Tensor:
        """The second half, where the model runs: ``[N, 3, H, W]`` float32, normalised, zeros in the padding.

        Args:
            images: As `stack` gives them, as array or tensor.
            content_sizes: As `stack` gives them.
        """
        import paddle

        if paddle.get_device() != "cpu":
            steps = self.normalize
            return normalize_batch(
                images if isinstance(images, paddle.Tensor) else to_device(images),
                content_sizes if isinstance(content_sizes, paddle.Tensor) else to_device(content_sizes),
                steps.mean,
                steps.std,
                float(steps.scale),
            )
        # Tables and planes take a sixth of the time of the operators on a CPU, and give the same bits.
        pixels, sizes = (
            value if isinstance(value, np.ndarray) else value.numpy() for value in (images, content_sizes)
        )
        planes: Any = self._planes(pixels, sizes)  # NumPy 2.0 types its DLPack method otherwise than Paddle
        return paddle.utils.dlpack.from_dlpack(planes)  # without a copy

    def _planes(self, images: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        planes = np.empty((len(images), 3, *images.shape[1:3]), np.float32)
        for image, canvas, (height, width) in zip(images, planes, sizes.tolist()):
            canvas[:, height:] = canvas[:, :height, width:] = 0
            self.normalize.to_planes(image[:height, :width], canvas[:, :height, :width])
        return planes


class Parts(NamedTuple):
    """The steps of a reader by where they run.

    Attributes:
        samples: On each image, while loading.
        batch: On the images of a batch, while loading.
        finish: On the batch, where the model runs; None if the reader's order of steps does not allow it.
    """

    samples: list[Transform]
    batch: list[Step]
    finish: Optional[Finish]


def parts_of(samples: Sequence[Transform], batch: Sequence[Step]) -> Parts:
    """Take the last steps on pixels off a reader's transforms, if they are the usual ones.

    They are where `NormalizeImage` and then `Permute` are followed by nothing that touches pixels but
    `PadBatch`. A reader that has them in another place, or twice, or not in every epoch, or other classes
    after them, runs as it is written.
    """
    steps = [*samples, *batch]
    kinds = [type(step) for step in steps]
    plain = Parts(list(samples), list(batch), None)
    if kinds.count(NormalizeImage) != 1 or kinds.count(Permute) != 1 or kinds.count(PadBatch) > 1:
        return plain
    first = kinds.index(NormalizeImage)
    after = [step for step in steps[first + 1 :] if not isinstance(step, TargetStep)]
    if [type(step) for step in after] not in ([Permute], [Permute, PadBatch]):
        return plain
    if any(step.limited for step in (steps[first], *after)):
        return plain
    normalize, pad = steps[first], after[1] if len(after) > 1 else None
    taken = {id(normalize), *(id(step) for step in after)}
    return Parts(
        [step for step in samples if id(step) not in taken],
        [step for step in batch if id(step) not in taken],
        Finish(normalize, pad),  # type: ignore[arg-type]  # the lists of types above say so
    )


def differing_sizes(shapes: Sequence[tuple[int, ...]]) -> DataError:
    """The error of images that make no batch."""
    shown = ", ".join(map(str, shapes[:4]))
    return DataError(f"images of one batch differ in shape: {shown}. Add PadBatch to batch_transforms")


def normalize_batch(images: Tensor, sizes: Tensor, mean: Any, std: Any, scale: float) -> Tensor:
    """Normalise on the device.

    Args:
        images: ``[N, H, W, 3]`` uint8 or float32.
        sizes: ``[N, 2]`` (height, width) of what is not padding.
        mean: Three values, in the unit of `std`.
        std: Three values.
        scale: Factor on the pixels before.

    Returns:
        ``[N, 3, H, W]`` float32, zeros in the padding.
    """
    import paddle

    pixels = paddle.transpose(images, [0, 3, 1, 2]).astype("float32")
    means, stds = (paddle.to_tensor(v, dtype="float32").reshape([1, 3, 1, 1]) for v in (mean, std))
    pixels = (pixels * scale - means) / stds
    rows = paddle.arange(paddle.shape(images)[1], dtype="float32").reshape([1, 1, -1, 1])
    columns = paddle.arange(paddle.shape(images)[2], dtype="float32").reshape([1, 1, 1, -1])
    ends = sizes.astype("float32")
    inside = (rows < ends[:, 0].reshape([-1, 1, 1, 1])) & (columns < ends[:, 1].reshape([-1, 1, 1, 1]))
    return pixels * inside.astype("float32")
