"""Images that strangers send: their header is read and judged before a pixel is decoded."""

from __future__ import annotations

import io
import warnings
from typing import NamedTuple

import numpy as np

from ppdet.data.transforms.decode import BrokenImageError, decode_image
from ppdet.serve.limits import RefusalError, ServeLimits

#: Formats that are accepted, by Pillow's names: what cameras and browsers write. Every other decoder stays
#: out of reach.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")


class Upload(NamedTuple):
    """An image of a request.

    Attributes:
        name: What the client calls it; never a path that is opened.
        content: The bytes of the file.
    """

    name: str
    content: bytes


def check_header(upload: Upload, limits: ServeLimits) -> tuple[int, int]:
    """Width and height that an image's header states.

    Raises:
        RefusalError: If it is no image of an accepted format, or has too many pixels.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own limit is higher than ours
            with Image.open(io.BytesIO(upload.content), formats=FORMATS) as image:
                width, height = image.size
    except Image.DecompressionBombError:
        raise _too_large(upload, "more pixels than Pillow opens", limits) from None
    except Exception:  # Pillow's readers raise many kinds on broken files
        size = f"{len(upload.content):,} bytes"
        raise RefusalError(
            415, "no_image", f"{upload.name}: {size} that are no image; accepted: {', '.join(FORMATS)}"
        ) from None
    if width * height > limits.pixels:
        raise _too_large(upload, f"{width} x {height} pixels", limits)
    return width, height


def decoded(upload: Upload, limits: ServeLimits) -> np.ndarray:
    """An image as ``[H, W, 3]`` uint8 RGB, turned as its EXIF orientation says.

    Raises:
        RefusalError: As `check_header`, or if it is cut short or broken.
    """
    stated = check_header(upload, limits)
    try:
        pixels = decode_image(upload.content)
    except BrokenImageError as error:
        raise RefusalError(422, "broken_image", f"{upload.name} is {error}") from None
    if sorted(pixels.shape[:2]) != sorted(stated):  # two readers of one file that differ
        raise RefusalError(422, "broken_image", f"{upload.name} has another size than its header states")
    return pixels


def _too_large(upload: Upload, size: str, limits: ServeLimits) -> RefusalError:
    message = f"{upload.name}: {size}; at most {limits.pixels:,} are accepted"
    return RefusalError(413, "too_many_pixels", message, limits.pixels)
