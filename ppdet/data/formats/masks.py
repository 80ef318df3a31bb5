"""Segmentations of annotation files, checked before pycocotools sees them: its C code trusts its input."""

from __future__ import annotations

from typing import Any, Optional, Union

import numpy as np

from ppdet.data.formats.values import FARTHEST, number
from ppdet.structures import Mask, Rle

#: Run lengths of this many pixels take more characters than pycocotools sets aside for them: it would write
#: beyond its memory.
_MASK_PIXELS = 2**29
#: Compressed run lengths: characters count from this one, and carry five bits, a sign and a "more follows".
_FIRST_CHARACTER = 48


class MaskError(ValueError):
    """A segmentation that is no mask of its image; the message says why."""


def read_mask(segmentation: Any, size: tuple[int, int]) -> Mask:
    """A COCO segmentation.

    Args:
        segmentation: A list of polygons, one flat polygon, or run lengths, compressed or not; empty or None
            for no mask.
        size: (height, width) of the image; 0 where unknown.

    Returns:
        Polygons, each ``[V, 2]`` float64 as written, or compressed run lengths.

    Raises:
        MaskError: If it is neither, or does not fit the image.
    """
    if isinstance(segmentation, dict):
        return _read_runs(segmentation, size)
    if segmentation is None or segmentation == "":
        return ()
    if not isinstance(segmentation, list):
        raise MaskError(f"{str(segmentation)[:60]!r} is no list of polygons")
    flat = bool(segmentation) and not any(isinstance(part, list) for part in segmentation)
    parts = [segmentation] if flat else segmentation
    return tuple([_read_polygon(part) for part in parts if part != []])


def _read_polygon(part: Any) -> np.ndarray:
    try:
        polygon = np.array(part, np.float64)
    except (TypeError, ValueError, OverflowError):
        polygon = np.zeros(0)
    pairs = polygon.ndim == 1 or (polygon.ndim == 2 and polygon.shape[1] == 2)
    farthest = np.abs(polygon).max() if polygon.size else 0.0
    if not pairs or polygon.size < 6 or polygon.size % 2 or not np.isfinite(farthest):
        raise MaskError(f"the polygon {str(part)[:60]} is not 3 or more x, y pairs")
    if farthest > FARTHEST:
        raise MaskError(f"the polygon {str(part)[:60]} leaves its image by far")
    return polygon.reshape(-1, 2)


def _read_runs(segmentation: dict[str, Any], size: tuple[int, int]) -> Mask:
    given, counts = segmentation.get("size"), segmentation.get("counts")
    sides = [number(value) for value in given] if isinstance(given, list) else []
    if len(sides) != 2 or None in sides:
        raise MaskError(f"run lengths of size {str(given)[:40]}, which is not [height, width]")
    height, width = (int(value or 0) for value in sides)
    if 0 not in size and (height, width) != size:
        raise MaskError(f"run lengths of size {[height, width]}, its image has {list(size)}")
    if isinstance(counts, (str, bytes)):
        lengths = decompressed(counts)
    elif isinstance(counts, list):
        parsed = [number(value) for value in counts]
        whole = all(value is not None and value.is_integer() for value in parsed)
        lengths = np.array(parsed, np.float64) if whole else None
    else:
        lengths = None
    pixels = height * width
    if (
        lengths is None
        or not 0 < pixels < _MASK_PIXELS
        or (lengths < 0).any()
        or lengths.sum(dtype=np.float64) != pixels
    ):
        raise MaskError(f"run lengths that do not add up to its {height} x {width} pixels")
    if isinstance(counts, list):
        from pycocotools import mask as coco_mask

        runs = {"size": [height, width], "counts": lengths.astype(np.int64).tolist()}
        return dict(coco_mask.frPyObjects(runs, height, width))
    return {"size": [height, width], "counts": counts.encode("ascii") if isinstance(counts, str) else counts}


def decompressed(counts: Union[str, bytes]) -> Optional[np.ndarray]:
    """Run lengths from COCO's compressed text (``rleFrString`` of its mask API), ``[R]`` int64.

    A length takes one or more characters of five bits, lowest first; from the fourth on it is the difference
    to the length before the last.

    Returns:
        None if the text is cut short or no run lengths.
    """
    try:
        text = counts.encode("ascii") if isinstance(counts, str) else counts
    except UnicodeEncodeError:
        return None
    values = np.frombuffer(text, np.uint8).astype(np.int64) - _FIRST_CHARACTER
    if not len(values) or values.min() < 0 or values.max() > 63 or values[-1] & 32:
        return None
    ends = np.flatnonzero((values & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() > 6:  # 35 bits hold every length that a mask may have
        return None
    shift = 5 * (np.arange(len(values)) - np.repeat(starts, ends - starts + 1))
    lengths = np.add.reduceat((values & 31) << shift, starts)
    negative = (values[ends] & 16) != 0
    lengths -= np.where(negative, np.int64(1) << (shift[ends] + 5), 0)
    lengths[1::2] = np.cumsum(lengths[1::2])
    lengths[2::2] = np.cumsum(lengths[2::2])
    return lengths


def mask_area(mask: Mask) -> float:
    """Area of a mask in square pixels; polygons by the shoelace formula, parts added up."""
    if not isinstance(mask, dict):
        return sum(polygon_area(part) for part in mask)
    lengths = decompressed(mask["counts"])
    return 0.0 if lengths is None else float(lengths[1::2].sum())


def polygon_area(points: np.ndarray) -> float:
    """Area of a polygon ``[V, 2]`` in square pixels (shoelace formula)."""
    x, y = points.astype(np.float64).T
    return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2


def to_runs(mask: Mask, size: tuple[int, int]) -> Rle:
    """A mask as compressed run lengths.

    Args:
        mask: Polygons, or run lengths, which are returned as they are.
        size: (height, width) of the image.
    """
    from pycocotools import mask as coco_mask

    if isinstance(mask, dict):
        return mask
    parts: Any = coco_mask.frPyObjects([part.reshape(-1).tolist() for part in mask], *size)
    merged: Rle = coco_mask.merge(parts)
    return merged
