"""Reads image files."""

from __future__ import annotations

import re
from typing import Optional

import numpy as np

from ppdet.data.transforms.base import Transform
from ppdet.structures import Sample
from ppdet.utils.errors import DataError

_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*")
#: A marker of a JPEG: not an escaped FF of its data, and not a fill byte.
_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_JPEG_END = b"\xff\xd9"
#: Start of a progressive frame (SOF2); a picture of another kind holds these bytes only by chance.
_PROGRESSIVE = b"\xff\xc2"
#: Data of which any rows left to decode would show one or the other.
_FILLERS = (b"\xb7\x5c\xe3\x9a" * 1000, b"\x4e\xd1\x2b" * 1000)


class BrokenImageError(DataError):
    """Content of an image file that cannot be decoded whole; completes a sentence: the image is ..."""


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
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"image {path} cannot be read: {error.strerror or error}") from None
    try:
        return decode_image(data.tobytes())
    except BrokenImageError as error:
        raise DataError(
            f"image {path} is {error}. Restore it, remove it, or set skip_corrupt: true in the reader"
        ) from None


def decode_image(content: bytes) -> np.ndarray:
    """The content of an image file as ``[H, W, 3]`` RGB uint8.

    Raises:
        BrokenImageError: If it is empty, cut short, or no image.
    """
    reason = cut_short(content)
    if reason is not None:
        raise BrokenImageError(reason)
    image = _decoded(np.frombuffer(content, np.uint8), content)
    if image is None:
        raise BrokenImageError("no image that can be decoded")
    return image


def _decoded(data: np.ndarray, content: bytes) -> Optional[np.ndarray]:
    """``[H, W, 3]`` RGB uint8 by OpenCV, or by Pillow where it knows better; None if neither can."""
    import cv2

    # OpenCV multiplies the colours of TIFF files by their alpha.
    if content[:4] in _TIFF:
        image = _by_pillow(content, only="RGBA")
        if image is not None:
            return image
    try:
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except cv2.error:
        decoded = None
    if decoded is None:
        return _by_pillow(content + _JPEG_END)  # which other formats pass over
    return np.ascontiguousarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB))


def _by_pillow(content: bytes, only: str = "") -> Optional[np.ndarray]:
    """``[H, W, 3]`` RGB uint8; None if Pillow cannot decode it whole, or it is not of the mode `only`."""
    import io
    import warnings

    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(content)) as image:
            warnings.simplefilter("ignore")
            if (only and image.mode != only) or image.mode.startswith(("I", "F")):
                return None
            turned = ImageOps.exif_transpose(image)
            return np.ascontiguousarray(np.asarray(turned.convert("RGBA"))[:, :, :3])
    except Exception:  # Pillow's readers raise many kinds on broken files
        return None


def cut_short(data: bytes) -> Optional[str]:
    """Why a picture cannot be decoded to its last row, or None. Some decoders fill what is missing with gray.

    Bytes after its end (a film in a motion photo, padding) do not matter, and neither does a missing end
    marker after the last row.
    """
    if not data:
        return "empty"
    if data[:2] == b"\xff\xd8" and not _jpeg_ends(data) and not _fills_no_gap(data):
        return "cut short (a JPEG without its last rows)"
    if data[:8] == _PNG and not _png_ends(data) and _by_pillow(data) is None:
        return "cut short (a PNG without its last rows)"
    return None


def _jpeg_ends(data: bytes) -> bool:
    """Whether the segments of a JPEG lead to its end marker (ITU-T T.81, B.1.1)."""
    place = 2
    while True:
        marker = _MARKER.search(data, place)
        if marker is None:
            return False
        kind, place = data[marker.end() - 1], marker.end()
        if kind == _JPEG_END[1]:
            return True
        if kind == 1 or 0xD0 <= kind <= 0xD8:  # these have no length
            continue
        place += int.from_bytes(data[place : place + 2], "big")


def _fills_no_gap(data: bytes) -> bool:
    """Whether what follows a JPEG without end marker cannot change the picture, since it is whole.

    Zeros at the end are not data: downloads that break off leave them. A progressive JPEG may lack a whole
    scan without showing it, so none of them passes.
    """
    stripped = data.rstrip(b"\0")
    if _PROGRESSIVE in stripped:
        return False
    first, *others = (_by_pillow(stripped + filler + _JPEG_END) for filler in (b"", *_FILLERS))
    return first is not None and all(o is not None and np.array_equal(first, o) for o in others)


def _png_ends(data: bytes) -> bool:
    """Whether the chunks of a PNG lead to its last one (W3C PNG, 5.3)."""
    place = len(_PNG)
    while len(data) >= place + 12:
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        place += 12 + length
        if kind == b"IEND":
            return len(data) >= place
    return False
