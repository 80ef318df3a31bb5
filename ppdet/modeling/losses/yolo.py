"""The loss of YOLOv3 (Redmon & Farhadi, "YOLOv3", sections 2.1 and 2.2), with the options of 2.x.

Letters: N images, G most objects of an image, A anchors of a level, h, w its grid, P planes (see
`yolo_targets`), K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import paddle
from paddle import Tensor
from paddle.nn import functional

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import Fraction, Positive
from ppdet.config.spec import Derived, Spec
from ppdet.modeling.assign.yolo_targets import YoloTargets, assign_yolo_targets, yolo_planes
from ppdet.modeling.layers.yolo_grid import YoloLayout, YoloRows, centre_offsets, rows_of_maps
from ppdet.modeling.losses.iou import IouAwareLoss, IouLoss
from ppdet.ops.boxes import pairwise_iou
from ppdet.structures import BatchTargets

#: Upper limit of what label smoothing takes away from the true class; 1 / K where that is less.
_MOST_SMOOTHING = 1.0 / 40


class YOLOv3Loss:
    """Cross entropy of centres, objectness and classes, L1 of sizes. Summed over cells, mean over images.

    Args:
        layout: Layout of the outputs, from the head.
        ignore_thresh: A cell without an object whose predicted box has a greater IoU than this with any
            object has no objectness target.
        iou_thresh: Anchors whose shape has a greater IoU with an object than this predict it too, besides the
            best one; 1 for the best one only. 2.x has it as ``Gt2YoloTarget.iou_thresh``.
        label_smooth: Class targets ``1 - d`` and ``d`` instead of 1 and 0, d = min(1 / K, 1 / 40).
        scale_x_y: Stretches the sigmoid of centres (see `YoloRows.boxes`); if not 1, centres learn by L1.
        iou_loss: Further loss on the boxes, or None.
        iou_aware_loss: Loss of the IoU logits, or None.

    Raises:
        ValueError: If there is an `iou_aware_loss` and the head predicts no IoU.
    """

    def __init__(
        self,
        *,
        layout: Derived[YoloLayout],
        ignore_thresh: Fraction = 0.7,
        iou_thresh: Fraction = 1.0,
        label_smooth: bool = False,
        scale_x_y: Positive = 1.0,
        iou_loss: Optional[Spec[IouLoss]] = None,
        iou_aware_loss: Optional[Spec[IouAwareLoss]] = None,
    ) -> None:
        if iou_aware_loss is not None and not layout.iou_aware:
            raise ArgumentError("iou_aware_loss", "needs YOLOv3Head.iou_aware: true")
        self._layout = layout
        self._ignore_thresh = ignore_thresh
        self._iou_thresh = iou_thresh
        smoothing = min(1.0 / layout.num_classes, _MOST_SMOOTHING) if label_smooth else 0.0
        self._class_targets = (smoothing, 1.0 - smoothing)
        self.scale_x_y = scale_x_y
        self._iou_loss = None if iou_loss is None else iou_loss.build()
        self._iou_aware_loss = None if iou_aware_loss is None else iou_aware_loss.build()

    def __call__(self, outputs: Sequence[Tensor], targets: BatchTargets) -> dict[str, Tensor]:
        """Named losses.

        Args:
            outputs: One map ``[N, A * (5 + K), h, w]`` per level, coarsest first (see `rows_of_maps`).
            targets: Ground truth in pixels of the network's input.

        Returns:
            ``loss_xy``, ``loss_wh``, ``loss_obj``, ``loss_cls`` and, where configured, ``loss_iou`` and
            ``loss_iou_aware``; float32 scalars, all present and finite also without any object.
        """
        layout = self._layout
        rows = rows_of_maps(outputs, layout.levels, iou_aware=layout.iou_aware)
        images, _, values = rows.values.shape
        planes = yolo_planes(layout, [(o.shape[2], o.shape[3]) for o in outputs], images)
        assigned = assign_yolo_targets(targets, planes, layout.num_classes, iou_thresh=self._iou_thresh)
        flat = paddle.reshape(rows.values, [-1, values])
        picked = paddle.gather_nd(flat, assigned.cells)
        weights, box_weights = assigned.weights / images, assigned.box_weights / images
        centres, log_sizes, _, classes = paddle.split(picked, [2, 2, 1, layout.num_classes], axis=-1)
        losses = {
            "loss_xy": (self._centre_loss(centres, assigned.offsets) * box_weights).sum(),
            "loss_wh": (paddle.abs(log_sizes - assigned.log_sizes) * box_weights).sum(),
            "loss_obj": self._objectness_loss(rows, targets, assigned) / images,
            "loss_cls": (self._class_loss(classes, assigned.classes) * weights).sum(),
        }
        if self._iou_loss is None and self._iou_aware_loss is None:
            return losses
        at_objects = YoloRows(picked, None, assigned.corners, planes.anchors, planes.strides)
        boxes, objects = at_objects.boxes(scale_x_y=self.scale_x_y), targets.boxes.unsqueeze(1)
        if self._iou_loss is not None:
            losses["loss_iou"] = (self._iou_loss(boxes, objects).unsqueeze(-1) * box_weights).sum()
        if self._iou_aware_loss is not None and rows.ious is not None:
            logits = paddle.gather_nd(paddle.flatten(rows.ious), assigned.cells)
            iou_aware = self._iou_aware_loss(logits, boxes, objects)
            losses["loss_iou_aware"] = (iou_aware.unsqueeze(-1) * weights).sum()
        return losses

    def _centre_loss(self, logits: Tensor, offsets: Tensor) -> Tensor:
        """``[N, P, G, 2]`` loss of centres."""
        if self.scale_x_y == 1:
            return functional.binary_cross_entropy_with_logits(logits, offsets, reduction="none")
        return paddle.abs(centre_offsets(logits, self.scale_x_y) - offsets)

    def _class_loss(self, logits: Tensor, classes: Tensor) -> Tensor:
        """``[N, P, G, K]`` loss of class logits."""
        low, high = self._class_targets
        targets = low + (high - low) * classes
        return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")

    def _objectness_loss(self, rows: YoloRows, targets: BatchTargets, assigned: YoloTargets) -> Tensor:
        """Sum over all cells: towards 1 by the weight of the object, towards 0 by 1 or, if ignored, 0."""
        images, cells, _ = rows.values.shape
        # Rows without a target add nothing to their cell.
        placed = paddle.scatter_nd(assigned.cells, assigned.weights.squeeze(-1), [images * cells])
        positive = paddle.reshape(placed, [images, cells])
        with paddle.no_grad():
            boxes = rows.boxes(scale_x_y=self.scale_x_y)
            overlap = pairwise_iou(boxes, targets.boxes).max(axis=-1)
        is_object = positive > 0
        background = (overlap <= self._ignore_thresh).astype(positive.dtype)
        return functional.binary_cross_entropy_with_logits(
            rows.values[..., 4],
            is_object.astype(positive.dtype),
            weight=paddle.where(is_object, positive, background),
            reduction="sum",
        )
