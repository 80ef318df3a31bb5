"""Anchor boxes over feature maps.

Letters: H, W height and width of a feature map, A anchors per cell, L levels.

Order of the anchors of a level: row, column, size, aspect ratio (fastest). Levels stay separate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Optional, Union

import paddle
from paddle import Tensor

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import Fraction, Positive, PositiveInt
from ppdet.config.spec import Derived
from ppdet.ops.constants import Kept
from ppdet.ops.indexing import dim
from ppdet.structures import BoxConventions
from ppdet.structures.conventions import NORMAL

#: Height or width of a map: unknown in a static graph.
Size = Union[int, Tensor]
#: Batch sizes whose anchors are kept; those of a batch of 800 x 1344 pixels take 4 MB.
_SIZES_KEPT = 16


class AnchorGenerator:
    """Anchors of given sizes and aspect ratios at every cell (Ren et al. 2015, Faster R-CNN, section 3.1.1).

    An anchor of size s and ratio r has area s**2 and height / width = r. It is centred on the upper left
    corner of its cell, moved by `offset` cells; with the default 0 the anchors of cell (0, 0) are centred on
    the image's corner. Nothing is dropped or clipped: anchors may leave the image.
    """

    def __init__(
        self,
        *,
        strides: Derived[list[float]],
        anchor_sizes: Union[list[Positive], list[list[Positive]], None] = None,
        aspect_ratios: Optional[list[Positive]] = None,
        offset: Fraction = 0.0,
        conventions: Derived[BoxConventions] = NORMAL,
    ) -> None:
        """Prepare the anchors of one cell of each level.

        Args:
            strides: Image pixels per cell, one for each of L levels.
            anchor_sizes: Square roots of the anchor areas in pixels: one list per level, or one flat list
                that holds for every level. Default 32, 64, 128, 256, 512.
            aspect_ratios: Heights over widths. Default 0.5, 1, 2.
            offset: Shift of the centres in cells, 0 to 1.
            conventions: Box conventions; they may set the offset and round the sides.

        Raises:
            ValueError: If there are sizes for another number of levels than L, or a size or ratio is not
                positive.
        """
        ratios = [0.5, 1.0, 2.0] if aspect_ratios is None else aspect_ratios
        sizes = [32.0, 64.0, 128.0, 256.0, 512.0] if anchor_sizes is None else anchor_sizes
        per_level = [list(s) if isinstance(s, (list, tuple)) else s for s in sizes]
        flat = [s for s in per_level if not isinstance(s, list)]
        levels: list[list[float]]
        if len(flat) == len(per_level):
            levels = [flat] * len(strides)
        else:
            levels = [s if isinstance(s, list) else [s] for s in per_level]
        if len(levels) != len(strides):
            raise ArgumentError(
                "anchor_sizes",
                f"there are {len(levels)} lists, but {len(strides)} feature levels with strides "
                f"{list(strides)}; give one list of sizes per level, or one flat list for all",
            )
        if any(size <= 0 for level in levels for size in level):
            raise ArgumentError("anchor_sizes", f"got {levels}, expected positive numbers")
        if not ratios or any(ratio <= 0 for ratio in ratios):
            raise ArgumentError("aspect_ratios", f"got {ratios}, expected positive numbers")
        self.strides = list(strides)
        self.offset = offset if conventions.anchor_offset is None else conventions.anchor_offset
        cell_of = _integer_cell_anchors if conventions.integer_anchors else _cell_anchors
        self._kept: Kept[list[Tensor]] = Kept(_SIZES_KEPT)
        self.cells = [cell_of(level, ratios, stride) for level, stride in zip(levels, strides)]

    @property
    def num_anchors(self) -> int:
        """A, anchors per cell; the same at every level.

        Raises:
            ValueError: If the levels differ, which a head that is shared by all levels cannot serve.
        """
        counts = {len(cell) for cell in self.cells}
        if len(counts) != 1:
            raise ValueError(f"levels have different numbers of anchors per cell: {sorted(counts)}")
        return counts.pop()

    def __call__(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Anchors of each level.

        Args:
            features: L maps ``[N, C, H_l, W_l]``; only their sizes matter, which may be unknown in a static
                graph.

        Returns:
            L tensors ``[H_l * W_l * A, 4]`` float32 xyxy in image pixels.

        Raises:
            ValueError: If there are more or fewer maps than strides.
        """
        if len(features) != len(self.strides):
            raise ValueError(f"{len(features)} feature maps, but anchors for {len(self.strides)} levels")
        sizes = tuple((dim(feature, 2), dim(feature, 3)) for feature in features)
        return self._kept.get(sizes, lambda: [self._of_level(i, *size) for i, size in enumerate(sizes)])

    def _of_level(self, level: int, height: Size, width: Size) -> Tensor:
        stride = self.strides[level]
        ys = (paddle.arange(height, dtype="float32") + self.offset) * stride
        xs = (paddle.arange(width, dtype="float32") + self.offset) * stride
        grid_y, grid_x = (paddle.flatten(g) for g in paddle.meshgrid(ys, xs))
        corners = paddle.stack([grid_x, grid_y, grid_x, grid_y], axis=1)
        shifted = corners.unsqueeze(1) + paddle.to_tensor(self.cells[level], dtype="float32").unsqueeze(0)
        return paddle.reshape(shifted, [-1, 4])


