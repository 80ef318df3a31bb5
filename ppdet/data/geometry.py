"""Moves ground truth: boxes, polygons and run lengths by the same rule. Pure functions on NumPy.

Letters: G objects, V vertices, H, W image height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable, NamedTuple, Optional

import numpy as np

from ppdet.data.formats.masks import mask_area, polygon_area
from ppdet.structures import Mask, Polygons, Rle, Target

#: Moves points ``[..., 2]`` of x, y.
PointMap = Callable[[np.ndarray], np.ndarray]
#: Moves a binary mask ``[H, W]`` uint8.
BitmapMap = Callable[[np.ndarray], np.ndarray]
#: Area in pixels of what cutting can leave of a polygon beyond the border: a bridge along it.
_SCRAP = 1e-3


def decode_runs(mask: Rle) -> np.ndarray:
    """Run lengths as a bitmap ``[H, W]`` uint8 of 0 and 1."""
    from pycocotools import mask as coco_mask

    bitmap: np.ndarray = coco_mask.decode(mask)
    return bitmap


def encode_runs(bitmap: np.ndarray) -> Rle:
    """A bitmap ``[H, W]`` as run lengths."""
    from pycocotools import mask as coco_mask

    encoded: dict[str, Any] = coco_mask.encode(np.asfortranarray(bitmap, np.uint8))
    return encoded


def map_masks(
    masks: Optional[tuple[Mask, ...]], points: PointMap, bitmap: BitmapMap
) -> Optional[tuple[Mask, ...]]:
    """Masks with every polygon moved by `points` and every run-length mask by `bitmap`."""
    if masks is None:
        return None
    return tuple(
        tuple(points(part) for part in mask)
        if isinstance(mask, tuple)
        else encode_runs(bitmap(decode_runs(mask)))
        for mask in masks
    )


def flip_target(target: Target, width: float) -> Target:
    """Mirror left and right in an image of `width` pixels: x becomes width - x."""
    boxes = target.boxes.copy()
    boxes[:, 0] = width - target.boxes[:, 2]
    boxes[:, 2] = width - target.boxes[:, 0]

    def points(part: np.ndarray) -> np.ndarray:
        moved = part.copy()
        moved[:, 0] = width - part[:, 0]
        return moved

    return target.replace(boxes=boxes, masks=map_masks(target.masks, points, lambda b: b[:, ::-1]))


def resize_target(target: Target, scale: tuple[float, float], size: tuple[int, int]) -> Target:
    """Scale by (y, x) and clip boxes to the new `size` (height, width). Polygons are scaled, not clipped."""
    import cv2

    factors = np.array([scale[1], scale[0]], np.float32)
    boxes = target.boxes * np.tile(factors, 2)
    np.clip(boxes, 0, np.array([size[1], size[0], size[1], size[0]], np.float32), out=boxes)
    masks = map_masks(
        target.masks,
        lambda part: part * factors,
        lambda bitmap: cv2.resize(bitmap, (size[1], size[0]), interpolation=cv2.INTER_NEAREST),
    )
    return target.replace(boxes=boxes, masks=masks)


def paste_target(target: Target, offset: tuple[int, int], size: tuple[int, int]) -> Target:
    """Move onto a canvas of `size` (height, width), the old corner at `offset` (y, x)."""
    y, x = offset
    shift = np.array([x, y], np.float32)

    def bitmap(old: np.ndarray) -> np.ndarray:
        new = np.zeros(size, np.uint8)
        new[y : y + old.shape[0], x : x + old.shape[1]] = old
        return new

    masks = map_masks(target.masks, lambda part: part + shift, bitmap)
    return target.replace(boxes=target.boxes + np.tile(shift, 2), masks=masks)


def trace_bitmap(bitmap: np.ndarray) -> Polygons:
    """Outlines of a bitmap ``[H, W]`` of 0 and 1, as polygons in pixels; holes are filled.

    OpenCV's contours run through the centres of the outermost pixels, which would take half a pixel off each
    side; tracing the mask at twice its size leaves a quarter of a pixel.
    """
    import cv2

    double = np.repeat(np.repeat(bitmap, 2, axis=0), 2, axis=1)
    contours: Any = cv2.findContours(double, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    return tuple((c.reshape(-1, 2).astype(np.float32) + 0.5) / 2 for c in contours if len(c) >= 3)


def crop_target(target: Target, offset: tuple[int, int], size: tuple[int, int]) -> Target:
    """Cut to the part of `size` (height, width) whose corner is at `offset` (y, x). Keeps every object."""
    (y, x), (height, width) = offset, size
    shift = np.array([x, y], np.float32)
    limits = np.array([width, height], np.float32)
    boxes: np.ndarray = np.clip(target.boxes - np.tile(shift, 2), 0, np.tile(limits, 2))
    if target.masks is None:
        return target.replace(boxes=boxes)
    masks: list[Mask] = []
    for mask in target.masks:
        if isinstance(mask, tuple):
            parts = (clip_polygon(part - shift, limits) for part in mask)
            masks.append(tuple(part for part in parts if len(part) >= 3))
        else:
            masks.append(encode_runs(decode_runs(mask)[y : y + height, x : x + width]))
    return target.replace(boxes=boxes, masks=tuple(masks))


def clip_polygon(points: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """The part of a polygon ``[V, 2]`` within 0..limits (x, y), ``[V', 2]``; V' = 0 if there is none.

    Cuts off one half plane after the other (Sutherland & Hodgman, "Reentrant polygon clipping", 1974). A
    polygon that is cut in two keeps a bridge of no area along the border.
    """
    for axis in (0, 1):
        for sign, bound in ((1.0, 0.0), (-1.0, -float(limits[axis]))):
            if len(points) == 0:
                return points
            # Inside is where depth >= 0.
            depth = sign * points[:, axis] - bound
            if depth.min() >= 0:
                continue
            previous, before = np.roll(points, 1, axis=0), np.roll(depth, 1)
            crosses = (depth >= 0) != (before >= 0)
            share = np.where(crosses, before / np.where(crosses, before - depth, 1), 0)[:, None]
            entry = previous + share * (points - previous)
            entry[:, axis] = sign * bound
            # In front of every vertex, the point where the edge towards it crosses the border.
            both = np.stack([entry, points], axis=1).reshape(-1, 2)
            points = both[np.stack([crosses, depth >= 0], axis=1).reshape(-1)]
    return points.astype(np.float32)


def join_targets(targets: Sequence[Target]) -> Target:
    """The objects of one or more targets as those of one image.

    What only some of them have is filled in: no object of the others is difficult, and their weights are 1.
    Masks stay only if all that have objects have them.
    """
    counts = [len(target) for target in targets]

    def joined(name: str, filler: Any) -> Optional[np.ndarray]:
        arrays = [getattr(target, name) for target in targets]
        if all(array is None for array in arrays):
            return None
        return np.concatenate(
            [np.full(n, filler) if array is None else array for n, array in zip(counts, arrays)]
        )

    missing = [target.masks is None for target in targets]
    without_masks = all(missing) or any(none and n for none, n in zip(missing, counts))
    return Target(
        boxes=np.concatenate([target.boxes for target in targets]),
        labels=np.concatenate([target.labels for target in targets]),
        is_crowd=np.concatenate([target.is_crowd for target in targets]),
        difficult=joined("difficult", False),
        masks=None if without_masks else tuple(mask for target in targets for mask in target.masks or ()),
        weights=joined("weights", np.float32(1)),
    )


class Moved(NamedTuple):
    """Ground truth after a transform that can push objects over the border.

    Attributes:
        target: Every object, cut to the image.
        visible: ``[G]`` share of each object's box that is inside of the image, 0..1; 0 if its mask is gone.
    """

    target: Target
    visible: np.ndarray

    def kept(self, min_visible: float) -> Target:
        """The objects of which enough is left to learn from.

        A crowd region stays if anything of it is visible: what it covers must not count as background.
        """
        enough = (self.visible >= min_visible) | self.target.is_crowd
        return self.target.select(enough & (self.visible > 0))


def crop_visible(target: Target, offset: tuple[int, int], size: tuple[int, int]) -> Moved:
    """As `crop_target`, with what is left of each object."""
    cut = crop_target(target, offset, size)
    return Moved(cut, _share_left(target.boxes, target.masks, cut))


def warp_target(target: Target, matrix: np.ndarray, size: tuple[int, int]) -> Moved:
    """Map by an affine matrix and cut to an image.

    A box that is turned or sheared becomes the box around what is left of its mask, or around its four
    corners where there is no mask. A box that is scaled and moved stays itself, cut.

    Args:
        target: G objects.
        matrix: ``[2, 3]``; a point (x, y, 1) in pixels becomes ``matrix @ point``.
        size: (height, width) of the image.
    """
    limits = np.array([size[1], size[0]], np.float32)
    corners = target.boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    whole = [_map_points(matrix, points) for points in corners]
    masks = map_masks(
        target.masks,
        lambda part: clip_polygon(_map_points(matrix, part), limits),
        lambda bitmap: warp_pixels(bitmap, matrix, size, linear=False),
    )
    if masks is not None:
        masks = tuple(_without_scraps(mask) for mask in masks)
    boxes = np.array([_extent(points) for points in whole], np.float32).reshape(-1, 4)
    cut = np.clip(boxes, 0, np.tile(limits, 2))
    if target.masks is not None and masks is not None and (matrix[0, 1] or matrix[1, 0]):
        for row, (before, after) in enumerate(zip(target.masks, masks)):
            old, new = mask_outline(before), mask_outline(after)
            if len(old):
                boxes[row] = _extent(_map_points(matrix, old))
                cut[row] = _extent(new) if len(new) else cut[row]
    moved = target.replace(boxes=cut, masks=masks)
    return Moved(moved, _share_left(boxes, target.masks, moved))


def warp_pixels(
    image: np.ndarray,
    matrix: np.ndarray,
    size: tuple[int, int],
    *,
    linear: bool = True,
    fill: Sequence[float] = (0, 0, 0),
) -> np.ndarray:
    """Map an image ``[H, W]`` or ``[H, W, 3]`` as `warp_target` maps points.

    Args:
        image: The pixels.
        matrix: ``[2, 3]`` in continuous coordinates: the first pixel reaches from 0 to 1.
        size: (height, width) of the result.
        linear: Interpolate; else take the nearest pixel.
        fill: Colour where there is no image.
    """
    import cv2

    # OpenCV counts from the centre of the first pixel.
    centred = matrix.astype(np.float64).copy()
    centred[:, 2] += centred[:, :2].sum(axis=1) / 2 - 0.5
    flags = cv2.INTER_LINEAR if linear else cv2.INTER_NEAREST
    warped: np.ndarray = cv2.warpAffine(
        image, centred, (size[1], size[0]), flags=flags, borderValue=tuple(float(value) for value in fill)
    )
    return warped


def mask_outline(mask: Mask) -> np.ndarray:
    """Points ``[V, 2]`` of x, y that reach as far as a mask does; V = 0 if it is empty."""
    if isinstance(mask, tuple):
        return np.concatenate(mask) if mask else np.zeros((0, 2), np.float32)
    import cv2

    filled = cv2.findNonZero(decode_runs(mask))
    if filled is None:
        return np.zeros((0, 2), np.float32)
    pixels = cv2.convexHull(filled).reshape(-1, 2)
    corners = [pixels + np.array(corner) for corner in ((0, 0), (1, 0), (0, 1), (1, 1))]
    return np.concatenate(corners).astype(np.float32)


def _map_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    mapped: np.ndarray = points @ matrix[:, :2].T + matrix[:, 2]
    return mapped.astype(np.float32)


def _extent(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def _without_scraps(mask: Mask) -> Mask:
    return tuple(p for p in mask if polygon_area(p) > _SCRAP) if isinstance(mask, tuple) else mask


def _share_left(boxes: np.ndarray, masks: Optional[tuple[Mask, ...]], cut: Target) -> np.ndarray:
    """What a cut target has left of boxes ``[G, 4]`` and their masks, ``[G]`` in 0..1."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    left = (cut.boxes[:, 2:] - cut.boxes[:, :2]).prod(axis=1)
    share: np.ndarray = np.where(areas > 0, left / np.where(areas > 0, areas, 1), 0).clip(0, 1)
    for row, (before, after) in enumerate(zip(masks or (), cut.masks or ())):
        # A polygon without area says nothing of its object; empty run lengths have lost it.
        said = isinstance(before, dict) or mask_area(before) > _SCRAP
        if said and mask_area(after) <= _SCRAP:
            share[row] = 0
    return share
