"""One image on its way through the data pipeline. NumPy only.

Letters: H, W image height and width; G ground-truth objects.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Optional, Union

import numpy as np

from ppdet.structures.checks import check_shape

#: Polygons of one object: each part is a float array ``[V, 2]`` of x, y in pixels.
Polygons = tuple[np.ndarray, ...]
#: COCO run-length mask of one object: ``{"size": [h, w], "counts": bytes}``.
Rle = dict[str, Any]
Mask = Union[Polygons, Rle]


def rle_as_text(mask: Rle) -> Rle:
    """A run-length mask whose counts are text, ready for JSON."""
    counts = mask["counts"]
    text = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return {"size": list(mask["size"]), "counts": text}


@dataclass(frozen=True)
class Target:
    """Ground truth of one image.

    Attributes:
        boxes: ``[G, 4]`` float32, x1 y1 x2 y2 in pixels of the current image.
        labels: ``[G]`` int64 in 0..K-1.
        is_crowd: ``[G]`` bool.
        difficult: ``[G]`` bool; objects that VOC leaves out of its score.
        masks: One `Mask` per object, or None where the task has no masks.
        weights: ``[G]`` float32 mixup weights in (0, 1], or None for all ones.

    Raises:
        ValueError: If a shape does not fit; says which, expected and actual.
    """

    boxes: np.ndarray
    labels: np.ndarray
    is_crowd: np.ndarray
    difficult: Optional[np.ndarray] = None
    masks: Optional[tuple[Mask, ...]] = None
    weights: Optional[np.ndarray] = None

    def __post_init__(self) -> None:
        check_shape("boxes", self.boxes, (None, 4))
        count = len(self.boxes)
        for name in ("labels", "is_crowd", "difficult", "weights"):
            value = getattr(self, name)
            if value is not None:
                check_shape(name, value, (count,))
        if self.masks is not None and len(self.masks) != count:
            raise ValueError(f"masks: expected {count}, got {len(self.masks)}")

    @classmethod
    def empty(cls, *, with_masks: bool = False) -> Target:
        """The target of an image without objects."""
        return cls(
            boxes=np.zeros((0, 4), np.float32),
            labels=np.zeros((0,), np.int64),
            is_crowd=np.zeros((0,), bool),
            masks=() if with_masks else None,
        )

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, index: np.ndarray) -> Target:
        """The objects that `index` names: a bool mask ``[G]`` or an integer array."""
        rows = np.flatnonzero(index) if index.dtype == bool else index

        def pick(array: Optional[np.ndarray]) -> Optional[np.ndarray]:
            return None if array is None else array[rows]

        return Target(
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            is_crowd=self.is_crowd[rows],
            difficult=pick(self.difficult),
            masks=None if self.masks is None else tuple(self.masks[i] for i in rows),
            weights=pick(self.weights),
        )

    def replace(self, **changes: Any) -> Target:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class Sample:
    """One image, before, between and after transforms.

    Attributes:
        image_id: Id in the annotation file, or the running number of a file list.
        path: File the image comes from; errors name it.
        image: ``[H, W, 3]`` RGB, uint8 after decoding; ``[3, H, W]`` float32 once permuted;
            None before decoding.
        original_size: (height, width) of the decoded file.
        image_size: (height, width) of the content now, without padding.
        scale_factor: (y, x): image_size / original_size.
        target: Ground truth, or None at inference.
        partners: Further images for the transforms that join several, in their order; each takes its own from
            the front.
        given_id: Id as the annotation file has it, where that is text or does not fit 64 bits; results give
            it back.
    """

    image_id: int
    path: str
    image: Optional[np.ndarray] = None
    original_size: tuple[int, int] = (0, 0)
    image_size: tuple[float, float] = (0.0, 0.0)
    scale_factor: tuple[float, float] = (1.0, 1.0)
    target: Optional[Target] = None
    partners: tuple[Sample, ...] = ()
    given_id: Union[int, str, None] = None

    def __post_init__(self) -> None:
        if self.image is not None and self.image.ndim != 3:
            raise ValueError(f"{self.path}: image must have 3 dimensions, got shape {self.image.shape}")

    def replace(self, **changes: Any) -> Sample:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)
