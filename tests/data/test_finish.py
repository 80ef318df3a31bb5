"""Protects that the last steps on pixels give the same bits wherever they run, and which steps may move."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import paddle
import pytest

from ppdet.data.batching import collate
from ppdet.data.finish import Finish, normalize_batch, parts_of
from ppdet.data.loader import to_batch
from ppdet.data.transforms.base import Step, Transform
from ppdet.data.transforms.decode import Decode
from ppdet.data.transforms.flip import RandomFlip
from ppdet.data.transforms.normalize import NormalizeImage, Permute
from ppdet.data.transforms.pad import Pad, PadBatch
from ppdet.data.transforms.yolo_format import PadBox
from ppdet.structures import Sample
from ppdet.utils.errors import DataError

rng = np.random.default_rng(0)


def samples_of(*shapes: tuple[int, int], dtype: str = "uint8") -> list[Sample]:
    """Images of random pixels; floats are between whole numbers and leave 0..255."""
    images = [rng.integers(0, 256, (*shape, 3)).astype(dtype) for shape in shapes]
    if dtype != "uint8":
        images = [image * 1.3 - 20.25 for image in images]
    return [
        Sample(image_id=k, path=f"{k}.jpg", image=image, image_size=tuple(map(float, image.shape[:2])))  # type: ignore[arg-type]
        for k, image in enumerate(images)
    ]


def as_written(samples: Sequence[Sample], *steps: Step) -> np.ndarray:
    """What the steps give one after the other on the host."""
    batch = list(samples)
    for step in steps:
        batch = step.run(batch, rng)
    return np.stack([sample.image for sample in batch if sample.image is not None])


NORMALIZE = {
    "usual": NormalizeImage(),
    "0..255": NormalizeImage(mean=[123.7, 116.3, 103.5], std=[1, 1, 1], is_scale=False),
    "none": NormalizeImage(norm_type="none"),
}


@pytest.mark.parametrize("dtypes", [("uint8", "uint8"), ("float32", "float32"), ("uint8", "float32")])
@pytest.mark.parametrize("name", NORMALIZE)
def test_pixels_are_those_of_the_steps_bit_for_bit(name: str, dtypes: tuple[str, str]) -> None:
    normalize, pad = NORMALIZE[name], PadBatch(pad_to_stride=8)
    samples = [*samples_of((5, 9), dtype=dtypes[0]), *samples_of((11, 4), dtype=dtypes[1])]
    expected = as_written(samples, normalize, Permute(), pad)
    finish = Finish(normalize, pad)
    arrays = collate(samples, with_masks=False, finish=finish)
    assert arrays["images"].shape == (2, 16, 16, 3)
    assert arrays["images"].dtype == ("uint8" if set(dtypes) == {"uint8"} else "float32")
    np.testing.assert_array_equal(to_batch(arrays, finish).images.numpy(), expected)
    # The way of a GPU, on this machine's device.
    there = [paddle.to_tensor(arrays[key]) for key in ("images", "content_sizes")]
    on_device = normalize_batch(*there, normalize.mean, normalize.std, float(normalize.scale))
    np.testing.assert_array_equal(on_device.numpy(), expected)


def test_tensors_of_a_loading_process_are_taken_too() -> None:
    finish = Finish(NormalizeImage(), None)
    arrays = finish.stack([sample.image for sample in samples_of((4, 6))])  # type: ignore[misc]
    tensors = {name: paddle.to_tensor(value) for name, value in arrays.items()}
    np.testing.assert_array_equal(finish(**tensors).numpy(), finish(**arrays).numpy())


def test_images_that_make_no_batch() -> None:
    images = [sample.image for sample in samples_of((4, 6), (6, 4))]
    with pytest.raises(DataError, match=r"differ in shape.*PadBatch"):
        Finish(NormalizeImage(), None).stack(images)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"expect images \[H, W, 3\]"):
        Finish(NormalizeImage(), None).stack([np.zeros((3, 4, 5), np.uint8)])


class OwnPad(PadBatch):
    """A class that may do anything."""


DECODE, FLIP, NORM, PERMUTE = Decode(), RandomFlip(), NormalizeImage(), Permute()
PAD, BOX = PadBatch(pad_to_stride=32), PadBox()


@pytest.mark.parametrize(
    ("samples", "batch", "left"),
    [
        ([DECODE, FLIP, NORM, PERMUTE], [PAD], ([DECODE, FLIP], [], PAD)),
        ([DECODE, FLIP], [BOX, NORM, PERMUTE], ([DECODE, FLIP], [BOX], None)),
        ([DECODE, NORM], [PERMUTE, BOX, PAD], ([DECODE], [BOX], PAD)),
        ([DECODE, NORM, PERMUTE], [], ([DECODE], [], None)),
    ],
)
def test_usual_steps_are_left_for_the_model(
    samples: list[Transform], batch: list[Step], left: tuple[list[Step], list[Step], PadBatch]
) -> None:
    parts = parts_of(samples, batch)
    assert (parts.samples, parts.batch) == left[:2]
    assert parts.finish == Finish(NORM, left[2])


@pytest.mark.parametrize(
    ("samples", "batch"),
    [
        ([DECODE], []),
        ([DECODE, NORM], [PAD]),  # no Permute
        ([DECODE, PERMUTE, NORM], [PAD]),
        ([DECODE, NORM, FLIP, PERMUTE], [PAD]),  # the flip sees normalised pixels
        ([DECODE, NORM, PERMUTE, NormalizeImage()], [PAD]),
        ([DECODE, NORM, Pad(size=32), PERMUTE], []),
        ([DECODE, NORM, PERMUTE], [OwnPad(pad_to_stride=32)]),
        ([DECODE, NORM, PERMUTE], [PAD, PadBatch()]),
    ],
)
def test_any_other_order_runs_as_it_is_written(samples: list[Transform], batch: list[Step]) -> None:
    assert parts_of(samples, batch) == (samples, batch, None)
