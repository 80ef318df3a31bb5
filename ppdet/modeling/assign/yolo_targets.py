"""Which cell and anchor answers for which object (Redmon & Farhadi, "YOLOv3", sections 2.1 to 2.3).

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

from ppdet.structures import BatchTargets


@dataclass(frozen=True)
class YoloLevel:
    """Geometry of one output level.

    Attributes:
        anchors: A (width, height) pairs in pixels of the network's input.
        anchor_mask: Their numbers among all B anchors.
        stride: Pixels per cell.
        grid: (h, w).
    """

    anchors: tuple[tuple[float, float], ...]
    anchor_mask: tuple[int, ...]
    stride: int
    grid: tuple[int, int]

    @property
    def cells(self) -> int:
        """A * h * w."""
        return len(self.anchors) * self.grid[0] * self.grid[1]


@dataclass(frozen=True)
class YoloTargets:
    """What each object asks of one level. Rows that ask nothing have `responsible` False.

    Attributes:
        cells: ``[N, G]`` int64 in 0..A*h*w-1 (anchor, row, column); 0 where not responsible.
        responsible: ``[N, G]`` bool. At most one object of an image per cell.
        offsets: ``[N, G, 2]`` float32 x, y of the centre inside its cell, 0..1.
        log_sizes: ``[N, G, 2]`` float32 log of width and height relative to the anchor.
        box_weights: ``[N, G]`` float32, 2 - area as a share of the input: small boxes weigh more.
        scores: ``[N, G]`` float32 mixup weight.
        classes: ``[N, G, K]`` float32, 1 for the class of every object whose centre and anchor fall in this
            cell, also of those that lost it.
    """

    cells: Tensor
    responsible: Tensor
    offsets: Tensor
    log_sizes: Tensor
    box_weights: Tensor
    scores: Tensor
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
    targets: BatchTargets, anchor_of_object: Tensor, level: YoloLevel, num_classes: int
) -> YoloTargets:
    """Targets of one level.

    An object belongs to the cell that its centre falls in and to its best anchor, if that is one of this
    level's. Where several objects of an image want the same cell and anchor, the last one in the order of the
    annotations has it; the classes of the others remain asked for as well. This is how the published weights
    were trained.

    Args:
        targets: Ground truth in pixels of the network's input. Padded rows, empty boxes and weights <= 0 ask
            for nothing.
        anchor_of_object: ``[N, G]`` from `best_anchors`.
        level: Where.
        num_classes: K.

    Returns:
        One row per object.
    """
    boxes = targets.boxes
    sizes = boxes[..., 2:] - boxes[..., :2]
    centres = boxes[..., :2] + sizes / 2
    valid = (targets.labels >= 0) & (sizes > 0).all(axis=-1) & (targets.weights > 0)
    here = anchor_of_object.unsqueeze(-1) == paddle.to_tensor(level.anchor_mask, dtype="int64")
    valid = valid & here.any(axis=-1)
    anchor = paddle.argmax(here.astype("int32"), axis=-1)

    rows, columns = level.grid
    position = centres / level.stride
    # A centre on the right or lower border of the image belongs to the last cell.
    last = paddle.to_tensor([columns - 1, rows - 1], dtype="int64")
    corner = paddle.minimum(paddle.clip(paddle.floor(position), min=0).astype("int64"), last)
    cells = (anchor * rows + corner[..., 1]) * columns + corner[..., 0]

    rivals = (cells.unsqueeze(2) == cells.unsqueeze(1)) & valid.unsqueeze(2) & valid.unsqueeze(1)
    beaten = paddle.triu(rivals.astype("int32"), diagonal=1).any(axis=-1)
    one_hot = functional.one_hot(paddle.clip(targets.labels, min=0), num_classes)
    classes = paddle.bmm(rivals.astype("float32"), one_hot)

    responsible = valid & ~beaten
    zero = paddle.zeros_like(sizes)
    shapes = paddle.to_tensor([list(pair) for pair in level.anchors], dtype=boxes.dtype)
    relative = sizes / functional.embedding(anchor, shapes)
    shown = responsible.unsqueeze(-1)
    return YoloTargets(
        cells=paddle.where(responsible, cells, paddle.zeros_like(cells)),
        responsible=responsible,
        offsets=paddle.where(shown, position - corner.astype(position.dtype), zero),
        log_sizes=paddle.where(shown, paddle.log(paddle.where(shown, relative, zero + 1)), zero),
        box_weights=2 - sizes.prod(axis=-1) / (rows * columns * level.stride**2),
        scores=targets.weights,
        classes=paddle.clip(classes, max=1.0),
    )
