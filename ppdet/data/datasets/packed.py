"""Annotations of a whole dataset in a few flat arrays.

A list of Python objects per image makes every data-loading worker copy the whole list little by little:
reading an object changes its reference count, which is a write to its memory page. Arrays have one reference
count each, so forked workers share them for good, and spawned ones receive a few large buffers.

Letters: I images, A objects (annotations), S polygon parts.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Optional, Union

import numpy as np

from ppdet.structures import Mask, Target


def pack_strings(values: Iterable[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Byte strings end to end ``[bytes]`` uint8, and where each starts ``[count + 1]`` int64."""
    parts = list(values)
    data = np.frombuffer(b"".join(parts), np.uint8)
    return data, offsets_of([len(part) for part in parts])


def pack_ids(values: Iterable[Union[int, str]]) -> tuple[np.ndarray, np.ndarray]:
    """Ids of any kind, packed as `pack_strings` packs."""
    return pack_strings(json.dumps(value).encode("ascii") for value in values)


def offsets_of(lengths: Union[Sequence[int], np.ndarray]) -> np.ndarray:
    """Start of every piece in the concatenation, and the end of the last: ``[count + 1]`` int64."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(np.asarray(lengths, np.int64), out=offsets[1:])
    return offsets


@dataclass(frozen=True)
class PackedMasks:
    """Masks of all objects. An object has polygon parts, or run lengths, or neither (no mask).

    Attributes:
        points: ``[vertices, 2]`` float32 x, y in pixels.
        part_offsets: ``[S + 1]`` int64 into `points`.
        object_offsets: ``[A + 1]`` int64 into the parts.
        runs: ``[bytes]`` uint8, compressed COCO run lengths.
        run_offsets: ``[A + 1]`` int64 into `runs`; equal neighbours where an object has none.
    """

    points: np.ndarray
    part_offsets: np.ndarray
    object_offsets: np.ndarray
    runs: np.ndarray
    run_offsets: np.ndarray

    @classmethod
    def pack(cls, masks: Sequence[Mask]) -> PackedMasks:
        """Pack one mask per object."""
        parts = [part for mask in masks if isinstance(mask, tuple) for part in mask]
        runs, run_offsets = pack_strings(b"" if isinstance(m, tuple) else bytes(m["counts"]) for m in masks)
        return cls(
            points=np.concatenate(
                [np.zeros((0, 2), np.float32), *parts], dtype=np.float32, casting="same_kind"
            ),
            part_offsets=offsets_of([len(part) for part in parts]),
            object_offsets=offsets_of([len(m) if isinstance(m, tuple) else 0 for m in masks]),
            runs=runs,
            run_offsets=run_offsets,
        )

    def mask(self, index: int, size: tuple[int, int]) -> Mask:
        """Mask of object `index` of an image of `size` (height, width)."""
        start, stop = int(self.run_offsets[index]), int(self.run_offsets[index + 1])
        if stop > start:
            return {"size": [int(size[0]), int(size[1])], "counts": self.runs[start:stop].tobytes()}
        first, last = int(self.object_offsets[index]), int(self.object_offsets[index + 1])
        bounds = self.part_offsets[first : last + 1]
        return tuple(self.points[a:b] for a, b in zip(bounds[:-1], bounds[1:]))


@dataclass(frozen=True)
class PackedAnnotations:
    """Images and objects of a dataset.

    Attributes:
        image_ids: ``[I]`` int64.
        sizes: ``[I, 2]`` int32 (height, width) as the annotation file has them; 0 where unknown.
        names: ``[bytes]`` uint8, UTF-8 image paths end to end.
        name_offsets: ``[I + 1]`` int64 into `names`.
        object_offsets: ``[I + 1]`` int64 into the rows of the objects.
        boxes: ``[A, 4]`` float32 xyxy in pixels.
        labels: ``[A]`` int32 in 0..K-1.
        is_crowd: ``[A]`` bool.
        difficult: ``[A]`` bool, or None.
        masks: Masks, or None if not loaded.
        given_ids: ``[bytes]`` uint8, the images' ids as JSON end to end; None where they are `image_ids`.
        given_offsets: ``[I + 1]`` int64 into `given_ids`, or None.
    """

    image_ids: np.ndarray
    sizes: np.ndarray
    names: np.ndarray
    name_offsets: np.ndarray
    object_offsets: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    is_crowd: np.ndarray
    difficult: Optional[np.ndarray] = None
    masks: Optional[PackedMasks] = None
    given_ids: Optional[np.ndarray] = None
    given_offsets: Optional[np.ndarray] = None

    def __len__(self) -> int:
        return len(self.image_ids)

    def name(self, index: int) -> str:
        """Path of image `index` inside the image folder."""
        return (
            self.names[self.name_offsets[index] : self.name_offsets[index + 1]]
            .tobytes()
            .decode("utf-8", "surrogateescape")
        )

    def given_id(self, index: int) -> Optional[Union[int, str]]:
        """Id of image `index` as its annotation file has it; None where it is the same as in `image_ids`."""
        if self.given_ids is None or self.given_offsets is None:
            return None
        text = self.given_ids[self.given_offsets[index] : self.given_offsets[index + 1]].tobytes()
        value: Union[int, str] = json.loads(text)
        return value

    def renamed(self, names: Sequence[str]) -> PackedAnnotations:
        """The same images under other paths."""
        packed, offsets = pack_strings(name.encode("utf-8", "surrogateescape") for name in names)
        return dataclasses.replace(self, names=packed, name_offsets=offsets)

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of image `index`."""
        height, width = self.sizes[index]
        return int(height), int(width)

    def target(self, index: int) -> Target:
        """Objects of image `index`. The arrays are copies; a transform may write to them."""
        rows = slice(int(self.object_offsets[index]), int(self.object_offsets[index + 1]))
        masks = None
        if self.masks is not None:
            size = self.size(index)
            masks = tuple(self.masks.mask(row, size) for row in range(rows.start, rows.stop))
        return Target(
            boxes=self.boxes[rows].copy(),
            labels=self.labels[rows].astype(np.int64),
            is_crowd=self.is_crowd[rows].copy(),
            difficult=None if self.difficult is None else self.difficult[rows].copy(),
            masks=masks,
        )

    def object_counts(self) -> np.ndarray:
        """Objects of every image, ``[I]`` int64."""
        return np.diff(self.object_offsets)
