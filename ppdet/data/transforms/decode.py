"""Reads image files."""

from __future__ import annotations

from typing import Optional

import numpy as np

from ppdet.data.transforms.base import Transform
from ppdet.structures import Sample
from ppdet.utils.errors import DataError


class Decode(Transform[None]):
    """Reads the file of a sample into ``[H, W, 3]`` RGB uint8; a sample that has pixels keeps them.

    Whatever the file holds becomes 8-bit RGB: grayscale is repeated, 16 bits are scaled to 8, an alpha
    channel is dropped, CMYK is converted, and the orientation in the EXIF header is applied.

    Raises:
        DataError: If the file is missing, empty, cut short, or no image; names the file.
    """

    def apply(self, sample: Sample, params: None) -> Sample:
        """Read the pixels and set the sizes from them."""
        del params
        image = read_image(sample.path) if sample.image is None else sample.image
        height, width = image.shape[:2]
        return sample.replace(
            image=image,
            original_size=(height, width),
            image_size=(float(height), float(width)),
            scale_factor=(1.0, 1.0),
        )


def read_image(path: str) -> np.ndarray:
    """An image file as ``[H, W, 3]`` RGB uint8.

    The bytes are read by NumPy, since OpenCV cannot open names outside the code page on Windows.

    Raises:
        DataError: As `Decode`.
    """
    import cv2

    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"image {path} cannot be read: {error.strerror or error}") from None
    reason = cut_short(data.tobytes())
    if reason is None:
        try:
            image = cv2.imdecode(data, cv2.IMREAD_COLOR)
        except cv2.error:
            image = None
        if image is not None:
            return np.ascontiguousarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        reason = "no image that OpenCV can decode"
    raise DataError(
        f"image {path} is {reason}. Restore it, remove it, or set skip_corrupt: true in the reader"
    )


def cut_short(data: bytes) -> Optional[str]:
    """Why a file cannot be whole, or None. Some decoders fill what is missing with gray and say nothing."""
    if not data:
        return "empty"
    # After the last start of a scan, a JPEG must have an end marker (ITU-T T.81, B.1.1.3). Inside of the
    # scan's data neither marker can occur, and the thumbnail in an EXIF header comes before it.
    if data[:2] == b"\xff\xd8" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        return "cut short (a JPEG without its end)"
    if data[:8] == b"\x89PNG\r\n\x1a\n" and b"IEND" not in data[-64:]:
        return "cut short (a PNG without its end)"
    return None
