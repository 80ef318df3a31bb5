"""Assignment of objects to cells and anchors (Redmon & Farhadi, "YOLOv3", sections 2.1 to 2.3).

The targets stay a list with one row per object instead of being painted into grids: a step then handles N * G
rows where the grids of a 608-pixel image have 22,743 cells of 85 numbers.

Letters: N images, G most objects of an image in the batch, B anchors of all levels, A anchors of one level,
h, w rows and columns of one level's grid, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Optional

import paddle
from paddle import Tensor
from paddle.nn import functional

from ppdet.modeling.layers.yolo_grid import YoloLevel
from ppdet.structures import IGNORE_LABEL, BatchTargets


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


class AnchorClaims(NamedTuple):
    """Pairs of an object and an anchor that may predict it, R rows per image.

    Attributes:
        targets: The object of each row; label -1 in rows that are no pair.
        anchors: ``[N, R]`` int64 in 0..B-1.
        additional: ``[N, R]`` bool, pairs whose anchor is not the object's best one; None if there are none.
    """

    targets: BatchTargets
    anchors: Tensor
    additional: Optional[Tensor]


def claim_anchors(
    targets: BatchTargets, anchors: Sequence[Sequence[float]], *, iou_thresh: float = 1.0
) -> AnchorClaims:
    """The anchors of each object: that of the most similar shape, and those that are similar enough.

    Similarity is the IoU of the two shapes, laid corner on corner.

    Args:
        targets: Ground truth in pixels of the network's input, G rows per image.
        anchors: B (width, height) pairs in the same pixels.
        iou_thresh: Anchors with a greater similarity than this predict the object too; from 1 on none do.

    Returns:
        One row per object, or per object and anchor if further anchors may take part. Of equally similar
        anchors the first one is the best.
    """
    sizes = (targets.boxes[..., 2:] - targets.boxes[..., :2]).unsqueeze(2)
    shapes = paddle.to_tensor([list(anchor) for anchor in anchors], dtype=sizes.dtype)
    overlap = paddle.minimum(sizes, shapes).prod(axis=-1)
    similarity = overlap / (sizes.prod(axis=-1) + shapes.prod(axis=-1) - overlap)
    best = paddle.argmax(similarity, axis=-1)
    if iou_thresh >= 1:
        return AnchorClaims(targets, best, None)
    numbers = paddle.arange(len(anchors), dtype=best.dtype) + paddle.zeros_like(best).unsqueeze(-1)
    is_best = numbers == best.unsqueeze(-1)
    claimed = is_best | (similarity > iou_thresh)

    def repeated(values: Tensor) -> Tensor:
        return paddle.stack([values] * len(anchors), axis=2).flatten(1, 2)

    labels = repeated(targets.labels)
    rows = BatchTargets(
        boxes=repeated(targets.boxes),
        labels=paddle.where(claimed.flatten(1), labels, paddle.full_like(labels, IGNORE_LABEL)),
        is_crowd=repeated(targets.is_crowd),
        weights=repeated(targets.weights),
    )
    return AnchorClaims(rows, numbers.flatten(1), ~is_best.flatten(1))


def assign_yolo_targets(
    claims: AnchorClaims, level: YoloLevel, grid: tuple[int, int], num_classes: int
) -> YoloTargets:
    """Targets of one level.

    An object belongs to the cell that its centre falls in and to those of its anchors that are of this level.
    Where several objects of an image have the same cell and anchor, the last one in the order of the
    annotations is responsible; the classes of the others stay targets too. This is how the published weights
    were trained. An anchor that is not the best of an object takes only a cell that no earlier object has.

    Args:
        claims: From `claim_anchors`. Padded rows, empty boxes and rows of weight <= 0 are not assigned.
        level: Anchors and stride.
        grid: (h, w).
        num_classes: K.

    Returns:
        One row per row of the claims; G stands for R in its shapes.
    """
    targets = claims.targets
    rows, columns = grid
    sizes = targets.boxes[..., 2:] - targets.boxes[..., :2]
    here = claims.anchors.unsqueeze(-1) == paddle.to_tensor(level.anchor_mask, dtype="int64")
    assigned = (targets.labels >= 0) & (sizes > 0).all(axis=-1) & (targets.weights > 0) & here.any(axis=-1)
    anchor = paddle.argmax(here.astype("int32"), axis=-1)

    position = (targets.boxes[..., :2] + sizes / 2) / level.stride
    # A centre on the right or lower border of the image belongs to the last cell.
    last = paddle.to_tensor([columns - 1, rows - 1], dtype="int64")
    corner = paddle.minimum(paddle.clip(paddle.floor(position).astype("int64"), min=0), last)
    cells = (anchor * rows + corner[..., 1]) * columns + corner[..., 0]

    at_one_cell = cells.unsqueeze(2) == cells.unsqueeze(1)
    if claims.additional is not None:
        earlier = paddle.tril((at_one_cell & assigned.unsqueeze(1)).astype("int32"), diagonal=-1)
        assigned = assigned & ~(claims.additional & earlier.astype("bool").any(axis=-1))
    same_cell = at_one_cell & assigned.unsqueeze(2) & assigned.unsqueeze(1)
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
