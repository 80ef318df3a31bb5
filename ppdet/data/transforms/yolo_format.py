"""Steps that 2.x needs to shape YOLO targets and that the batching and the model make unnecessary here.

A batch holds boxes as xyxy in pixels, padded, for every family; the YOLO head makes its targets from them.
The names stay valid, so that a 2.x YAML reads on, and each does what is left to do.
"""

from __future__ import annotations

import numpy as np

from ppdet.config.ranges import PositiveInt
from ppdet.data.transforms.base import Transform
from ppdet.structures import Sample


class TargetStep(Transform[None]):
    """A step that leaves the pixels alone."""


class _NothingLeft(TargetStep):
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


class PadBox(TargetStep):
    """In 2.x: pads or cuts the objects of an image to one number. Batching pads; the cutting is left.

    Args:
        num_max_boxes: Most objects of an image; the first so many stay.
    """

    def __init__(self, *, num_max_boxes: PositiveInt = 50) -> None:
        self.num_max_boxes = num_max_boxes

    def apply(self, sample: Sample, params: None) -> Sample:
        """Keep the first objects."""
        del params
        target = sample.target
        if target is None or len(target) <= self.num_max_boxes:
            return sample
        return sample.replace(target=target.select(np.arange(self.num_max_boxes)))


class Gt2YoloTarget(_NothingLeft):
    """In 2.x: makes the targets of the YOLO head. Here the head does, from its own anchors.

    Anchors, masks and strides that a YAML repeats here must agree with the head; the configuration compares
    them, and moves ``iou_thresh`` to `YOLOv3Loss` (`ppdet.config.compat`).
    """
