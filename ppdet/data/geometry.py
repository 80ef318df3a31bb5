"""Moves ground truth: boxes, polygons and run lengths by the same rule. Pure functions on NumPy.

Letters: G objects, V vertices, H, W image height and width.
"""

from __future__ import annotations

from typing import Any, Callable, Optional

import numpy as np

from ppdet.structures import Mask, Polygons, Rle, Target

#: Moves points ``[..., 2]`` of x, y.
PointMap = Callable[[np.ndarray], np.ndarray]
#: Moves a binary mask ``[H, W]`` uint8.
BitmapMap = Callable[[np.ndarray], np.ndarray]


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
            previous, before = np.roll(points, 1, axis=0), np.roll(depth, 1)
            crosses = (depth >= 0) != (before >= 0)
            share = np.where(crosses, before / np.where(crosses, before - depth, 1), 0)[:, None]
            entry = previous + share * (points - previous)
            entry[:, axis] = sign * bound
            # In front of every vertex, the point where the edge towards it crosses the border.
            both = np.stack([entry, points], axis=1).reshape(-1, 2)
            points = both[np.stack([crosses, depth >= 0], axis=1).reshape(-1)]
    return points.astype(np.float32)
