"""Annotated objects of a dataset as metrics score against them. NumPy only.

A training `Target` may lack objects (crowd regions, say) and rounds boxes to float32; scores are computed
from the annotations as they are written. Letters: G objects of an image, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional, Union

import numpy as np

from ppdet.structures.checks import check_shape
from ppdet.structures.sample import Mask


@dataclass(frozen=True)
class ImageTruth:
    """Objects of one image.

    Attributes:
        image_id: Id that its detections carry.
        path: File of the image; messages name it.
        size: (height, width) in pixels; zeros where unknown.
        boxes_xywh: ``[G, 4]`` float64 x, y, width, height in pixels of the original image. Width and height
            are kept since (x + width) - x is not always width in floating point, and an overlap meets its
            threshold or misses it by the last digit.
        labels: ``[G]`` int64 in 0..K-1.
        areas: ``[G]`` float64 square pixels: of the annotation, of the mask, or of the box.
        is_crowd: ``[G]`` bool: regions that detections may match any number of times without effect.
        difficult: ``[G]`` bool: objects that VOC leaves out of its score.
        masks: One `Mask` per object, or None.
        given_id: Id as the annotation file has it, where that is another; results give it back.

    Raises:
        ValueError: If a shape does not fit; says which, expected and actual.
    """

    image_id: int
    path: str
    size: tuple[int, int]
    boxes_xywh: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    is_crowd: np.ndarray
    difficult: np.ndarray
    masks: Optional[tuple[Mask, ...]] = None
    given_id: Union[int, str, None] = None

    def __post_init__(self) -> None:
        check_shape("boxes_xywh", self.boxes_xywh, (None, 4))
        count = len(self.boxes_xywh)
        for name in ("labels", "areas", "is_crowd", "difficult"):
            check_shape(name, getattr(self, name), (count,))
        if self.masks is not None and len(self.masks) != count:
            raise ValueError(f"masks: expected {count}, got {len(self.masks)}")

    def __len__(self) -> int:
        """Number of objects."""
        return len(self.boxes_xywh)

    @property
    def boxes(self) -> np.ndarray:
        """``[G, 4]`` float64 x1, y1, x2, y2 in pixels of the original image."""
        corner, size = self.boxes_xywh[:, :2], self.boxes_xywh[:, 2:]
        return np.concatenate([corner, corner + size], axis=1)


@dataclass(frozen=True)
class GroundTruth:
    """Annotated objects of a whole dataset.

    Attributes:
        source: What the annotations come from; messages name it.
        class_names: K names by label.
        category_ids: K ids in the annotation file by label; None for a class that the file does not have.
        images: Each image once.
        with_masks: Whether every object has a mask.

    Raises:
        ValueError: If an image id occurs twice, or names and ids differ in number.
    """

    source: str
    class_names: tuple[str, ...]
    category_ids: tuple[Optional[int], ...]
    images: tuple[ImageTruth, ...]
    with_masks: bool = False

    def __post_init__(self) -> None:
        if len(self.class_names) != len(self.category_ids):
            raise ValueError(f"{len(self.class_names)} class names but {len(self.category_ids)} ids")
        seen: dict[int, str] = {}
        for image in self.images:
            if image.image_id in seen:
                raise ValueError(
                    f"{self.source}: {seen[image.image_id]} and {image.path} both have image_id "
                    f"{image.image_id}; give every image an id of its own"
                )
            seen[image.image_id] = image.path

    def relabelled(self, label_of_own: np.ndarray, class_names: tuple[str, ...]) -> GroundTruth:
        """The same objects with the labels of another class table.

        Args:
            label_of_own: ``[K]`` label there of each label here.
            class_names: Names of the other table.
        """
        ids: list[Optional[int]] = [None] * len(class_names)
        for own, label in enumerate(label_of_own.tolist()):
            ids[label] = self.category_ids[own]
        images = tuple(replace(image, labels=label_of_own[image.labels]) for image in self.images)
        return replace(self, class_names=class_names, category_ids=tuple(ids), images=images)
