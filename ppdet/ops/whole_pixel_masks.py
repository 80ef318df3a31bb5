"""Pasting of masks in whole pixels, for older weights (`BoxConventions.whole_pixel_masks`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ppdet.ops.masks import encode_window


def paste_whole_pixels(
    mask_probs: np.ndarray, boxes: np.ndarray, image_size: tuple[int, int], *, threshold: float = 0.5
) -> tuple[dict[str, Any], ...]:
    """Mask probabilities within boxes to run-length masks of the whole image.

    A border of one empty cell goes around the mask, the box (up to its last pixel) is widened likewise and
    cut to integers towards zero, and the mask is resized bilinearly to the pixels from its first to its last.

    Args:
        mask_probs: ``[D, S, S]`` float32 in 0..1.
        boxes: ``[D, 4]`` float32 xyxy in image pixels, the last pixel included.
        image_size: (height, width).
        threshold: Probability beyond which a pixel belongs to the object.

    Returns:
        D COCO run-length masks ``{"size": [H, W], "counts": bytes}``.
    """
    return tuple(
        encode_window(*_window(probs, box, image_size, threshold), image_size)
        for probs, box in zip(np.asarray(mask_probs, np.float32), np.asarray(boxes, np.float32))
    )


def expanded_boxes(boxes: np.ndarray, side: int) -> np.ndarray:
    """Boxes ``[D, 4]`` up to their last pixel, widened about their centre by (side + 2) / side."""
    factor = np.float32((side + 2) / side)
    low, high = boxes[:, :2], boxes[:, 2:] - 1
    centre, half = (high + low) * np.float32(0.5), (high - low) * np.float32(0.5) * factor
    return np.concatenate([centre - half, centre + half], axis=1)


def _window(
    probs: np.ndarray, box: np.ndarray, image_size: tuple[int, int], threshold: float
) -> tuple[np.ndarray, int, int]:
    """Binary window as bool ``[columns, rows]``, its first column and first row."""
    x1, y1, x2, y2 = (int(v) for v in expanded_boxes(box[None], len(probs))[0])
    padded = np.pad(probs, 1)
    rows = _linear(len(padded), max(y2 - y1 + 1, 1))
    columns = _linear(len(padded), max(x2 - x1 + 1, 1))
    pasted = columns @ (rows @ padded).T > threshold
    top, left = max(y1, 0), max(x1, 0)
    bottom, right = max(min(y2 + 1, image_size[0]), top), max(min(x2 + 1, image_size[1]), left)
    return pasted[left - x1 : right - x1, top - y1 : bottom - y1], left, top


def _linear(before: int, after: int) -> np.ndarray:
    """Weights ``[after, before]`` of bilinear resizing with pixel centres at half-integers."""
    place = np.clip(
        (np.arange(after, dtype=np.float32) + 0.5) * np.float32(before / after) - 0.5, 0, before - 1
    )
    weights = 1 - np.abs(place[:, None] - np.arange(before, dtype=np.float32))
    return np.clip(weights, 0, None).astype(np.float32)