class RetinaAnchorGenerator(AnchorGenerator):
    """Anchors at fractions of an octave between the levels (Lin et al. 2017, RetinaNet, section 4)."""

    def __init__(
        self,
        *,
        strides: Derived[list[float]],
        octave_base_scale: Positive = 4.0,
        scales_per_octave: PositiveInt = 3,
        aspect_ratios: Optional[list[Positive]] = None,
        offset: Fraction = 0.0,
        conventions: Derived[BoxConventions] = NORMAL,
    ) -> None:
        """Prepare anchors of sizes base * stride * 2**(k / scales), k = 0 .. scales - 1.

        Args:
            strides: Image pixels per cell, one for each level.
            octave_base_scale: Smallest anchor of a level, in strides.
            scales_per_octave: Sizes per level, >= 1.
            aspect_ratios: Heights over widths. Default 0.5, 1, 2.
            offset: Shift of the centres in cells, 0 to 1.
            conventions: As in `AnchorGenerator`.
        """
        octaves = [octave_base_scale * 2 ** (k / scales_per_octave) for k in range(scales_per_octave)]
        super().__init__(
            strides=strides,
            anchor_sizes=[[stride * octave for octave in octaves] for stride in strides],
            aspect_ratios=aspect_ratios,
            offset=offset,
            conventions=conventions,
        )


def _cell_anchors(sizes: Sequence[float], ratios: Sequence[float], stride: float) -> list[list[float]]:
    """Anchors centred on the origin, size slow and ratio fast; computed in double precision."""
    del stride
    widths = [(math.sqrt(size * size / ratio), ratio) for size in sizes for ratio in ratios]
    return [_centred(width, width * ratio) for width, ratio in widths]


def _integer_cell_anchors(
    sizes: Sequence[float], ratios: Sequence[float], stride: float
) -> list[list[float]]:
    """As `_cell_anchors`, but multiples of an anchor with the area of a cell and integer sides."""
    anchors = []
    for size in sizes:
        for ratio in ratios:
            # Halves are rounded up, as C does; Python's round() takes them to the even neighbour.
            width = math.floor(math.sqrt(stride * stride / ratio) + 0.5)
            height = math.floor(width * ratio + 0.5)
            anchors.append(_centred(size / stride * width, size / stride * height))
    return anchors


def _centred(width: float, height: float) -> list[float]:
    return [-width / 2, -height / 2, width / 2, height / 2]
