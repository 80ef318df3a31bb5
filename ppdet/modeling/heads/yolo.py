"""Head of the YOLOv3 family and the decoding of its outputs.

Redmon & Farhadi, "YOLOv3: An Incremental Improvement", sections 2.1 to 2.3. Letters: N images, L levels,
A anchors of a level, h, w its grid, R anchors of all cells and levels, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from ppdet.config.ranges import Fraction, NonNegativeInt, Positive, PositiveInt
from ppdet.config.spec import Derived, Shared, Spec
from ppdet.modeling.interfaces import DenseHead
from ppdet.modeling.layers.yolo_grid import YoloLayout, rows_of_maps, yolo_layout
from ppdet.modeling.losses.yolo import YOLOv3Loss
from ppdet.modeling.post_process import BBoxPostProcess, BoxDecoder, DecodedBoxes, MultiClassNMS
from ppdet.ops.boxes import clip_boxes, inset_boxes, non_empty, per_corner
from ppdet.structures import BatchTargets, BoxConventions, DetectionTensors, FeatureShape, original_sizes
from ppdet.structures.conventions import NORMAL

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


class YOLOBox(BoxDecoder):
    """Turns the outputs of `YOLOv3Head` into boxes and scores.

    One thing differs from the conventions of this project because the published scores were measured so:
    boxes are clipped to size - 1 rather than to size. One thing differs from 2.x: the original size is
    resized / scale rounded, not truncated. Truncating a float32 quotient loses a pixel for some sizes (478 at
    an input of 608, say), which squeezes all boxes of such an image.

    Args:
        layout: Layout of the outputs.
        iou_aware_factor: Exponent of the IoU in the score, where the outputs hold it; objectness has the
            rest.
        scale_x_y: As in the loss (see `YoloRows.boxes`).
        conf_thresh: Least objectness.
        clip_bbox: Clip boxes to the image.
        conventions: Box conventions; where boxes name their last pixel, it is added.
    """

    def __init__(
        self,
        *,
        layout: Derived[YoloLayout],
        iou_aware_factor: Derived[float] = 0.4,
        scale_x_y: Derived[float] = 1.0,
        conf_thresh: Fraction = 0.005,
        clip_bbox: bool = True,
        conventions: Derived[BoxConventions] = NORMAL,
    ) -> None:
        self._layout = layout
        self._iou_aware_factor = iou_aware_factor
        self._scale_x_y = scale_x_y
        self._conf_thresh = conf_thresh
        self._clip_bbox = clip_bbox
        self._last_pixel = conventions.last_pixel

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
        rows = rows_of_maps(outputs, self._layout.levels, iou_aware=self._layout.iou_aware)
        box = rows.boxes(scale_x_y=self._scale_x_y)
        confidence = functional.sigmoid(rows.values[..., 4])
        if rows.ious is not None:
            iou = functional.sigmoid(rows.ious)
            confidence = confidence ** (1 - self._iou_aware_factor) * iou**self._iou_aware_factor
        box = box / per_corner(scale_factors, box)
        counts = confidence >= self._conf_thresh
        if self._clip_bbox:
            box = clip_boxes(box, original_sizes(image_sizes, scale_factors) - 1)
            counts = counts & non_empty(box)
        box = inset_boxes(box, -self._last_pixel)
        confidence = confidence * counts.astype(confidence.dtype)
        classes = functional.sigmoid(rows.values[..., 5:])
        return DecodedBoxes(box.unsqueeze(2), classes * confidence.unsqueeze(-1))


#: As published: many weak candidates, since a score is a product of objectness and class.
POST_PROCESS = Spec.of(
    BBoxPostProcess,
    decode=Spec.of(YOLOBox),
    nms=Spec.of(MultiClassNMS, score_threshold=0.01, nms_top_k=1000, keep_top_k=100, nms_threshold=0.45),
)


class YOLOv3Head(DenseHead):
    """A 1x1 convolution per level.

    Args:
        in_shapes: Feature shapes of the neck, coarsest first.
        num_classes: K.
        post_process: Decoding and NMS.
        conventions: Box conventions, for the decoding.
        anchors: (width, height) of all anchors in pixels of the network's input.
        anchor_masks: Numbers of the anchors of each level, coarsest level first.
        loss: The loss.
        iou_aware: Predict the IoU of each box as well, and let it weigh in the score.
        iou_aware_factor: Exponent of the IoU in the score; objectness has the rest, 0..1.

    Raises:
        ValueError: If anchors and masks do not fit the levels (`yolo_layout`).
    """

    def __init__(
        self,
        *,
        in_shapes: Derived[list[FeatureShape]],
        num_classes: Shared[PositiveInt],
        post_process: Derived[Spec[BBoxPostProcess]] = POST_PROCESS,
        conventions: Derived[BoxConventions] = NORMAL,
        anchors: Sequence[Sequence[Positive]] = COCO_ANCHORS,
        anchor_masks: Sequence[Sequence[NonNegativeInt]] = ((6, 7, 8), (3, 4, 5), (0, 1, 2)),
        loss: Spec[YOLOv3Loss] = Spec.of(YOLOv3Loss),  # noqa: B008  (a Spec is immutable)
        iou_aware: bool = False,
        iou_aware_factor: Fraction = 0.4,
    ) -> None:
        super().__init__()
        strides = [shape.stride for shape in in_shapes]
        layout = yolo_layout(anchors, anchor_masks, strides, num_classes=num_classes, iou_aware=iou_aware)
        self.layout = layout
        self.loss = loss.build(layout=layout)
        self.post_process = post_process.build(
            decode_arguments={
                "layout": layout,
                "scale_x_y": self.loss.scale_x_y,
                "iou_aware_factor": iou_aware_factor,
                "conventions": conventions,
            }
        )
        self.final_nms = self.post_process.nms
        self.yolo_output = nn.LayerList(
            [
                nn.Conv2D(
                    shape.channels,
                    layout.channels(level),
                    1,
                    # As darknet: weight decay leaves biases alone.
                    bias_attr=paddle.ParamAttr(regularizer=paddle.regularizer.L2Decay(0.0)),
                )
                for shape, level in zip(in_shapes, layout.levels)
            ]
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """L maps of the neck to L maps ``[N, A * (5 + K), h, w]`` in the layout of `rows_of_maps`."""
        return [output(feature) for output, feature in zip(self.yolo_output, features)]

    def losses(self, outputs: list[Tensor], targets: BatchTargets) -> dict[str, Tensor]:
        """Named training losses; see `YOLOv3Loss`."""
        return self.loss(outputs, targets)

    def decode(self, outputs: list[Tensor], image_sizes: Tensor, scale_factors: Tensor) -> DetectionTensors:
        """Detections in pixels of the original images; see `YOLOBox` and `MultiClassNMS`."""
        return self.post_process(outputs, image_sizes, scale_factors)
