"""Inputs of the R-CNN goldens, and comparisons by the goldens' own rules."""

from __future__ import annotations

import functools
from typing import Any

import cv2
import numpy as np
import paddle
from paddle import Tensor

from ppdet.structures import Batch, BatchTargets, PolygonBatch
from tests.support import GOLDENS, TINY_COCO, load_golden, reference_module

_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)


@functools.lru_cache(maxsize=4)
def golden(name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and meta of a golden file, read once."""
    arrays, meta = load_golden(name)
    return {key: arrays[key] for key in arrays.files if key != "meta"}, meta


def resized_image(family: str, file: str) -> np.ndarray:
    """The resized RGB uint8 image a golden was made from."""
    path = GOLDENS / "inputs" / f"{family}_{file.split('.')[0]}.png"
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def normalised_batch(images: list[np.ndarray], stride: int) -> np.ndarray:
    """``[N, 3, H, W]`` float32, normalised, then padded with zeros to a multiple of `stride`."""
    height = -(-max(i.shape[0] for i in images) // stride) * stride
    width = -(-max(i.shape[1] for i in images) // stride) * stride
    batch = np.zeros((len(images), 3, height, width), np.float32)
    for row, image in zip(batch, images):
        values = (image.astype(np.float32) / np.float32(255) - _MEAN) / _STD
        row[:, : image.shape[0], : image.shape[1]] = values.transpose(2, 0, 1)
    return batch


#: What a comparison found: what was compared, unit of the error, error, tolerance.
Measured = tuple[str, str, float, float]


def assert_sampled(
    actual: Tensor, arrays: dict[str, np.ndarray], key: str, tolerance: float = 1e-4
) -> list[Measured]:
    """A tensor equals the sampled golden `key`: error at most `tolerance` standard deviations."""
    values = actual.numpy()
    assert list(values.shape) == arrays[f"{key}/shape"].tolist(), key
    mean, std, low, high = arrays[f"{key}/stats"]
    sample = arrays[f"{key}/sample"]
    count = 500 if len(sample) <= 500 else 1000
    error = np.abs(reference_module().sample_values(values, count) - sample).max()
    assert error <= tolerance * std, f"{key}: error {error / std:.1e} standard deviations"
    actual_stats = [values.mean(dtype=np.float64), values.std(dtype=np.float64), values.min(), values.max()]
    worst = np.abs(np.array(actual_stats) - [mean, std, low, high]).max()
    assert worst <= 10 * tolerance * std, (
        f"{key}: statistics {actual_stats}, expected {(mean, std, low, high)}"
    )
    return [(key, "standard deviations", float(error / std), tolerance)]


def assert_same_regions(actual: np.ndarray, expected: np.ndarray, *, share: float = 0.99) -> list[Measured]:
    """Two sets of boxes agree: at least `share` of each have a partner within 0.01 pixels."""
    distance = np.abs(actual[:, None] - expected[None]).max(axis=2)
    alone = 0.0
    for axis, what in ((1, "ours"), (0, "the golden's")):
        matched = (distance.min(axis=axis) <= 0.01).mean()
        assert matched >= share, f"only {matched:.1%} of {what} boxes have a partner"
        alone = max(alone, 1 - float(matched))
    return [("proposals without a partner", "share of all", alone, 1 - share)]


def assert_same_detections(
    actual: np.ndarray, expected: np.ndarray, *, limit: int = 100, score: float = 1e-4
) -> list[Measured]:
    """Rows label, score, x1, y1, x2, y2 agree, in whatever order.

    A partner has the same label, a score within `score` and a box within 0.05 pixels. A row may lack one if
    its score is within 1e-4 of the threshold 0.05, or of the lowest score where the image is full.
    """
    close = (
        (actual[:, None, 0] == expected[None, :, 0])
        & (np.abs(actual[:, None, 1] - expected[None, :, 1]) <= score)
        & (np.abs(actual[:, None, 2:] - expected[None, :, 2:]).max(axis=2) <= 0.05)
    )
    for rows, matched in ((actual, close.any(axis=1)), (expected, close.any(axis=0))):
        lowest = rows[:, 1].min() if len(rows) == limit else 0.05
        excused = np.abs(rows[:, 1] - lowest) <= 1e-4
        assert (matched | excused).all(), f"no partner: {rows[~matched & ~excused]}"
    ours, theirs = actual[np.nonzero(close)[0]], expected[np.nonzero(close)[1]]
    errors = np.abs(ours - theirs).max(axis=0, initial=0)
    return [
        ("detections: score", "absolute", float(errors[1]), score),
        ("detections: box", "pixels", float(errors[2:].max()), 0.05),
    ]


def golden_targets(arrays: dict[str, np.ndarray], run: str, *, masks: bool) -> BatchTargets:
    """Ground truth of both images of a training run, padded."""
    rows = [arrays[f"{run}/gt/{i}/bbox"] for i in range(2)]
    longest = max(1, *(len(r) for r in rows))
    boxes = np.zeros((2, longest, 4), np.float32)
    labels = np.full((2, longest), -1, np.int64)
    crowd = np.zeros((2, longest), bool)
    for i, row in enumerate(rows):
        boxes[i, : len(row)] = row
        labels[i, : len(row)] = arrays[f"{run}/gt/{i}/class"][:, 0]
        crowd[i, : len(row)] = arrays[f"{run}/gt/{i}/is_crowd"][:, 0] > 0
    return BatchTargets(
        boxes=paddle.to_tensor(boxes),
        labels=paddle.to_tensor(labels),
        is_crowd=paddle.to_tensor(crowd),
        weights=paddle.ones(labels.shape),
        polygons=_golden_polygons(arrays, run, longest) if masks else None,
    )


def _golden_polygons(arrays: dict[str, np.ndarray], run: str, longest: int) -> PolygonBatch:
    parts: list[np.ndarray] = []
    owners: list[int] = []
    for i in range(2):
        lengths = arrays[f"{run}/gt/{i}/poly_lengths"]
        points = (
            np.split(arrays[f"{run}/gt/{i}/poly_points"], np.cumsum(lengths)[:-1]) if len(lengths) else []
        )
        parts += [p.reshape(-1, 2) for p in points]
        counts = arrays[f"{run}/gt/{i}/poly_parts"]
        owners += [i * longest + int(n) for n in np.repeat(np.arange(len(counts)), counts)]
    vertices = np.zeros((len(parts), max(len(p) for p in parts), 2), np.float32)
    for row, part in zip(vertices, parts):
        row[: len(part)] = part
        row[len(part) :] = part[-1]
    return PolygonBatch(paddle.to_tensor(vertices), paddle.to_tensor(np.array(owners, np.int64)))


def training_batch(name: str, run: str) -> Batch:
    """Images and ground truth of a training run."""
    arrays, meta = golden(f"{name}_train")
    files = meta["runs"][run]["files"]
    images = normalised_batch([training_image(file) for file in files], 32 if "fpn" in name else 1)
    return Batch(
        images=paddle.to_tensor(images),
        image_sizes=paddle.to_tensor(arrays[f"{run}/im_shape"].astype(np.float32)),
        scale_factors=paddle.ones([2, 2]),
        image_ids=(0, 1),
        paths=tuple(files),
        targets=golden_targets(arrays, run, masks="mask" in name),
    )


def training_image(file: str) -> np.ndarray:
    """The resized image; one of the goldens' has to be made from its JPEG."""
    path = GOLDENS / "inputs" / f"rcnn_{file.split('.')[0]}.png"
    if path.exists():
        return resized_image("rcnn", file)
    image = cv2.cvtColor(cv2.imread(str(TINY_COCO / "val2017" / file)), cv2.COLOR_BGR2RGB)
    scale = min(256 / min(image.shape[:2]), 320 / max(image.shape[:2]))
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
