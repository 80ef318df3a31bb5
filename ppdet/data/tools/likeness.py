"""Images that are the same: copies of one file, and pictures that look alike.

Likeness is the Hamming distance of perceptual hashes: the signs of the 64 lowest frequencies of the cosine
transform of a 32 by 32 grey picture, against their median (Zauner, Implementation and Benchmarking of
Perceptual Image Hash Functions, 2010, section 3.2). It survives another size, another compression, and small
changes of light.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

import cv2
import numpy as np

from ppdet.data.datasets.base import AnnotatedDataset
from ppdet.data.problems import DatasetProblem
from ppdet.data.transforms.decode import read_image
from ppdet.utils.errors import DataError
from ppdet.utils.progress import progress

#: Bits in which the hashes of one picture differ at most.
_BITS = 6
#: More bits than a hash has.
_NEVER = 65
_BLOCK = 256
#: Bits that are set in each number of 16 bits.
_ONES_OF = np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2), axis=1).sum(
    axis=1, dtype=np.uint8
)
#: Grey values' standard deviation below which a picture has nothing to recognise.
_FLAT = 3.0


class _Look(NamedTuple):
    """What is known of an image: its place, the SHA-256 of its file, and its hash unless it is flat."""

    part: str
    path: str
    digest: bytes
    bits: Optional[int]


def find_copies(train: AnnotatedDataset, val: Optional[AnnotatedDataset] = None) -> list[DatasetProblem]:
    """Copies and look-alikes, within each set and between them; decodes every image.

    Args:
        train: The training set.
        val: The validation set.

    Returns:
        Problems of images that are like an earlier one: ``image-copied`` and ``image-alike`` within a
        set, ``train-val-alike`` between them. Copies between them are the business of `check_dataset`.
    """
    parts = {"training": train, **({"validation": val} if val is not None else {})}
    looks = [
        look
        for part, dataset in parts.items()
        for look in progress(
            _looks(part, dataset), total=len(dataset.packed), desc=f"look at {part} images", unit="img"
        )
    ]
    problems: list[DatasetProblem] = []
    first: dict[bytes, _Look] = {}
    different = []
    for look in looks:
        earlier = first.setdefault(look.digest, look)
        if earlier is look:
            different.append(look)
        elif earlier.part == look.part:
            problems.append(DatasetProblem("image-copied", f"{look.path} is a copy of {earlier.path}"))
    for one, other, bits in _pairs(different):
        kind = "image-alike" if one.part == other.part else "train-val-alike"
        where = "" if one.part == other.part else f" of the {one.part} set"
        problems.append(
            DatasetProblem(kind, f"{other.path} looks like {one.path}{where} ({bits} of 64 bits differ)")
        )
    return problems


def perceptual_hash(image: np.ndarray) -> Optional[int]:
    """64 bits of a picture, ``[H, W, 3]`` uint8; None for one without contrast."""
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), (32, 32), interpolation=cv2.INTER_AREA)
    if float(grey.std()) < _FLAT:
        return None
    low = cv2.dct(grey.astype(np.float32))[:8, :8].reshape(-1)
    # The mean brightness says nothing of the picture, so its bit is that of the next value.
    low[0] = low[1]
    bits = low > np.median(low)
    return int(np.packbits(bits).tobytes().hex(), 16)


def _looks(part: str, dataset: AnnotatedDataset) -> Iterator[_Look]:
    for row in range(len(dataset.packed)):
        path = dataset[row].path
        try:
            image, data = read_image(path), Path(path).read_bytes()
        except (DataError, OSError):  # a problem of its own
            continue
        yield _Look(part, path, hashlib.sha256(data).digest(), perceptual_hash(image))


def _pairs(looks: Sequence[_Look]) -> Iterator[tuple[_Look, _Look, int]]:
    """Each image that looks like an earlier one, with the bits that differ: the nearest of its own set, and
    the nearest of the other one.

    Every pair is compared, a block of rows at a time.
    """
    known = [look for look in looks if look.bits is not None]
    hashes = np.array([look.bits for look in known], np.uint64)
    parts = np.array([look.part for look in known])
    for start in range(0, len(hashes), _BLOCK):
        stop = min(start + _BLOCK, len(hashes))
        distances = _ones(hashes[start:stop, None] ^ hashes[None, :stop])
        distances[np.arange(stop)[None] >= np.arange(start, stop)[:, None]] = _NEVER
        same = parts[start:stop, None] == parts[None, :stop]
        for row in np.flatnonzero(distances.min(axis=1, initial=_NEVER) <= _BITS):
            for of_set in (same[row], ~same[row]):
                near = np.where(of_set, distances[row], _NEVER)
                other = int(near.argmin())
                if near[other] <= _BITS:
                    yield known[other], known[start + row], int(near[other])


def _ones(values: np.ndarray) -> np.ndarray:
    """Bits that are set in each number."""
    words = values.view(np.uint16).reshape(*values.shape, 4)
    counts: np.ndarray = _ONES_OF[words].sum(axis=-1, dtype=np.uint8)
    return counts
