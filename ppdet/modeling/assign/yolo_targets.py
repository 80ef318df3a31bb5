"""Assignment of objects to cells and anchors (Redmon & Farhadi, "YOLOv3", sections 2.1 to 2.3).

A plane is what an anchor has on a level: the h * w cells that predict with it. Targets stay a row per plane
and object instead of being painted into grids: a step then handles N * P * G rows of 85 numbers where the
grids of a 608-pixel image have 22,743 cells. The planes of all levels are one tensor.

Letters: N images, G most objects of an image in the batch, B anchors, P planes, T cells of all planes,
K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

import paddle
from paddle import Tensor
from paddle.nn import functional

from ppdet.modeling.layers.yolo_grid import YoloLayout
from ppdet.ops.constants import Kept
from ppdet.structures import BatchTargets

#: Keeps the logarithm of an empty box's sides finite; in pixels, far below the sides of any real box.
_EPS = 1e-9


class YoloPlanes(NamedTuple):
    """Numbers of the planes, by level and anchor, and of the anchors.

    Attributes:
        numbers: ``[P, 1]`` int64 number of the anchor in 0..B-1.
        anchors: ``[P, 1, 2]`` float32 width, height in pixels.
        strides: ``[P, 1, 1]`` float32 pixels per cell.
        last: ``[P, 1, 2]`` float32 column and row of the last cell.
        steps: ``[P, 1, 2]`` int64 cells from one cell to that at its right, and to that below it.
        starts: ``[N, P, 1, 1]`` int64 first cell, where the T cells of one image follow those of another.
        areas: ``[P, 1, 1]`` float32 square pixels that the cells cover.
        shapes: ``[B, 1, 2]`` float32 width, height of every anchor, of a level or not.
        shape_areas: ``[B, 1]`` float32 square pixels.
    """

    numbers: Tensor
    anchors: Tensor
    strides: Tensor
    last: Tensor
    steps: Tensor
    starts: Tensor
    areas: Tensor
    shapes: Tensor
    shape_areas: Tensor


#: By layout, sizes of the maps, and images.
_PLANES: Kept[YoloPlanes] = Kept(64)
#: ``[G, G]`` bool, whether the second index is greater than the first.
_LATER: Kept[Tensor] = Kept(256)


def yolo_planes(layout: YoloLayout, grids: Sequence[tuple[int, int]], images: int) -> YoloPlanes:
    """The planes of output maps of the sizes `grids`, (h, w) each."""
    return _PLANES.get((layout, tuple(grids), images), lambda: _planes(layout, grids, images))


def _planes(layout: YoloLayout, grids: Sequence[tuple[int, int]], images: int) -> YoloPlanes:
    rows: list[Any] = []
    start = 0
    for level, (height, width) in zip(layout.levels, grids):
        area = height * width * level.stride**2
        for number, anchor in zip(level.anchor_mask, level.anchors):
            rows.append((number, anchor, level.stride, (width - 1, height - 1), (1, width), start, area))
            start += height * width
    numbers, anchors, strides, last, steps, starts, areas = zip(*rows)

    def column(values: Sequence[Any], dtype: Any) -> Tensor:
        return paddle.to_tensor(values, dtype=dtype).reshape([len(values), 1, -1])

    cells = paddle.arange(images, dtype="int64").reshape([-1, 1, 1, 1]) * start
    shapes = column(layout.anchors, "float32")
    return YoloPlanes(
        numbers=column(numbers, "int64").squeeze(2),
        anchors=column(anchors, "float32"),
        strides=column(strides, "float32"),
        last=column(last, "float32"),
        steps=column(steps, "int64"),
        starts=cells + column(starts, "int64"),
        areas=column(areas, "float32"),
        shapes=shapes,
        shape_areas=shapes.prod(axis=-1),
    )


@dataclass(frozen=True)
class YoloTargets:
    """Targets of all levels, a row per plane and object. Rows of weight 0 have no target.

    Attributes:
        cells: ``[N, P, G, 1]`` int64 in 0..N*T-1: image, then level, anchor, row, column.
        weights: ``[N, P, G, 1]`` float32, that of the object where it is responsible for the cell, else 0. At
            most one object is responsible for a cell.
        corners: ``[N, P, G, 2]`` float32 x, y of the upper left corner of the cell, in cells.
        offsets: ``[N, P, G, 2]`` float32 x, y of the centre inside its cell, 0..1.
        log_sizes: ``[N, P, G, 2]`` float32 log of width and height relative to the anchor.
        box_weights: ``[N, P, G, 1]`` float32, `weights` times 2 - area as a share of the input: small boxes
            weigh more.
        classes: ``[N, P, G, K]`` float32, 1 for the class of every object with this cell and anchor, also of
            those that are not responsible for it.
    """

    cells: Tensor
    weights: Tensor
    corners: Tensor
    offsets: Tensor
    log_sizes: Tensor
    box_weights: Tensor
    classes: Tensor


def assign_yolo_targets(
    targets: BatchTargets, planes: YoloPlanes, num_classes: int, *, iou_thresh: float = 1.0
) -> YoloTargets:
    """Targets of all levels.

    An object belongs to the cell that its centre falls in, and to the anchor of the most similar shape (of
    equally similar ones the first); to further anchors if they are similar enough. Where several objects of
    an image have the same cell and anchor, the last one in the order of the annotations is responsible; the
    classes of the others stay targets too. This is how the published weights were trained. An anchor that is
    not the best of an object takes only a cell that no earlier object has.

    Args:
        targets: Ground truth in pixels of the network's input. Padded rows, empty boxes and rows of
            weight <= 0 are not assigned.
        planes: From `yolo_planes`.
        num_classes: K.
        iou_thresh: Anchors with a greater similarity than this predict the object too; from 1 on none do.
    """
    lower, upper = paddle.split(targets.boxes.unsqueeze(1), 2, axis=-1)
    sizes = upper - lower
    positions = (lower + sizes / 2) / planes.strides
    # A centre on the right or lower border of the image belongs to the last cell.
    corners = paddle.minimum(paddle.clip(paddle.floor(positions), min=0), planes.last)
    cells = planes.starts + (corners.astype("int64") * planes.steps).sum(axis=-1, keepdim=True)

    real = (targets.labels >= 0) & (targets.weights > 0) & (sizes.squeeze(1) > 0).all(axis=-1)
    best, similar = _claims(sizes, planes, iou_thresh)
    claimed = (best if similar is None else best | similar) & real.unsqueeze(1)
    # From an object to each that has its cell.
    same_cell = (cells == cells.transpose([0, 1, 3, 2])) & claimed.unsqueeze(2)
    later = _later(cells.shape[2])
    if similar is not None:
        claimed = claimed & (best | ~(same_cell & later.t()).any(axis=-1))
        same_cell = same_cell & claimed.unsqueeze(2)
    responsible = claimed & ~(same_cell & later).any(axis=-1)

    # Counts up to G, exact also where mixed precision multiplies in float16.
    one_hot = functional.one_hot(paddle.clip(targets.labels, min=0), num_classes).unsqueeze(1)
    counts = paddle.matmul(same_cell.astype(one_hot.dtype), one_hot).astype(one_hot.dtype)
    weights = (responsible.astype(sizes.dtype) * targets.weights.unsqueeze(1)).unsqueeze(-1)
    return YoloTargets(
        cells=cells,
        weights=weights,
        corners=corners,
        offsets=positions - corners,
        log_sizes=paddle.log(paddle.clip(sizes, min=_EPS) / planes.anchors),
        box_weights=weights * (2 - sizes.prod(axis=-1, keepdim=True) / planes.areas),
        classes=paddle.clip(counts, max=1.0),
    )


def _claims(sizes: Tensor, planes: YoloPlanes, iou_thresh: float) -> tuple[Tensor, Optional[Tensor]]:
    """Whether a plane's anchor is the most similar to an object, and whether it is similar enough.

    Similarity is the IoU of the two shapes, laid corner on corner. Both ``[N, P, G]`` bool; the second is
    None where none can be.
    """
    overlap = paddle.minimum(sizes, planes.shapes).prod(axis=-1)
    similarity = overlap / (sizes.prod(axis=-1) + planes.shape_areas - overlap)
    best = paddle.argmax(similarity, axis=1, keepdim=True) == planes.numbers
    if iou_thresh >= 1:
        return best, None
    return best, paddle.gather(similarity, planes.numbers.squeeze(1), axis=1) > iou_thresh


def _later(objects: int) -> Tensor:
    return _LATER.get(objects, lambda: paddle.triu(paddle.ones([objects, objects]), diagonal=1) > 0)
