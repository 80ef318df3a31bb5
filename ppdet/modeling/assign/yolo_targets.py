"""Assignment of objects to cells and anchors (Redmon & Farhadi, "YOLOv3", sections 2.1 to 2.3).

The targets stay a list with one row per object instead of being painted into grids: a step then handles N * G
rows where the grids of a 608-pixel image have 22,743 cells of 85 numbers.

Letters: N images, G most objects of an image in the batch, B anchors of all levels, A anchors of one level,
h, w rows and columns of one level's grid, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import paddle
from paddle import Tensor
from paddle.nn import functional

from ppdet.modeling.layers.yolo_grid import YoloLevel
from ppdet.structures import BatchTargets


@dataclass(frozen=True)
class YoloTargets:
    """Targets of one level, one row per object. Rows with `responsible` False have no target.

    Attributes:
        cells: ``[N, G]`` int64 in 0..A*h*w-1 (anchor, row, column); 0 where not responsible.
        responsible: ``[N, G]`` bool. At most one object of an image per cell.
        offsets: ``[N, G, 2]`` float32 x, y of the centre inside its cell, 0..1.
        log_sizes: ``[N, G, 2]`` float32 log of width and height relative to the anchor.
        box_weights: ``[N, G]`` float32, 2 - area as a share of the input: small boxes weigh more.
        classes: ``[N, G, K]`` float32, 1 for the class of every object with this cell and anchor, also of
            those that are not responsible for it.
    """

    cells: Tensor
    responsible: Tensor
    offsets: Tensor
    log_sizes: Tensor
    box_weights: Tensor
    classes: Tensor


def best_anchors(boxes: Tensor, anchors: Sequence[Sequence[float]]) -> Tensor:
    """The anchor of the most similar shape for each box: IoU of the two, laid corner on corner.

    Args:
        boxes: ``[N, G, 4]`` float32 xyxy in pixels of the network's input.
        anchors: B (width, height) pairs in the same pixels.

    Returns:
        ``[N, G]`` int64 in 0..B-1; the first of equals.
    """
    sizes = (boxes[..., 2:] - boxes[..., :2]).unsqueeze(2)
    shapes = paddle.to_tensor([list(anchor) for anchor in anchors], dtype=boxes.dtype)
    overlap = paddle.minimum(sizes, shapes).prod(axis=-1)
    union = sizes.prod(axis=-1) + shapes.prod(axis=-1) - overlap
    return paddle.argmax(overlap / union, axis=-1)


def assign_yolo_targets(
    targets: BatchTargets,
    anchor_of_object: Tensor,
    level: YoloLevel,
    grid: tuple[int, int],
    num_classes: int,
) -> YoloTargets:
    """Targets of one level.

    An object belongs to the cell that its centre falls in and to its best anchor, if that is one of this
    level's. Where several objects of an image have the same cell and anchor, the last one in the order of the
    annotations is responsible; the classes of the others stay targets too. This is how the published weights
    were trained.

    Args:
        targets: Ground truth in pixels of the network's input. Padded rows, empty boxes and rows of weight
            <= 0 are not assigned.
        anchor_of_object: ``[N, G]`` from `best_anchors`.
        level: Anchors and stride.
        grid: (h, w).
        num_classes: K.

    Returns:
        One row per object.
    """
    rows, columns = grid
    sizes = targets.boxes[..., 2:] - targets.boxes[..., :2]
    here = anchor_of_object.unsqueeze(-1) == paddle.to_tensor(level.anchor_mask, dtype="int64")
    assigned = (targets.labels >= 0) & (sizes > 0).all(axis=-1) & (targets.weights > 0) & here.any(axis=-1)
    anchor = paddle.argmax(here.astype("int32"), axis=-1)

    position = (targets.boxes[..., :2] + sizes / 2) / level.stride
    # A centre on the right or lower border of the image belongs to the last cell.
    last = paddle.to_tensor([columns - 1, rows - 1], dtype="int64")
    corner = paddle.minimum(paddle.clip(paddle.floor(position).astype("int64"), min=0), last)
    cells = (anchor * rows + corner[..., 1]) * columns + corner[..., 0]

    same_cell = (cells.unsqueeze(2) == cells.unsqueeze(1)) & assigned.unsqueeze(2) & assigned.unsqueeze(1)
    replaced = paddle.triu(same_cell.astype("int32"), diagonal=1).astype("bool").any(axis=-1)
    one_hot = functional.one_hot(paddle.clip(targets.labels, min=0), num_classes)
    responsible = assigned & ~replaced
    is_target = responsible.unsqueeze(-1)
    shapes = functional.embedding(anchor, paddle.to_tensor(level.anchors, dtype=sizes.dtype))
    log_sizes = paddle.log(paddle.where(is_target, sizes, shapes) / shapes)
    offsets = position - corner.astype(position.dtype)
    return YoloTargets(
        cells=paddle.where(responsible, cells, paddle.zeros_like(cells)),
        responsible=responsible,
        offsets=paddle.where(is_target, offsets, paddle.zeros_like(offsets)),
        log_sizes=log_sizes,
        box_weights=2 - sizes.prod(axis=-1) / (rows * columns * level.stride**2),
        classes=paddle.clip(paddle.bmm(same_cell.astype("float32"), one_hot), max=1.0),
    )
