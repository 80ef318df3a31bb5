"""Figures of a dataset that decide about anchors, input size and schedule."""

from __future__ import annotations

from typing import Any

import numpy as np

from ppdet.data.datasets.base import AnnotatedDataset

#: COCO's limits between small, medium and large objects: areas in square pixels.
_AREAS = (32**2, 96**2)


def dataset_stats(dataset: AnnotatedDataset) -> dict[str, Any]:
    """Counts of images, objects, objects per class and size; quantiles of image and box sides in pixels."""
    packed = dataset.packed
    counts = packed.object_counts()
    boxes = packed.boxes[~packed.is_crowd]
    sides = boxes[:, 2:] - boxes[:, :2]
    areas = sides.prod(axis=1)
    per_class = np.bincount(packed.labels, minlength=len(dataset.categories))
    return {
        "images": len(packed),
        "images_without_objects": int((counts == 0).sum()),
        "objects": len(packed.boxes),
        "crowd_regions": int(packed.is_crowd.sum()),
        "objects_per_image_max": int(counts.max()),
        "objects_by_size": {
            "small": int((areas < _AREAS[0]).sum()),
            "medium": int(((areas >= _AREAS[0]) & (areas < _AREAS[1])).sum()),
            "large": int((areas >= _AREAS[1]).sum()),
        },
        "image_height": quantiles(packed.sizes[:, 0]),
        "image_width": quantiles(packed.sizes[:, 1]),
        "box_height": quantiles(sides[:, 1]),
        "box_width": quantiles(sides[:, 0]),
        "objects_by_class": dict(zip(dataset.categories.names, per_class.tolist())),
    }


def quantiles(values: np.ndarray) -> list[float]:
    """Smallest, first quartile, median, third quartile and largest; empty for no values."""
    if len(values) == 0:
        return []
    return [round(float(value), 1) for value in np.quantile(values, [0, 0.25, 0.5, 0.75, 1])]
