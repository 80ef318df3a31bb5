"""Instance masks: polygons to training targets on the device, and mask probabilities to run lengths on the
host.

Letters: P polygon parts, V vertices of a part, R regions, Q pairs of a region and a part, S mask resolution,
D detections, H, W height and width of an image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
from paddle import Tensor

from ppdet.ops.constants import Kept, indices
from ppdet.ops.indexing import row_starts

#: Subpixels per pixel side at which outlines are rounded to a grid; part of the definition of a COCO mask.
_SUBPIXELS = 5
#: A column is crossed where an outline steps from this subpixel to the next: the middle of five.
_MIDDLE = 2
#: Region sides below this many pixels are widened to it, so that the scale stays finite.
_MIN_SIDE = 0.1
#: Half the elements of the largest intermediate tensor of `rasterize_polygons`: at most some 70 MB.
_CHUNK_ELEMENTS = 2**22
#: By resolution.
_COLUMNS: Kept[tuple[Tensor, Tensor, Tensor]] = Kept(8)


@paddle.no_grad()
def rasterize_polygons(
    vertices: Tensor, owner: Tensor, boxes: Tensor, objects: Tensor, *, resolution: int
) -> Tensor:
    """Masks of objects within regions, at a fixed resolution: the targets of a mask head.

    Each polygon part is moved and scaled so that the region becomes the square 0..S, and drawn exactly as
    COCO's mask API draws polygons; the parts of an object are united. Bit-exactness with it is what makes
    targets independent of where they are computed.

    Args:
        vertices: ``[P, V, 2]`` float32 x, y in pixels; parts are closed by repeating their last vertex up to
            V.
        owner: ``[P]`` int64 object that a part belongs to, -1 in padded rows.
        boxes: ``[R, 4]`` float32 xyxy regions in the same pixels.
        objects: ``[R]`` int64 object whose mask a region needs; an object without parts, or -1, has an empty
            one.
        resolution: S.

    Returns:
        ``[R, S, S]`` float32 of 0 and 1, row then column.
    """
    belongs = (objects.unsqueeze(1) == owner) & (owner >= 0)
    pairs = paddle.nonzero(belongs)
    masks = paddle.zeros([boxes.shape[0], resolution * resolution], dtype="float32")
    step = max(1, _CHUNK_ELEMENTS // (max(1, vertices.shape[1]) * resolution))
    for first in range(0, pairs.shape[0], step):
        region, part = paddle.unstack(pairs[first : first + step], axis=1)
        box = paddle.gather(boxes, region).astype("float64").unsqueeze(1)
        lower, upper = paddle.split(box, 2, axis=-1)
        points = paddle.gather(vertices, part).astype("float64") - lower
        points = points * (resolution / paddle.clip(upper - lower, min=_MIN_SIDE))
        masks = paddle.scatter_nd_add(masks, region.unsqueeze(1), _fill(points, resolution))
    united = (masks > 0).astype("float32")
    return paddle.reshape(united, [-1, resolution, resolution]).transpose([0, 2, 1])


def _fill(points: Tensor, resolution: int) -> Tensor:
    """Closed outlines ``[Q, V, 2]`` float64 in mask pixels to masks ``[Q, S * S]`` float32, column by column.

    Going down the columns one after the other, a pixel is inside if an odd number of outline crossings have
    come before it.
    """
    start = paddle.trunc(points * _SUBPIXELS + 0.5)
    crossed, row = _crossings(start, paddle.roll(start, -1, axis=1), resolution)
    count, size = points.shape[0], resolution * resolution
    # A crossing below the last row falls on the first pixel of the next column; there is one spare at the
    # end.
    pixel = row.astype("int64") + indices(range(0, size, resolution))
    pixel = pixel + row_starts(count, size + 1).unsqueeze(-1)
    crossings = paddle.scatter_nd(pixel.unsqueeze(-1), crossed.astype("float32"), [count * (size + 1)])
    before = paddle.cumsum(paddle.reshape(crossings, [count, size + 1])[:, :size], axis=1)
    return paddle.remainder(before, paddle.full_like(before, 2.0))


def _crossings(start: Tensor, end: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """Where edges cross the middle of pixel columns.

    An edge is drawn with one subpixel per step along its longer side; its crossing of a column is the upper
    of the two subpixels before and after the column's middle. Here both are computed, without walking the
    edge.

    Args:
        start: ``[Q, V, 2]`` float64 whole subpixels.
        end: ``[Q, V, 2]`` float64 whole subpixels.
        resolution: S.

    Returns:
        Whether each edge crosses each column, bool ``[Q, V, S]``, and in which row 0..S, float64 ``[Q, V,
        S]``.
    """
    middles, both, candidates = _COLUMNS.get(resolution, lambda: _columns(resolution))
    x_start, y_start = start.unsqueeze(-1).unbind(2)
    x_end, y_end = end.unsqueeze(-1).unbind(2)
    width, height = x_end - x_start, y_end - y_start
    flat = width.abs() >= height.abs()
    # Edges run left to right if flat and downwards if steep, whichever way the outline goes.
    swap = paddle.where(flat, width, height) < 0
    x0, x1 = paddle.where(swap, x_end, x_start), paddle.where(swap, x_start, x_end)
    y0, y1 = paddle.where(swap, y_end, y_start), paddle.where(swap, y_start, y_end)
    width, height = x1 - x0, y1 - y0
    crossed = (paddle.minimum(x0, x1) <= middles) & (paddle.maximum(x0, x1) > middles)

    slope = height / paddle.clip(width, min=1.0)
    flat_row = paddle.floor(y0 + slope * (both - x0) + 0.5).min(axis=0)

    slope = width / paddle.clip(height, min=1.0)
    # Last step before the crossing, first by division, then corrected by drawing that step and the next,
    # since the product may round to the other side of one half.
    safe = paddle.where(slope == 0, paddle.ones_like(slope), slope)
    guess = paddle.clip(paddle.floor((middles + 0.5 - x0) / safe), min=0.0)
    is_after = paddle.floor(x0 + slope * (guess + candidates) + 0.5) > middles
    before = (is_after ^ (slope > 0)).astype("float64")
    row = paddle.where(flat, flat_row, y0 + (guess - 1 + before.sum(axis=0)))
    return crossed, paddle.ceil(paddle.clip((row + 0.5) / _SUBPIXELS - 0.5, min=0.0, max=float(resolution)))


def _columns(resolution: int) -> tuple[Tensor, Tensor, Tensor]:
    """Subpixels before the middles of columns ``[S]``, before and after them ``[2, 1, 1, S]``; and 0, 1.

    All float64, the last ``[2, 1, 1, 1]``.
    """
    middles = paddle.arange(resolution, dtype="float64") * _SUBPIXELS + _MIDDLE
    two = paddle.arange(2, dtype="float64").reshape([2, 1, 1, 1])
    return middles, middles + two, two


def paste_to_rle(
    mask_probs: np.ndarray, boxes: np.ndarray, image_size: tuple[int, int], *, threshold: float = 0.5
) -> tuple[dict[str, Any], ...]:
    """Mask probabilities within boxes to run-length masks of the whole image.

    A pixel's probability is interpolated bilinearly at its centre, the probabilities being those at the
    centres of an S x S grid over the box, and zero outside the box. Only the window of the box is ever
    computed, one detection at a time.

    Args:
        mask_probs: ``[D, S, S]`` float32 in 0..1.
        boxes: ``[D, 4]`` float32 xyxy in image pixels.
        image_size: (height, width).
        threshold: Probability from which on a pixel belongs to the object.

    Returns:
        D COCO run-length masks ``{"size": [H, W], "counts": bytes}``; an empty box has an empty mask.
    """
    return tuple(
        encode_window(*_paste_window(probs, box, image_size, threshold), image_size)
        for probs, box in zip(np.asarray(mask_probs, np.float32), np.asarray(boxes, np.float32))
    )


def _paste_window(
    probs: np.ndarray, box: np.ndarray, image_size: tuple[int, int], threshold: float
) -> tuple[np.ndarray, int, int]:
    """Binary window of one mask as bool ``[columns, rows]``, with its first column and first row."""
    row, first_row = _positions(float(box[1]), float(box[3]), image_size[0], probs.shape[0])
    column, first_column = _positions(float(box[0]), float(box[2]), image_size[1], probs.shape[1])
    # Mixing picked rows beats a product with a matrix of weights: it is as short, and starts no BLAS threads.
    bordered = np.pad(probs, 1).T
    across = _mix(_mix(bordered, column).T, row).T
    return across >= threshold, first_column, first_row


def _positions(low: float, high: float, size: int, resolution: int) -> tuple[np.ndarray, int]:
    """Where pixels along an axis lie between the cells of a box, which count from 1; and the first pixel."""
    side = high - low
    if not side > 0:
        return np.zeros(0), 0
    # Pixels whose centre lies less than one cell outside the box still get a share of its border cells.
    margin = side / resolution
    first = max(0, int(np.floor(low - margin)))
    last = min(size, int(np.ceil(high + margin)))
    position = (np.arange(first, max(first, last)) + 0.5 - low) * (resolution / side) + 0.5
    return np.clip(position, 0, resolution + 1), first


def _mix(values: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Rows of ``[n, ...]`` at fractional positions 0..n-1, linearly between the two nearest."""
    before = np.minimum(position.astype(np.int64), len(values) - 2)
    share = (position - before).astype(np.float32)[:, None]
    return values[before] * (1 - share) + values[before + 1] * share


