"""Cell centres of a feature pyramid, which anchor-free heads predict from.

Letters: A cells of all levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Union

import paddle
from paddle import Tensor

from ppdet.ops.constants import Kept
from ppdet.ops.indexing import dim


class AnchorPoints(NamedTuple):
    """Cell centres, level by level, row by row.

    Attributes:
        centres: ``[A, 2]`` float32 x, y in strides of the cell's own level.
        strides: ``[A, 1]`` float32 pixels per cell.
    """

    centres: Tensor
    strides: Tensor

    @property
    def pixels(self) -> Tensor:
        """``[A, 2]`` centres in pixels of the network's input."""
        return self.centres * self.strides

    def squares(self, side: float) -> Tensor:
        """``[A, 4]`` xyxy squares around the centres, `side` strides wide, in pixels."""
        half = self.strides * (side / 2)
        return paddle.concat([self.pixels - half, self.pixels + half], axis=-1)


#: By sizes of the levels, strides and offset: some hundred kilobytes each.
_POINTS: Kept[AnchorPoints] = Kept(64)


def anchor_points(maps: Sequence[Tensor], strides: Sequence[int], *, offset: float = 0.5) -> AnchorPoints:
    """The cell centres of some maps.

    Args:
        maps: One ``[N, C, h, w]`` per level; only their sizes matter, which may be unknown in a static graph.
        strides: Pixels per cell of each level.
        offset: Place of the centre in its cell, 0..1.
    """
    sizes = tuple((dim(feature, 2), dim(feature, 3)) for feature in maps)
    return _POINTS.get((sizes, tuple(strides), offset), lambda: _points(sizes, strides, offset))


def _points(
    sizes: Sequence[tuple[Union[int, Tensor], Union[int, Tensor]]], strides: Sequence[int], offset: float
) -> AnchorPoints:
    centres, widths = [], []
    for (height, width), stride in zip(sizes, strides):
        rows = (paddle.arange(height, dtype="float32") + offset).reshape([-1, 1])
        columns = (paddle.arange(width, dtype="float32") + offset).reshape([1, -1])
        grid = paddle.stack([columns + paddle.zeros_like(rows), rows + paddle.zeros_like(columns)], axis=-1)
        points = grid.reshape([-1, 2])
        centres.append(points)
        widths.append(paddle.full_like(points[:, :1], float(stride)))
    return AnchorPoints(paddle.concat(centres), paddle.concat(widths))
