"""The loss of YOLOv3 (Redmon & Farhadi, "YOLOv3", sections 2.1 and 2.2), with the options of 2.x.

Letters: N images, G most objects of an image, A anchors of a level, h, w its grid, K classes.
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
from ppdet.modeling.assign.yolo_targets import YoloTargets, assign_yolo_targets, claim_anchors
from ppdet.modeling.layers.yolo_grid import (
    YoloLayout,
    YoloLevel,
    YoloMaps,
    centre_offsets,
    decode_cells,
    rows_of_maps,
    split_maps,
)
from ppdet.modeling.losses.iou import IouAwareLoss, IouLoss
from ppdet.ops.boxes import pairwise_iou
from ppdet.ops.constants import arange
from ppdet.ops.indexing import place_rows, row_starts
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
            outputs: One map ``[N, A * (5 + K), h, w]`` per level, coarsest first (see `split_maps`).
            targets: Ground truth in pixels of the network's input.

        Returns:
            ``loss_xy``, ``loss_wh``, ``loss_obj``, ``loss_cls`` and, where configured, ``loss_iou`` and
            ``loss_iou_aware``; float32 scalars, all present and finite also without any object.
        """
        per_level = self.per_level(outputs, targets)
        return {name: paddle.add_n([losses[name] for losses in per_level]) for name in per_level[0]}

    def per_level(self, outputs: Sequence[Tensor], targets: BatchTargets) -> list[dict[str, Tensor]]:
        """The same losses before their sum over levels; arguments as for a call."""
        claims = claim_anchors(targets, self._layout.anchors, iou_thresh=self._iou_thresh)
        losses = []
        for output, level in zip(outputs, self._layout.levels):
            grid = (output.shape[2], output.shape[3])
            assigned = assign_yolo_targets(claims, level, grid, self._layout.num_classes)
            losses.append(self._level_losses(output, targets, claims.targets, assigned, level))
        return losses

    def _level_losses(
        self,
        output: Tensor,
        targets: BatchTargets,
        claims: BatchTargets,
        assigned: YoloTargets,
        level: YoloLevel,
    ) -> dict[str, Tensor]:
        maps = split_maps(output, len(level.anchors), iou_aware=self._layout.iou_aware)
        rows = self._rows_at(output, assigned.cells, level)
        images = output.shape[0]
        weights = assigned.responsible.astype("float32") * claims.weights
        box_weights = assigned.box_weights * weights

        def reduce(values: Tensor, weights: Tensor) -> Tensor:
            return (values * weights).sum() / images

        losses = {
            "loss_xy": reduce(self._centre_loss(rows[..., :2], assigned.offsets), box_weights),
            "loss_wh": reduce(paddle.abs(rows[..., 2:4] - assigned.log_sizes).sum(axis=-1), box_weights),
            "loss_obj": self._objectness_loss(maps, targets, assigned, weights, level).sum() / images,
            "loss_cls": reduce(self._class_loss(rows[..., 5:], assigned.classes), weights),
        }
        if self._iou_loss is None and self._iou_aware_loss is None:
            return losses
        grid = (output.shape[2], output.shape[3])
        boxes = decode_cells(rows[..., :4], assigned.cells, level, grid, scale_x_y=self.scale_x_y)
        if self._iou_loss is not None:
            losses["loss_iou"] = reduce(self._iou_loss(boxes, claims.boxes), box_weights)
        if self._iou_aware_loss is not None and maps.ious is not None:
            logits = paddle.take_along_axis(paddle.flatten(maps.ious, 1), assigned.cells, axis=1)
            losses["loss_iou_aware"] = reduce(self._iou_aware_loss(logits, boxes, claims.boxes), weights)
        return losses

    def _rows_at(self, output: Tensor, cells: Tensor, level: YoloLevel) -> Tensor:
        """Values of the map at selected cells: ``[N, G]`` cells to ``[N, G, 5 + K]`` float32."""
        images, channels, area = output.shape[0], output.shape[1], output.shape[2] * output.shape[3]
        values = self._layout.values
        first = len(level.anchors) if self._layout.iou_aware else 0
        channel = row_starts(images, channels) + first + cells // area * values
        channel = channel.unsqueeze(-1) + arange(values)
        index = channel * area + (cells % area).unsqueeze(-1)
        picked = paddle.gather(paddle.flatten(output), paddle.flatten(index))
        return paddle.reshape(picked, [images, -1, values]).astype("float32")

    def _centre_loss(self, logits: Tensor, offsets: Tensor) -> Tensor:
        """``[N, G]`` loss of centres."""
        if self.scale_x_y == 1:
            loss = functional.binary_cross_entropy_with_logits(logits, offsets, reduction="none")
        else:
            loss = paddle.abs(centre_offsets(logits, self.scale_x_y) - offsets)
        return loss.sum(axis=-1)

    def _class_loss(self, logits: Tensor, classes: Tensor) -> Tensor:
        """``[N, G]`` loss of class logits ``[N, G, K]``."""
        low, high = self._class_targets
        targets = low + (high - low) * classes
        return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(axis=-1)

    def _objectness_loss(
        self, maps: YoloMaps, targets: BatchTargets, assigned: YoloTargets, weights: Tensor, level: YoloLevel
    ) -> Tensor:
        """``[N, A * h * w]`` loss of every cell: towards 1 by `weights`, towards 0 by 1 or, if ignored, 0."""
        logits = paddle.flatten(maps.objectness, 1)
        images, cells = logits.shape
        start = row_starts(images, cells)
        nowhere = paddle.full_like(assigned.cells, images * cells)
        slots = paddle.where(assigned.responsible, assigned.cells + start, nowhere)
        placed = place_rows(paddle.flatten(weights), paddle.flatten(slots), images * cells)
        positive = paddle.reshape(placed, [images, cells])

        rows = rows_of_maps([maps.boxes.detach().flatten(1, 2)], [level], iou_aware=False)
        boxes = rows.boxes(scale_x_y=self.scale_x_y)
        overlap = pairwise_iou(boxes, targets.boxes).max(axis=-1)
        background = (positive == 0) & (overlap <= self._ignore_thresh)
        # softplus(-x) and softplus(x) are the cross entropies of a logit with 1 and with 0.
        return positive * functional.softplus(-logits) + background.astype("float32") * functional.softplus(
            logits
        )
