"""Layout of a YOLO output map, and the boxes that it encodes (Redmon & Farhadi, "YOLOv3", section 2.1).

Letters: N images, A anchors of a level, h, w rows and columns of its grid, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Optional, Union

import paddle
from paddle import Tensor
from paddle.nn import functional

from ppdet.config.errors import ArgumentError
from ppdet.ops.constants import Kept
from ppdet.ops.indexing import dim

#: Cells of some levels, by the levels and the sizes of their maps.
_CELLS: Kept[tuple[Tensor, Tensor, Tensor]] = Kept(64)


@dataclass(frozen=True)
class YoloLevel:
    """One output level.

    Attributes:
        anchor_mask: Numbers of its A anchors among those of all levels.
        anchors: Their (width, height) in pixels of the network's input.
        stride: Pixels per cell.
    """

    anchor_mask: tuple[int, ...]
    anchors: tuple[tuple[float, float], ...]
    stride: int


@dataclass(frozen=True)
class YoloLayout:
    """Layout of the outputs of a YOLO head; the head makes it, its loss and its decoder take it.

    Attributes:
        anchors: (width, height) of the anchors of all levels in pixels of the network's input.
        levels: One per output map, in the order of the outputs (coarsest first).
        num_classes: K.
        iou_aware: Whether each map begins with A channels of IoU logits.
    """

    anchors: tuple[tuple[float, float], ...]
    levels: tuple[YoloLevel, ...]
    num_classes: int
    iou_aware: bool = False

    @property
    def values(self) -> int:
        """Channels per anchor, IoU logits not counted: box, objectness, classes."""
        return 5 + self.num_classes

    def channels(self, level: YoloLevel) -> int:
        """Channels of a level's output map."""
        return len(level.anchors) * (self.values + int(self.iou_aware))


def yolo_layout(
    anchors: Sequence[Sequence[float]],
    anchor_masks: Sequence[Sequence[int]],
    strides: Sequence[int],
    *,
    num_classes: int,
    iou_aware: bool = False,
) -> YoloLayout:
    """The layout that anchors, masks and strides make.

    Args:
        anchors: (width, height) of all anchors in pixels of the network's input.
        anchor_masks: Numbers of the anchors of each level, coarsest level first.
        strides: Pixels per cell of each level, coarsest level first.
        num_classes: K.
        iou_aware: Whether the head predicts the IoU of each box too.

    Raises:
        ValueError: If there are not as many masks as strides, an anchor is not two positive numbers, or a
            mask names an anchor that does not exist.
    """
    if len(anchor_masks) != len(strides):
        raise ArgumentError(
            "anchor_masks",
            f"there are {len(anchor_masks)} for {len(strides)} output levels (strides {list(strides)}); "
            "write one per level, coarsest level first",
        )
    for anchor in anchors:
        if len(anchor) != 2 or min(anchor) <= 0:
            raise ArgumentError("anchors", f"got {list(anchor)}, expected [width, height], both > 0 pixels")
    wrong = sorted({i for mask in anchor_masks for i in mask if not 0 <= i < len(anchors)})
    if wrong or not all(anchor_masks):
        raise ArgumentError(
            "anchor_masks",
            f"got {[list(m) for m in anchor_masks]}, expected numbers 0..{len(anchors) - 1}, at least one "
            f"per level; there are {len(anchors)} anchors",
        )
    sizes = tuple((float(width), float(height)) for width, height in anchors)
    levels = [
        YoloLevel(tuple(mask), tuple(sizes[i] for i in mask), stride)
        for mask, stride in zip(anchor_masks, strides)
    ]
    return YoloLayout(sizes, tuple(levels), num_classes, iou_aware)


