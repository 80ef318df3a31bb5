"""Label Studio's run lengths of brushes.

They are a stream of bits, the highest of a byte first: the number of values (32 bits), bits of a value less
one (5), four sizes less one (4 each); then runs: one bit whether all values are equal, two bits that choose a
size, the number of values less one in so many bits, and the value, or each value. The values are red, green,
blue and opacity of every pixel, row by row.
"""

from __future__ import annotations

from typing import Optional

import numpy as np

#: Sizes of the numbers of values, in bits, that are written.
_SIZES = (3, 7, 11, 16)
_WORD = 8
_CHANNELS = 4


def decode_brush(data: bytes, size: tuple[int, int]) -> Optional[np.ndarray]:
    """The bitmap ``[H, W]`` uint8 of 0 and 1 of a brush.

    Args:
        data: The stream.
        size: (height, width) of the image.

    Returns:
        None if the stream is cut short, or not of this size.
    """
    height, width = size
    bits = (np.unpackbits(np.frombuffer(data, np.uint8)) + ord("0")).tobytes().decode("ascii")
    total = height * width * _CHANNELS
    if len(bits) < 53 or int(bits[:32], 2) != total:
        return None
    word = int(bits[32:37], 2) + 1
    sizes = [int(bits[at : at + 4], 2) + 1 for at in range(37, 53, 4)]
    values = np.zeros(total, np.uint32)
    at, done = 53, 0
    while done < total:
        field = sizes[int(bits[at + 1 : at + 3] or "0", 2)]
        equal, start = bits[at : at + 1] == "1", at + 3 + field
        text = bits[at + 3 : start]
        count = int(text, 2) + 1 if len(text) == field else 0
        stop = start + (word if equal else word * count)
        if not count or done + count > total or stop > len(bits):
            return None
        if equal:
            values[done : done + count] = int(bits[start:stop], 2)
        else:
            digits = np.frombuffer(bits[start:stop].encode("ascii"), np.uint8).reshape(count, word) - ord("0")
            values[done : done + count] = digits @ (1 << np.arange(word - 1, -1, -1, dtype=np.uint32))
        at, done = stop, done + count
    return (values.reshape(height, width, _CHANNELS)[..., 3] > 0).astype(np.uint8)


def encode_brush(bitmap: np.ndarray) -> bytes:
    """A bitmap ``[H, W]`` of 0 and 1 as the stream of a brush."""
    flat = bitmap.reshape(-1)
    changes = np.flatnonzero(np.diff(flat)) + 1
    bounds = [0, *changes.tolist(), len(flat)]
    bits = [f"{len(flat) * _CHANNELS:032b}", f"{_WORD - 1:05b}", *(f"{size - 1:04b}" for size in _SIZES)]
    for start, stop in zip(bounds[:-1], bounds[1:]):
        value = 255 if flat[start] else 0
        rest = (stop - start) * _CHANNELS
        while rest > 0:
            count = min(rest, 1 << _SIZES[-1])
            which = next(k for k, size in enumerate(_SIZES) if count <= 1 << size)
            bits.append(f"1{which:02b}{count - 1:0{_SIZES[which]}b}{value:08b}")
            rest -= count
    text = "".join(bits)
    digits = np.frombuffer(text.encode("ascii"), np.uint8) - ord("0")
    return np.packbits(digits).tobytes()
