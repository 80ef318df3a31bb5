"""Protects the training data of PP-YOLOE: the reference's draws, replayed through our transforms, give its
images after every step and its boxes; single operations give its numbers.

Images are compared at samples, within one grey level: that is what another libjpeg changes.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Optional

import numpy as np
import pytest

from ppdet.data.datasets.coco import COCODataSet
from ppdet.data.transforms.base import Transform
from ppdet.data.transforms.color import DistortParams, RandomDistort, distort
from ppdet.data.transforms.crop import CropParams, RandomCrop
from ppdet.data.transforms.decode import Decode
from ppdet.data.transforms.expand import ExpandParams, RandomExpand
from ppdet.data.transforms.flip import RandomFlip
from ppdet.data.transforms.normalize import NormalizeImage
from ppdet.data.transforms.resize import ResizeParams, resize
from ppdet.structures import Sample
from tests.parity.rcnn_support import resized_image
from tests.support import TINY_COCO, load_golden, reference_module, requires_shared

pytestmark = requires_shared

golden = functools.cache(lambda: load_golden("modern_data"))
FILES = ("000000386912.jpg", "000000303818.jpg")
SIZES = tuple(range(320, 769, 32))
DETR_SIZES = [480, 512, 544, 576, 608, 640, 640, 640, 672, 704, 736, 768, 800]
FILL = [123.675, 116.28, 103.53]


@functools.cache
def input_image() -> np.ndarray:
    return resized_image("yolo", "000000386912.jpg")


@pytest.mark.parametrize("key", [k for k in golden()[0].files if k.startswith("distort/") and "sha256" in k])
def test_distortions_equal_the_golden_bit_by_bit(key: str) -> None:
    _, name, amount, _ = key.split("/")
    ours = distort(input_image(), [(name, float(amount))])
    assert ours.dtype == np.float32
    whole = np.ascontiguousarray(ours.astype(np.uint8))
    assert hashlib.sha256(whole.tobytes()).digest() == golden()[0][key].tobytes()


def assert_image(image: Optional[np.ndarray], key: str, tolerance: float = 1.0) -> None:
    arrays, _ = golden()
    assert image is not None
    assert list(image.shape) == arrays[f"{key}/shape"].tolist(), key
    expected = arrays[f"{key}/sample"]
    ours = reference_module("modern_weights").sample_values(image, 600)
    assert len(ours) == len(expected)
    error = np.abs(ours.astype(np.float64) - expected)
    assert error.max() <= tolerance, key
    assert (error > 0.1 * tolerance).mean() < 0.02, key
    mean, deviation, _, _ = arrays[f"{key}/stats"]
    np.testing.assert_allclose([image.mean(), image.std()], [mean, deviation], rtol=1e-3, err_msg=key)


def draws_of(run: str, step: str) -> Iterator[Any]:
    """Values of a step in the order drawn, without their names."""
    return iter([value for name, _, _, value in golden()[1]["draws"][run] if name == step])


def distortion(values: Iterator[Any], prob: float) -> DistortParams:
    if next(values) > prob:
        return DistortParams((), (0, 1, 2))
    operations = []
    for name in next(values):
        if next(values) >= 0.5:
            operations.append((name.removeprefix("apply_"), next(values)))
    return DistortParams(tuple(operations), (0, 1, 2))


def expansion(values: Iterator[Any], image: np.ndarray) -> Optional[ExpandParams]:
    if next(values) < 0.5:
        return None
    ratio = next(values)
    offset = list(values)
    size = (int(image.shape[0] * ratio), int(image.shape[1] * ratio))
    return ExpandParams(size, (offset[0], offset[1])) if offset else None


def crop(values: Iterator[Any], before: np.ndarray, after: list[int]) -> Optional[CropParams]:
    """The last crop tried, if the golden's image has another size than before."""
    if list(before.shape) == after:
        return None
    y, x = list(values)[-2:]
    return CropParams(x, y, after[1], after[0])


@functools.cache
def images() -> COCODataSet:
    return COCODataSet(
        dataset_dir=str(TINY_COCO),
        image_dir="val2017",
        anno_path="annotations/instances_val2017.json",
        data_fields=["image", "gt_bbox", "gt_class"],
    )


def sample_of(file: str) -> Sample:
    (row,) = [k for k in range(len(images().packed)) if images().packed.name(k) == file]
    return images()[row]


@pytest.mark.parametrize(
    ("run", "sizes", "prob"),
    [
        *((f"ppyoloe_plus/seed{seed}", SIZES, 1.0) for seed in (1, 2, 5)),
        *((f"rtdetr/seed{seed}", DETR_SIZES, 0.8) for seed in (3, 4)),
    ],
)
def test_the_training_chain(run: str, sizes: Sequence[int], prob: float) -> None:
    arrays, _ = golden()
    samples = []
    for i, file in enumerate(FILES):
        sample = Decode()(sample_of(file), np.random.default_rng(0))
        for name, transform in (
            ("RandomDistort", RandomDistort()),
            ("RandomExpand", RandomExpand(fill_value=FILL)),
            ("RandomCrop", RandomCrop()),
            ("RandomFlip", RandomFlip()),
        ):
            values, key = draws_of(run, f"{i}/{name}"), f"{run}/{i}/{name}"
            assert sample.image is not None
            params: Any = {
                "RandomDistort": lambda values=values: distortion(values, prob),
                "RandomExpand": lambda values=values, s=sample: expansion(values, s.image),
                "RandomCrop": lambda values=values, s=sample, key=key: crop(
                    values, s.image, arrays[f"{key}/image/shape"].tolist()
                ),
                "RandomFlip": lambda values=values: next(values) < 0.5,
            }[name]()
            step: Transform[Any] = transform
            sample = step.apply(sample, params)
            assert_image(sample.image, f"{key}/image")
            assert sample.image is not None
            assert sample.image.dtype == np.float32
        # Boxes are compared at the end only: later steps of the reference change them where they were stored.
        assert sample.target is not None
        assert sample.target.labels.tolist() == arrays[f"{key}/gt_class"][:, 0].tolist()
        samples.append(sample)
    choices = draws_of(run, "batch/BatchRandomResize")
    side, interpolation = sizes[next(choices)], next(choices)
    for i, sample in enumerate(samples):
        resized = resize(sample, ResizeParams((side, side), False, interpolation))
        key = f"{run}/batch/BatchRandomResize/{i}"  # its image was divided by 255 where it was stored
        assert resized.target is not None
        boxes = np.clip(resized.target.boxes, 0, side)
        expected = arrays[f"{key}/gt_bbox"]
        if run.startswith("rtdetr"):  # these were made centre and size in units of the image
            middle, half = expected[:, :2] * side, expected[:, 2:] * side / 2
            expected = np.concatenate([middle - half, middle + half], axis=1)
        np.testing.assert_allclose(boxes, expected, rtol=0, atol=1e-3)
        normalized = NormalizeImage(norm_type="none")(resized, np.random.default_rng(0))
        assert_image(normalized.image, f"{run}/batch/NormalizeImage/{i}/image", tolerance=1 / 255)


@pytest.mark.parametrize("norm_type", ["none", "mean_std"])
def test_normalisation(norm_type: str) -> None:
    step = NormalizeImage(norm_type=norm_type)
    done = step(Sample(image_id=0, path="x", image=input_image()), np.random.default_rng(0))
    assert_image(done.image, f"normalize_{norm_type}", tolerance=1e-5)
