"""Images whose pixels say where their objects are, so that a transform can be checked against them."""

from __future__ import annotations

from typing import Optional

import numpy as np
from hypothesis import strategies as st

from ppdet.data.geometry import decode_runs, encode_runs
from ppdet.structures import Mask, Sample, Target
from tests.data.support import sample_of


def inside(polygon: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Whether points ``[..., 2]`` are inside of a polygon ``[V, 2]``, by the edges to their right."""
    crossings = np.zeros(points.shape[:-1], int)
    for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, -1, axis=0)):
        if y1 != y2:
            spans = (points[..., 1] >= min(y1, y2)) & (points[..., 1] < max(y1, y2))
            crossings += spans & (points[..., 0] < x1 + (points[..., 1] - y1) * (x2 - x1) / (y2 - y1))
    odd: np.ndarray = crossings % 2 == 1
    return odd


def rasterised(mask: Mask, size: tuple[int, int], *, times: int = 4) -> np.ndarray:
    """Which share of each pixel a mask covers, ``[H, W]`` in 0..1, by `times` times `times` points of it."""
    if not isinstance(mask, tuple):
        return decode_runs(mask).astype(np.float64)
    rows, columns = (((np.arange(side * times) + 0.5) / times) for side in size)
    points = np.stack(np.meshgrid(columns, rows), axis=-1)
    covered = np.zeros(points.shape[:2], bool)
    for part in mask:
        covered |= inside(part.astype(np.float64), points)
    shares: np.ndarray = covered.reshape(size[0], times, size[1], times).mean(axis=(1, 3))
    return shares


def scene(
    polygons: list[np.ndarray],
    size: tuple[int, int],
    *,
    runs: bool = False,
    masks: bool = True,
    is_crowd: Optional[list[bool]] = None,
) -> Sample:
    """Black, with each object painted white; labels count up."""
    image = np.zeros((*size, 3), np.uint8)
    bitmaps = []
    for polygon in polygons:
        bitmap = rasterised((polygon,), size, times=1).astype(np.uint8)
        image[bitmap > 0] = 255
        bitmaps.append(bitmap)
    made: tuple[Mask, ...] = tuple(
        encode_runs(bitmap) if runs else (polygon.astype(np.float32),)
        for bitmap, polygon in zip(bitmaps, polygons)
    )
    boxes = [[*polygon.min(axis=0), *polygon.max(axis=0)] for polygon in polygons]
    target = Target(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.arange(len(polygons)),
        is_crowd=np.array(is_crowd if is_crowd is not None else [False] * len(polygons), bool),
        masks=made if masks else None,
    )
    return sample_of(image, target)


@st.composite
def samples(draw: st.DrawFn, *, masks: Optional[bool] = None) -> Sample:
    """An image of any small size with 0 to 4 objects: triangles or rectangles, crowds among them."""
    height, width = draw(st.integers(12, 48)), draw(st.integers(12, 48))
    polygons = []
    for _ in range(draw(st.integers(0, 4))):
        x, y = draw(st.integers(0, width - 6)), draw(st.integers(0, height - 6))
        right, bottom = draw(st.integers(x + 5, width)), draw(st.integers(y + 5, height))
        corners = [[x, y], [right, y], [right, bottom], [x, bottom]]
        polygons.append(np.array(corners[: draw(st.sampled_from([3, 4]))], float))
    crowds = [draw(st.booleans()) for _ in polygons]
    with_masks = draw(st.booleans()) if masks is None else masks
    runs = draw(st.booleans())
    return scene(polygons, (height, width), runs=runs, masks=with_masks, is_crowd=crowds)


def check_target(sample: Sample) -> None:
    """Boxes are inside of the image and not empty, masks inside of their boxes, arrays of one length."""
    assert sample.image is not None
    assert sample.target is not None
    assert sample.image.dtype == np.uint8
    assert sample.image.flags.c_contiguous
    height, width = sample.image.shape[:2]
    assert sample.image_size == (float(height), float(width))
    target = sample.target
    assert target.boxes.dtype == np.float32
    assert (target.boxes >= 0).all()
    assert (target.boxes[:, [0, 2]] <= width).all()
    assert (target.boxes[:, [1, 3]] <= height).all()
    assert (target.boxes[:, 2:] > target.boxes[:, :2]).all()
    for box, mask in zip(target.boxes, target.masks or ()):
        if isinstance(mask, tuple):
            points = np.concatenate(mask)
            assert all(len(part) >= 3 for part in mask)
            assert (points >= box[:2] - 0.01).all()
            assert (points <= box[2:] + 0.01).all()
        else:
            assert tuple(mask["size"]) == (height, width)
            rows, columns = np.nonzero(decode_runs(mask))
            # A pixel belongs to a mask if its centre does.
            assert columns.min() >= box[0] - 1
            assert columns.max() + 1 <= box[2] + 1
            assert rows.min() >= box[1] - 1
            assert rows.max() + 1 <= box[3] + 1


def same(first: Sample, second: Sample) -> bool:
    """Whether two samples are equal, bit for bit."""
    one, other = first.target, second.target
    if not np.array_equal(first.image, second.image) or first.image_size != second.image_size:
        return False
    if one is None or other is None:
        return one is other
    arrays = ("boxes", "labels", "is_crowd", "weights", "difficult")
    if not all(np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays):
        return False
    pairs = list(zip(one.masks or (), other.masks or ()))
    return (one.masks is None) == (other.masks is None) and all(
        all(np.array_equal(a, b) for a, b in zip(p, q)) if isinstance(p, tuple) else p == q for p, q in pairs
    )
