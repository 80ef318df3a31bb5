"""Row selection with fixed shapes; boolean indexing would read the number of rows from the device.

Everything here runs eagerly, in a static graph with unknown sizes, and in ONNX.

Letters: N images, R rows per image, k rows to select.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Optional, Union

import paddle
from paddle import Tensor

from ppdet.ops.constants import Kept, arange

#: Below every score; marks rows that are not there. Finite, because some top-k kernels mishandle infinities.
LOWEST = -3.0e38
#: By shape, value and type.
_FILLED: Kept[Tensor] = Kept(64)
#: Where the rows of each image start in a flattened tensor, by images and rows.
_STARTS: Kept[Tensor] = Kept(256)


# Where a part of a detector is not of this project, Paddle translates all of its code before it is traced:
# `x.shape[0]` becomes an operation, and Python decisions on it branches of the graph. These two are left as
# they are, so that decisions on shapes stay in Python.
@paddle.jit.not_to_static
def static_dim(x: Tensor, axis: int) -> Optional[int]:
    """Length of an axis, or None in a static graph where it varies."""
    size = x.shape[axis]
    return int(size) if size >= 0 else None


@paddle.jit.not_to_static
def dim(x: Tensor, axis: int) -> Union[int, Tensor]:
    """Length of an axis: an int, or a 0-D int tensor in a static graph where it varies."""
    size = x.shape[axis]
    return int(size) if size >= 0 else paddle.shape(x)[axis]


class TopK(NamedTuple):
    """The best entries of each row of a matrix.

    Attributes:
        values: ``[N, k]`` falling; `LOWEST` where the row had fewer than k entries.
        columns: ``[N, k]`` int64; beyond the row's length where the row had fewer than k entries.
    """

    values: Tensor
    columns: Tensor


def top_k(scores: Tensor, k: int) -> TopK:
    """Best k of each row, padded when there are fewer. Order among equal scores is up to the kernel.

    Args:
        scores: ``[N, R]`` float, R may be smaller than k, unknown, or 0.
        k: Number of entries, >= 1.

    Returns:
        Values and columns, ``[N, k]`` each.
    """
    length = static_dim(scores, 1)
    if length is None or length < k:
        # Not with `pad`, which oneDNN in Paddle Inference 3.3 writes beyond its memory.
        lowest = paddle.full([dim(scores, 0), k], LOWEST, dtype=scores.dtype)
        scores = paddle.concat([scores, lowest], axis=1)
    values, columns = paddle.topk(scores, k, axis=1)
    return TopK(values, columns)


def gather_rows(x: Tensor, index: Tensor) -> Tensor:
    """Rows of each image by index: ``out[n, j] = x[n, index[n, j]]``.

    Args:
        x: ``[N, R, ...]`` with R >= 1.
        index: ``[N, k]`` int64 in 0..R-1.

    Returns:
        ``[N, k, ...]``.
    """
    if x.ndim == 2:
        return paddle.take_along_axis(x, index, axis=1, broadcast=False)
    flat = paddle.reshape(x, [-1, *x.shape[2:]])
    picked = paddle.gather(flat, paddle.flatten(index + row_starts(dim(x, 0), dim(x, 1))))
    return paddle.reshape(picked, [-1, index.shape[1], *x.shape[2:]])


def row_starts(images: Union[int, Tensor], rows: Union[int, Tensor]) -> Tensor:
    """Where the rows of each image start in a flattened tensor: ``[N, 1]`` int64."""
    return _STARTS.get((images, rows), lambda: arange(images).unsqueeze(1) * rows)


def place_rows(values: Tensor, slots: Tensor, size: Union[int, Tensor], fill: float = 0) -> Tensor:
    """Rows put at given slots of a new tensor: ``out[slots[i]] = values[i]``, `fill` elsewhere.

    Args:
        values: ``[P, ...]``.
        slots: ``[P]`` int64 in 0..size; rows with slot == size are dropped. Otherwise slots are distinct.
        size: Rows of the result.
        fill: Value of the rows nothing is put in.

    Returns:
        ``[size, ...]`` of the type of `values`.
    """
    # One spare row takes the dropped rows, so that their number is not needed.
    return paddle.scatter(filled([size + 1, *values.shape[1:]], fill, values.dtype), slots, values)[:-1]


def filled(shape: Sequence[Union[int, Tensor]], value: float, dtype: Any) -> Tensor:
    """A tensor of one value, made once; must not be written to."""
    return _FILLED.get((*shape, value, dtype), lambda: paddle.full(shape, value, dtype=dtype))
