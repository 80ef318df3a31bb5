"""Head of the YOLOv3 family and the decoding of its outputs.

Redmon & Farhadi, "YOLOv3: An Incremental Improvement", sections 2.1 to 2.3. Letters: N images, L levels,
A anchors of a level, h, w its grid, R anchors of all cells and levels, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from ppdet.config.spec import Derived, Shared, Spec
from ppdet.modeling.heads.post_process import BoxDecoder, DecodedBoxes
from ppdet.modeling.layers.yolo_grid import decode_maps, split_maps, yolo_levels
from ppdet.modeling.losses.yolo import YOLOv3Loss
from ppdet.ops.boxes import inset_boxes, non_empty
from ppdet.structures import BatchTargets, FeatureShape, box_conventions

#: The paper's nine clusters of COCO box sizes, (width, height) in pixels at an input of 416.
COCO_ANCHORS = (
    (10, 13),
    (16, 30),
    (33, 23),
    (30, 61),
    (62, 45),
    (59, 119),
    (116, 90),
    (156, 198),
    (373, 326),
)


class YOLOv3Head(nn.Layer):
    """A 1x1 convolution per level.

    Args:
        in_shapes: Feature shapes of the neck, coarsest first.
        num_classes: K.
        anchors: (width, height) of all anchors in pixels of the network's input. The loss and the decoding
            take them from here.
        anchor_masks: Numbers of the anchors of each level, coarsest level first.
        loss: The loss.
        iou_aware: Predict the IoU of each box as well, and let it weigh in the score.
        iou_aware_factor: Exponent of the IoU in the score; objectness has the rest, 0..1.

    Raises:
        ValueError: If anchors and masks do not fit the levels (`yolo_levels`).
    """

    def __init__(
        self,
        *,
        in_shapes: Derived[list[FeatureShape]],
        num_classes: Shared[int],
        anchors: Sequence[Sequence[float]] = COCO_ANCHORS,
        anchor_masks: Sequence[Sequence[int]] = ((6, 7, 8), (3, 4, 5), (0, 1, 2)),
        loss: Spec[YOLOv3Loss] = Spec.of(YOLOv3Loss),  # noqa: B008  (a Spec is immutable)
        iou_aware: bool = False,
        iou_aware_factor: float = 0.4,
    ) -> None:
        super().__init__()
        strides = [shape.stride for shape in in_shapes]
        levels = yolo_levels(anchors, anchor_masks, strides)
        facts = {
            "anchors": anchors,
            "anchor_masks": anchor_masks,
            "num_classes": num_classes,
            "iou_aware": iou_aware,
        }
        self.loss = loss.build(downsample=strides, **facts)
        #: What the decoder of these outputs has to know; see `YOLOBox`.
        self.decode_facts: dict[str, Any] = {
            **facts,
            "downsample_ratio": strides[0],
            "scale_x_y": self.loss.scale_x_y,
            "iou_aware_factor": iou_aware_factor,
        }
        values = 5 + num_classes + (1 if iou_aware else 0)
        self.yolo_output = nn.LayerList(
            [
                nn.Conv2D(
                    shape.channels,
                    len(level.anchors) * values,
                    1,
                    # As darknet: weight decay leaves biases alone.
                    bias_attr=paddle.ParamAttr(regularizer=paddle.regularizer.L2Decay(0.0)),
                )
                for shape, level in zip(in_shapes, levels)
            ]
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """L maps of the neck to L maps ``[N, A * (5 + K), h, w]``, laid out as `split_maps` says."""
        return [output(feature) for output, feature in zip(self.yolo_output, features)]

    def losses(self, outputs: list[Tensor], targets: BatchTargets) -> dict[str, Tensor]:
        """Named training losses; see `YOLOv3Loss`."""
        return self.loss(outputs, targets)


class YOLOBox(BoxDecoder):
    """Turns the outputs of `YOLOv3Head` into boxes and scores.

    One thing differs from the conventions of this project because the published scores were measured so:
    boxes are clipped to size - 1 rather than to size. One thing differs from 2.x: the original size is
    resized / scale rounded, not truncated. Truncating a float32 quotient loses a pixel for some sizes (478 at
    an input of 608, say), which squeezes all boxes of such an image.

    Args:
        anchors: From the head.
        anchor_masks: From the head.
        iou_aware: From the head.
        iou_aware_factor: From the head.
        downsample_ratio: Stride of the first output; each further one has half of it. From the head.
        scale_x_y: From the loss.
        conf_thresh: Least objectness.
        clip_bbox: Clip boxes to the image.
        conventions: Name of the box conventions; where boxes name their last pixel, it is added.
    """

    def __init__(
        self,
        *,
        anchors: Derived[Sequence[Sequence[float]]],
        anchor_masks: Derived[Sequence[Sequence[int]]],
        iou_aware: Derived[bool] = False,
        iou_aware_factor: Derived[float] = 0.4,
        downsample_ratio: Derived[int] = 32,
        scale_x_y: Derived[float] = 1.0,
        conf_thresh: float = 0.005,
        clip_bbox: bool = True,
        conventions: Shared[str] = "",
    ) -> None:
        self.conventions = box_conventions(conventions)
        strides = [downsample_ratio // 2**i for i in range(len(anchor_masks))]
        self._levels = yolo_levels(anchors, anchor_masks, strides)
        self._iou_aware = iou_aware
        self._iou_aware_factor = iou_aware_factor
        self._scale_x_y = scale_x_y
        self._conf_thresh = conf_thresh
        self._clip_bbox = clip_bbox

    def __call__(self, outputs: list[Tensor], image_sizes: Tensor, scale_factors: Tensor) -> DecodedBoxes:
        """Decode.

        Args:
            outputs: L maps ``[N, A * (5 + K), h, w]``, coarsest first.
            image_sizes: ``[N, 2]`` float32 (height, width) of the resized content.
            scale_factors: ``[N, 2]`` float32 (y, x), resized / original.

        Returns:
            Boxes ``[N, R, 1, 4]`` in original pixels, by level, anchor, row, column, and scores
            ``[N, R, K]``, zero where the objectness is too low or the clipped box is empty.
        """
        boxes, confidences, classes = [], [], []
        for output, level in zip(outputs, self._levels):
            maps = split_maps(output, len(level.anchors), iou_aware=self._iou_aware)
            boxes.append(decode_maps(maps.boxes, level, scale_x_y=self._scale_x_y))
            confidence = functional.sigmoid(maps.objectness)
            if maps.ious is not None:
                iou = functional.sigmoid(maps.ious)
                confidence = confidence ** (1 - self._iou_aware_factor) * iou**self._iou_aware_factor
            confidences.append(paddle.flatten(confidence, 1))
            by_cell = paddle.transpose(maps.classes, [0, 1, 3, 4, 2])
            classes.append(functional.sigmoid(paddle.flatten(by_cell, 1, 3)))
        confidence = paddle.concat(confidences, axis=1)
        scale = paddle.concat([scale_factors[:, 1:], scale_factors[:, :1]] * 2, axis=-1)
        box = paddle.concat(boxes, axis=1) / scale.unsqueeze(1)
        counts = confidence >= self._conf_thresh
        if self._clip_bbox:
            box = _clip_to_last_pixel(box, paddle.floor(image_sizes / scale_factors + 0.5))
            counts = counts & non_empty(box)
        box = inset_boxes(box, -self.conventions.last_pixel)
        confidence = confidence * counts.astype(confidence.dtype)
        return DecodedBoxes(box.unsqueeze(2), paddle.concat(classes, axis=1) * confidence.unsqueeze(-1))


def _clip_to_last_pixel(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes ``[N, R, 4]`` cut to 0..size - 1 of their image, sizes ``[N, 2]`` (height, width)."""
    limits = paddle.concat([sizes[:, 1:], sizes[:, :1]] * 2, axis=-1).unsqueeze(1) - 1
    return paddle.minimum(paddle.clip(boxes, min=0.0), limits)
