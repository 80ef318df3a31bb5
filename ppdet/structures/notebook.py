"""What a notebook shows of an image's detections: the image with its boxes, and a table.

Letters: D detections. Everything is one string of HTML; every name and path in it is escaped.
"""

from __future__ import annotations

import base64
import html
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np

from ppdet.utils.colours import class_colour

#: Longer side of the picture in pixels: large enough to judge boxes, small enough to stay in a notebook.
_SIDE = 640
#: Smaller ones are shown enlarged to this, so that names can be read.
_LEAST_SHOWN = 360
#: Quality of its JPEG.
_QUALITY = 80
#: Share of a mask's colour in its pixels.
_MASK_SHARE = 0.45
#: EXIF's orientation, and its values that exchange width and height (CIPA DC-008, 4.6.4).
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)


def picture(
    path: str,
    size: Optional[tuple[int, int]],
    boxes: np.ndarray,
    labels: np.ndarray,
    texts: Sequence[str],
    masks: Optional[Sequence[dict[str, Any]]],
) -> str:
    """An image file with boxes, names and masks as an SVG element that holds all it shows.

    Args:
        path: The image.
        size: Its (height, width) when the objects were detected; None if unknown.
        boxes: ``[D, 4]`` xyxy in pixels of the image.
        labels: ``[D]`` labels, for the colours.
        texts: What is written at each box.
        masks: D run-length masks of the image's size, or None.

    Returns:
        HTML; empty if the file cannot be read, or has another size than `size`.
    """
    read = _read(path, size)
    if read is None:
        return ""
    pixels, (height, width) = read
    for mask, label in zip(masks or (), labels.tolist()):
        _blend(pixels, mask, class_colour(label))
    letter = max(height, width) / 40
    shown = round(pixels.shape[1] * max(1.0, _LEAST_SHOWN / max(pixels.shape[:2])))
    shapes = [
        _shape(box, text, "#{:02x}{:02x}{:02x}".format(*class_colour(label)), letter)
        for box, text, label in zip(boxes.tolist(), texts, labels.tolist())
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{len(shapes)} detections" style="width:{shown}px;max-width:100%;height:auto">'
        f'<image href="data:image/jpeg;base64,{_as_jpeg(pixels)}" width="{width}" height="{height}"/>'
        f"{''.join(reversed(shapes))}</svg>"  # the surest last, on top
    )


def _read(path: str, size: Optional[tuple[int, int]]) -> Optional[tuple[np.ndarray, tuple[int, int]]]:
    """Pixels ``[h, w, 3]`` uint8 RGB of an image made small, and its (height, width); None if unreadable."""
    from PIL import Image, ImageOps

    if not path or not Path(path).is_file():
        return None
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            real = image.size if image.getexif().get(_ORIENTATION) in _TURNED else image.size[::-1]
            if size is not None and real != tuple(size):
                return None
            image.draft("RGB", (_SIDE, _SIDE))  # a JPEG is decoded at a fraction of its size
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I;16"):
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            small = upright.convert("RGB")
            small.thumbnail((_SIDE, _SIDE))
            return np.array(small), (real[0], real[1])
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Warning):
        return None


def _blend(pixels: np.ndarray, mask: dict[str, Any], colour: tuple[int, int, int]) -> None:
    from pycocotools import mask as coco_mask

    whole = coco_mask.decode(mask).astype(bool)
    rows, columns = (
        ((np.arange(small) + 0.5) * full / small).astype(np.int64)
        for small, full in zip(pixels.shape[:2], whole.shape)
    )
    inside = whole[np.ix_(rows, columns)]
    blended = (1 - _MASK_SHARE) * pixels[inside] + _MASK_SHARE * np.array(colour)
    pixels[inside] = blended.astype(np.uint8)


def _as_jpeg(pixels: np.ndarray) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_QUALITY)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _shape(box: Sequence[float], text: str, colour: str, letter: float) -> str:
    x1, y1, x2, y2 = box
    line = max(y1 - letter / 3, letter)  # above the box if there is room, else inside it
    escaped = html.escape(text)
    return (
        f'<g><title>{escaped}</title><rect x="{x1:.1f}" y="{y1:.1f}" width="{x2 - x1:.1f}" '
        f'height="{y2 - y1:.1f}" fill="none" stroke="{colour}" stroke-width="{letter / 8:.1f}"/>'
        f'<text x="{x1 + letter / 6:.1f}" y="{line:.1f}" font-family="sans-serif" font-size="{letter:.1f}" '
        f'fill="white" stroke="black" stroke-width="{letter / 5:.1f}" paint-order="stroke">{escaped}'
        "</text></g>"
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], rest: int) -> str:
    """An HTML table, with a last row that says how many more there are.

    Args:
        columns: Titles.
        rows: Texts of the cells.
        rest: Rows that are left out.
    """
    head = "".join(f"<th>{html.escape(title)}</th>" for title in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    more = f"<tr><td colspan='{len(columns)}'>and {rest} more</td></tr>" if rest > 0 else ""
    return f"<table><tr>{head}</tr>{body}{more}</table>"
