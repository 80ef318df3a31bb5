"""Steps that 2.x needs to shape YOLO targets and that the batching and the model make unnecessary here.

A batch holds boxes as xyxy in pixels, padded, for every family; the YOLO head makes its targets from them.
The names stay valid, so that a 2.x YAML reads on, and each does what is left to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import numpy as np

from ppdet.data.transforms.base import BatchTransform, Transform
from ppdet.structures import Sample
from ppdet.utils.errors import DataError


class _NothingLeft(Transform[None]):
    def apply(self, sample: Sample, params: None) -> Sample:
        """Leave the sample as it is."""
        del params
        return sample


class NormalizeBox(_NothingLeft):
    """In 2.x: divides boxes by the image size. Here the head does; nothing is left to do."""


class BboxXYXY2XYWH(_NothingLeft):
    """In 2.x: corners to centre and size. Here the head does; nothing is left to do."""


class PadGT(_NothingLeft):
    """In 2.x: pads ground truth to one length. Batching always does; nothing is left to do."""


class PadBox(Transform[None]):
    """In 2.x: pads or cuts the objects of an image to one number. Batching pads; the cutting is left.

    Args:
        num_max_boxes: Most objects of an image; the first so many stay.
    """

    def __init__(self, *, num_max_boxes: int = 50) -> None:
        self.num_max_boxes = num_max_boxes

    def apply(self, sample: Sample, params: None) -> Sample:
        """Keep the first objects."""
        del params
        target = sample.target
        if target is None or len(target) <= self.num_max_boxes:
            return sample
        return sample.replace(target=target.select(np.arange(self.num_max_boxes)))


class Gt2YoloTarget(BatchTransform[None]):
    """In 2.x: makes the targets of the YOLO head. Here the head does, from its own anchors.

    What the transform states must agree with the head: whoever builds both calls `check_agrees`.

    Args:
        anchors: (width, height) of every anchor, in pixels.
        anchor_masks: Indices of the anchors of each level, coarsest level first.
        downsample_ratios: Stride of each level, in pixels.
        num_classes: Number of classes, if stated.
        iou_thresh: Anchors besides the best that answer for an object, by shape IoU; 1 for none.
    """

    def __init__(
        self,
        *,
        anchors: Sequence[Sequence[float]],
        anchor_masks: Sequence[Sequence[int]],
        downsample_ratios: Sequence[int],
        num_classes: Optional[int] = None,
        iou_thresh: float = 1.0,
    ) -> None:
        self.stated: dict[str, Any] = {
            "anchors": [[float(side) for side in anchor] for anchor in anchors],
            "anchor_masks": [list(mask) for mask in anchor_masks],
            "downsample_ratios": list(downsample_ratios),
            "num_classes": num_classes,
            "iou_thresh": iou_thresh,
        }

    def apply(self, samples: list[Sample], params: None) -> list[Sample]:
        """Leave the samples as they are."""
        del params
        return samples

    def check_agrees(
        self,
        *,
        anchors: Sequence[Sequence[float]],
        anchor_masks: Sequence[Sequence[int]],
        downsample_ratios: Sequence[int],
        num_classes: int,
        iou_thresh: float = 1.0,
    ) -> None:
        """Compare with the head.

        Raises:
            DataError: If one differs; names it with both values.
        """
        head: dict[str, Any] = {
            "anchors": [[float(side) for side in anchor] for anchor in anchors],
            "anchor_masks": [list(mask) for mask in anchor_masks],
            "downsample_ratios": list(downsample_ratios),
            "num_classes": num_classes,
            "iou_thresh": iou_thresh,
        }
        for name, value in self.stated.items():
            if value is not None and value != head[name]:
                raise DataError(
                    f"Gt2YoloTarget.{name} is {value}, but the head has {head[name]}. Remove Gt2YoloTarget "
                    "from batch_transforms (the head needs nothing from it), or make them agree"
                )