def encode_window(
    window: np.ndarray, first_column: int, first_row: int, image_size: tuple[int, int]
) -> dict[str, Any]:
    """Run-length mask of an image that is empty but for a window ``[columns, rows]``."""
    height, width = image_size
    # A column of the window ends in one empty pixel, so that no run goes from one column into the next.
    rows = window.shape[1] + 1
    pixels = np.zeros(window.shape[0] * rows + 1, bool)
    pixels[1:].reshape(-1, rows)[:, :-1] = window
    column, row = np.divmod(np.flatnonzero(pixels[1:] != pixels[:-1]), rows)
    # Starts and ends of runs take turns, counted down the columns of the whole image.
    edges = (column + first_column) * height + row + first_row
    # A run that ends at the bottom of a column goes on if the next column starts with one.
    meets = np.flatnonzero(edges[1:-1:2] == edges[2::2])
    edges = np.delete(edges, np.concatenate([2 * meets + 1, 2 * meets + 2]))
    counts = np.diff(np.concatenate([[0], edges, [height * width]]))
    if counts[-1] == 0:
        counts = counts[:-1]
    return {"size": [height, width], "counts": compress_counts(counts)}


def compress_counts(counts: np.ndarray) -> bytes:
    """Run lengths in COCO's text form.

    From the fourth on, a length is written as the difference to the one two before it. Each number is cut
    into groups of 5 bits, lowest first; bit 6 says that more follow, the highest bit of the last is its sign,
    and 48 is added to make it printable.

    Args:
        counts: ``[n]`` int lengths, background first.

    Returns:
        ASCII bytes.
    """
    values = counts.astype(np.int64)
    values[3:] -= counts[1:-2].astype(np.int64)
    # 35 bits hold any length in an image of 16 thousand megapixels.
    groups = 7
    digits = np.zeros((len(values), groups), np.uint8)
    used = np.zeros((len(values), groups), bool)
    more = np.ones(len(values), bool)
    for i in range(groups):
        used[:, i] = more
        low = values & 31
        values = values >> 5
        more = more & np.where(low & 16, values != -1, values != 0)
        digits[:, i] = low + 32 * more + 48
    return digits[used].tobytes()
