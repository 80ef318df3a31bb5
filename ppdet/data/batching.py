"""Samples to the padded arrays of a batch.

Letters: N images, G most objects of an image in the batch, P polygon parts, V most vertices of a part.
"""

from __future__ import annotations

from typing import Any, Optional

import numpy as np

from ppdet.data.finish import Finish, differing_sizes
from ppdet.data.geometry import decode_runs, trace_bitmap
from ppdet.data.transforms.base import pixels
from ppdet.structures import IGNORE_LABEL, Sample, Target
from ppdet.utils.errors import DataError


def collate(samples: list[Sample], *, with_masks: bool, finish: Optional[Finish] = None) -> dict[str, Any]:
    """Stack samples.

    Args:
        samples: N >= 1 transformed samples with images of one shape.
        with_masks: Add the polygons.
        finish: The steps on pixels that are left for `to_batch`; then images may differ in size.

    Returns:
        Arrays by the names of the fields of `Batch`, `BatchTargets` and `PolygonBatch`; ``image_ids`` and
        ``paths`` are lists. Without the targets' arrays if a sample has no target.

    Raises:
        DataError: If images differ in shape or layout.
    """
    images = [pixels(sample) for sample in samples]
    stacked = _stack(images, samples[0].path) if finish is None else finish.stack(images)
    batch: dict[str, Any] = {
        **stacked,
        "image_sizes": np.array([sample.image_size for sample in samples], np.float32),
        "scale_factors": np.array([sample.scale_factor for sample in samples], np.float32),
        "image_ids": [int(sample.image_id) for sample in samples],
        "paths": [sample.path for sample in samples],
    }
    targets = [sample.target for sample in samples if sample.target is not None]
    if len(targets) == len(samples):
        batch.update(_collate_targets(targets, batch["image_sizes"]))
        if with_masks:
            batch.update(collate_polygons(targets))
    return batch


def _stack(images: list[np.ndarray], path: str) -> dict[str, np.ndarray]:
    """Images that are ready for the model, as one array; `path` is of the first."""
    if len({image.shape for image in images}) > 1:
        raise differing_sizes([image.shape for image in images])
    if images[0].shape[0] != 3 or images[0].dtype != np.float32:
        raise DataError(
            f"{path}: image is {images[0].dtype} {images[0].shape}, a batch needs float32 [3, H, W]: add "
            "NormalizeImage and Permute to the transforms"
        )
    return {"images": np.stack(images)}


def _collate_targets(targets: list[Target], image_sizes: np.ndarray) -> dict[str, np.ndarray]:
    """Padded arrays; padded rows have label -1, a zero box and weight 1. G >= 1.

    Boxes end at the border of their image: kernels that sort boxes by size do not survive one of a million
    pixels, and without a `Resize` nothing else cuts it.
    """
    count, most = len(targets), max([1, *(len(target) for target in targets)])
    boxes = np.zeros((count, most, 4), np.float32)
    labels = np.full((count, most), IGNORE_LABEL, np.int64)
    is_crowd = np.zeros((count, most), bool)
    weights = np.ones((count, most), np.float32)
    for row, target in enumerate(targets):
        filled = slice(len(target))
        height, width = image_sizes[row]
        boxes[row, filled] = target.boxes.clip(0, [width, height, width, height])
        labels[row, filled] = target.labels
        is_crowd[row, filled] = target.is_crowd
        if target.weights is not None:
            weights[row, filled] = target.weights
    return {"boxes": boxes, "labels": labels, "is_crowd": is_crowd, "weights": weights}


def collate_polygons(targets: list[Target]) -> dict[str, np.ndarray]:
    """Polygon parts of a batch, ``vertices [P, V, 2]`` and ``owner [P]`` = n * G + g, or -1 in a padded row.

    P, V >= 1. Run-length masks are traced (`trace_bitmap`); crowd regions and objects whose mask was cropped
    away have no part.
    """
    most = max([1, *(len(target) for target in targets)])
    parts: list[np.ndarray] = []
    owners: list[int] = []
    for image, target in enumerate(targets):
        for row, mask in enumerate(target.masks or ()):
            if target.is_crowd[row]:
                continue
            polygons = mask if isinstance(mask, tuple) else trace_bitmap(decode_runs(mask))
            parts += [part for part in polygons if len(part) >= 3]
            owners += [image * most + row] * (len(parts) - len(owners))
    longest = max([1, *(len(part) for part in parts)])
    vertices = np.zeros((max(len(parts), 1), longest, 2), np.float32)
    for row, part in enumerate(parts):
        vertices[row, : len(part)] = part
        vertices[row, len(part) :] = part[-1]
    return {"vertices": vertices, "owner": np.array(owners or [-1], np.int64)}