class YoloRows(NamedTuple):
    """Outputs of some levels, a row per cell: T of them, by level, anchor, row and column.

    Selected cells may have other leading dimensions than ``[N, T]``.

    Attributes:
        values: ``[N, T, V]``: logits of x and y, log factors of width and height, and the V - 4 logits after
            them.
        ious: ``[N, T]`` logits, or None where the head does not predict them.
        corners: ``[T, 2]`` x, y of the upper left corner of each cell, in cells.
        anchors: ``[T, 2]`` width, height in pixels.
        strides: ``[T, 1]`` pixels per cell.
    """

    values: Tensor
    ious: Optional[Tensor]
    corners: Tensor
    anchors: Tensor
    strides: Tensor

    def boxes(self, *, scale_x_y: float = 1.0) -> Tensor:
        """The box of each cell.

        Args:
            scale_x_y: Stretches the sigmoid about 0.5, so that a centre can reach the border of its cell at
                a finite logit (Bochkovskiy et al. 2020, "YOLOv4", section 3.3).

        Returns:
            ``[N, T, 4]`` float32 xyxy in pixels of the network's input.
        """
        centres = (centre_offsets(self.values[..., :2], scale_x_y) + self.corners) * self.strides
        half = 0.5 * paddle.exp(self.values[..., 2:4]) * self.anchors
        return paddle.concat([centres - half, centres + half], axis=-1)


def rows_of_maps(outputs: Sequence[Tensor], levels: Sequence[YoloLevel], *, iou_aware: bool) -> YoloRows:
    """Output maps as rows.

    Args:
        outputs: A map ``[N, A * V, h, w]`` per level, channels by anchor. With `iou_aware`, A more channels
            come first.
        levels: Anchors and stride of each.
        iou_aware: Whether those A channels are there.

    Returns:
        The rows, float32 also under mixed precision.
    """
    values, ious = [], []
    for output, level in zip(outputs, levels):
        output, count = output.astype("float32"), len(level.anchors)
        if iou_aware:
            ious.append(paddle.flatten(output[:, :count], 1))
            output = output[:, count:]
        width = output.shape[1] // count
        maps = paddle.reshape(output, [-1, count, width, dim(output, 2), dim(output, 3)])
        maps = paddle.transpose(maps, [0, 1, 3, 4, 2])
        values.append(paddle.flatten(maps, 1, 3))
    sizes = tuple((dim(output, 2), dim(output, 3)) for output in outputs)
    cells = _CELLS.get((tuple(levels), sizes), lambda: _cells(levels, sizes))
    return YoloRows(_joined(values), _joined(ious) if iou_aware else None, *cells)


def _joined(levels: list[Tensor]) -> Tensor:
    return levels[0] if len(levels) == 1 else paddle.concat(levels, axis=1)


def _cells(
    levels: Sequence[YoloLevel], sizes: Sequence[tuple[Union[int, Tensor], Union[int, Tensor]]]
) -> tuple[Tensor, Tensor, Tensor]:
    """Corners, anchors and strides of `YoloRows`."""
    parts = []
    for level, (rows, columns) in zip(levels, sizes):
        x = paddle.arange(columns, dtype="float32").reshape([1, 1, -1, 1])
        y = paddle.arange(rows, dtype="float32").reshape([1, -1, 1, 1])
        corner = paddle.concat([x + paddle.zeros_like(y), y + paddle.zeros_like(x)], axis=-1)
        anchors = paddle.to_tensor(level.anchors, dtype="float32").reshape([-1, 1, 1, 2])
        anchors, corner = anchors + paddle.zeros_like(corner), corner + paddle.zeros_like(anchors)
        strides = paddle.full_like(corner[..., :1], level.stride)
        parts.append([corner.reshape([-1, 2]), anchors.reshape([-1, 2]), strides.reshape([-1, 1])])
    corners, all_anchors, all_strides = (paddle.concat(list(part)) for part in zip(*parts))
    return corners, all_anchors, all_strides


def centre_offsets(logits: Tensor, scale_x_y: float) -> Tensor:
    """Offsets of the centre from the upper left corner of its cell, in cells, of any shape."""
    offsets = functional.sigmoid(logits)
    if scale_x_y == 1:
        return offsets
    return scale_x_y * offsets - 0.5 * (scale_x_y - 1)
