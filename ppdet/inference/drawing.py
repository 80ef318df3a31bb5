"""Detections drawn into an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from ppdet.structures import Detections
from ppdet.utils.colours import class_colour
from ppdet.utils.errors import DataError

#: Images with a shorter side than this, in pixels, are enlarged so that labels stay legible.
MIN_SIDE = 480
#: Enlargement ends where the longer side would exceed this many pixels.
MAX_SIDE = 4096
#: Longest side in pixels that a JPEG file can have.
_JPEG_SIDE = 65500
#: Formats that pictures are written in; others become PNG.
WRITTEN = frozenset({".jpg", ".jpeg", ".png", ".bmp"})
#: Height of a capital letter for an image whose longer side is 1000 pixels.
LETTER = 13
#: Height in pixels of the font's capitals at scale 1.
_CAPITAL = 21
#: Pixels between pictures side by side.
GAP = 8
FONT = cv2.FONT_HERSHEY_SIMPLEX
#: OpenCV 5 draws the letters of most alphabets, older ones have strokes for ASCII alone.
_ASCII_ONLY = int(cv2.__version__.split(".")[0]) < 5


def draw_detections(
    image: np.ndarray,
    detections: Detections,
    names: Sequence[str],
    *,
    threshold: float = 0.5,
    with_scores: bool = True,
) -> np.ndarray:
    """A copy of an image with boxes, masks, class names and scores.

    Args:
        image: ``[H, W, 3]`` uint8 RGB.
        detections: Boxes in pixels of `image`.
        names: Class names by label.
        threshold: Lowest score that is drawn.
        with_scores: Write the score beside the name.

    Returns:
        uint8 RGB; enlarged by a whole number if `image` is small.
    """
    short, long = sorted(image.shape[:2])
    factor = max(1, min(-(-MIN_SIDE // max(1, short)), MAX_SIDE // max(1, long)))
    canvas = np.repeat(np.repeat(image, factor, 0), factor, 1) if factor > 1 else image.copy()
    shown = detections[detections.scores >= threshold]
    for index in reversed(range(len(shown))):  # the surest last, on top
        if shown.masks is not None:
            _blend_mask(canvas, shown.masks[index], class_colour(int(shown.labels[index])), factor)
    for index in reversed(range(len(shown))):
        label = int(shown.labels[index])
        text = _drawable(names[label], label) + (f" {shown.scores[index]:.2f}" if with_scores else "")
        _draw_box(canvas, shown.boxes[index] * factor, text, class_colour(label))
    return canvas


def side_by_side(parts: Mapping[str, np.ndarray]) -> np.ndarray:
    """Pictures of one size beside each other, each under its title.

    Args:
        parts: Title -> ``[H, W, 3]`` uint8 RGB.

    Returns:
        uint8 RGB, white between and above the pictures.
    """
    titled: list[np.ndarray] = []
    for title, picture in parts.items():
        height, width = picture.shape[:2]
        letter = max(10.0, LETTER * max(height, width) / 1000)
        stroke = max(1, round(letter / 6))
        head = np.full((round(2.5 * letter), width, 3), 255, np.uint8)
        place = (round(letter / 2), round(1.75 * letter))
        cv2.putText(head, title, place, FONT, letter / _CAPITAL, (0, 0, 0), stroke, cv2.LINE_AA)
        whole = np.concatenate([head, picture])
        gap = np.full((len(whole), GAP if titled else 0, 3), 255, np.uint8)
        titled += [gap, whole]
    return np.concatenate(titled, axis=1)


def save_picture(picture: np.ndarray, path: Path) -> Path:
    """Write a picture; makes its folder.

    Args:
        picture: ``[H, W, 3]`` uint8 RGB.
        path: Where to; its suffix says how. What a format cannot hold becomes a PNG of the same name.

    Returns:
        The file.

    Raises:
        DataError: If it cannot be written.
    """
    too_long = max(picture.shape[:2]) > _JPEG_SIDE and path.suffix.lower() in (".jpg", ".jpeg")
    if too_long or path.suffix.lower() not in WRITTEN:
        path = path.with_suffix(".png")
    # Written by Python, since OpenCV cannot open names outside the code page on Windows.
    done, encoded = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise DataError(f"{path}: OpenCV cannot encode a picture of {picture.shape[1]} x {picture.shape[0]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded.tobytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from None
    return path


def _drawable(name: str, label: int) -> str:
    """The name, or a stand-in for one that OpenCV's font has no letters for."""
    return name if name.isprintable() and (name.isascii() or not _ASCII_ONLY) else f"class {label}"


def _blend_mask(canvas: np.ndarray, rle: dict, colour: tuple[int, int, int], factor: int) -> None:
    from pycocotools import mask as coco_mask

    inside = coco_mask.decode(rle).astype(bool)
    inside = np.repeat(np.repeat(inside, factor, 0), factor, 1)
    canvas[inside] = (0.55 * canvas[inside] + 0.45 * np.array(colour)).astype(np.uint8)


def _draw_box(canvas: np.ndarray, box: np.ndarray, text: str, colour: tuple[int, int, int]) -> None:
    height, width = canvas.shape[:2]
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    letter = max(10.0, LETTER * max(height, width) / 1000)
    stroke = max(1, round(letter / 6))
    cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, max(2, stroke), cv2.LINE_AA)
    scale = letter / _CAPITAL
    (text_width, text_height), below = cv2.getTextSize(text, FONT, scale, stroke)
    plate_height = text_height + below + 4
    # Above the box if there is room, else inside it; never out of the picture.
    top = y1 - plate_height if y1 >= plate_height else max(0, min(max(y1, 0), height - plate_height))
    left = min(max(x1, 0), max(0, width - text_width - 6))
    cv2.rectangle(canvas, (left, top), (left + text_width + 6, top + plate_height), colour, cv2.FILLED)
    bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140
    ink = (0, 0, 0) if bright else (255, 255, 255)
    cv2.putText(canvas, text, (left + 3, top + text_height + 2), FONT, scale, ink, stroke, cv2.LINE_AA)
