"""Test-time augmentation: views of an image at several sizes, mirrored, and in tiles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Optional, Protocol

import numpy as np

from ppdet.data.readers import Reader
from ppdet.data.transforms.base import pixels_hwc
from ppdet.data.transforms.resize import MultiscaleTestResize, Resize, ResizeParams
from ppdet.structures import Sample
from ppdet.utils.errors import UserError

#: Sizes of test-time augmentation where the config names none, as factors of the reader's own.
SCALES = (1.0, 0.8, 1.2)
#: Sizes that do not keep the aspect ratio are multiples of this many pixels, the coarsest stride of YOLOv3.
_STRIDE = 32


class ViewError(UserError):
    """Views that cannot be made."""


class View(NamedTuple):
    """One view of an image.

    Attributes:
        window: x1, y1, x2, y2 in whole pixels of the image, the end excluded.
        flip: Mirrored left and right.
        size: How the window is resized; None for what the reader does.
    """

    window: tuple[int, int, int, int]
    flip: bool
    size: Optional[ResizeParams]


@dataclass(frozen=True)
class Tiling:
    """Overlapping tiles that cover an image; the last ones of a row or column are moved back inside.

    Attributes:
        size: (height, width) of a tile in pixels.
        overlap: Share of a tile that the next one below, and the next one beside, overlap; in [0, 1).
    """

    size: tuple[int, int] = (640, 640)
    overlap: tuple[float, float] = (0.25, 0.25)

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise ViewError(f"tiles of {self.size[0]} x {self.size[1]} pixels: sides must be 1 or more")
        if not all(0 <= share < 1 for share in self.overlap):
            raise ViewError(f"overlap {self.overlap} of tiles: give shares in [0, 1), e.g. 0.25")

    def windows(self, height: int, width: int) -> list[tuple[int, int, int, int]]:
        """x1, y1, x2, y2 of each tile, row by row."""
        rows = _spans(height, self.size[0], self.overlap[0])
        columns = _spans(width, self.size[1], self.overlap[1])
        return [(left, top, right, bottom) for top, bottom in rows for left, right in columns]


def _spans(length: int, tile: int, overlap: float) -> list[tuple[int, int]]:
    if length <= tile:
        return [(0, length)]
    step = max(1, round(tile * (1 - overlap)))
    starts = [*range(0, length - tile, step), length - tile]
    return [(start, start + tile) for start in starts]


@dataclass(frozen=True)
class Views:
    """The views of every image, and how their detections are merged.

    Attributes:
        sizes: Resizes, a view each; empty for the reader's own.
        flip: Add the mirror image of each view.
        tiling: Add overlapping tiles of the image; None for the whole image alone.
        match_threshold: IoU above which detections of one class from different views are one object.
        keep_top_k: Most detections of an image; None for all.
        merge: Merge detections that match. Without it, the detections of every view are listed.
    """

    sizes: tuple[ResizeParams, ...] = ()
    flip: bool = False
    tiling: Optional[Tiling] = None
    match_threshold: float = 0.5
    keep_top_k: Optional[int] = None
    merge: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.match_threshold < 1:
            raise ViewError(f"match_threshold {self.match_threshold} is no IoU between 0 and 1")

    def of(self, height: int, width: int) -> list[View]:
        """The views of an image of a size in pixels; those of one shape follow each other.

        The whole image is a view beside its tiles, for objects larger than a tile.
        """
        windows = [(0, 0, width, height)]
        if self.tiling is not None:
            windows += [tile for tile in self.tiling.windows(height, width) if tile != windows[0]]
        return [
            View(window, flip, size)
            for size in (self.sizes or (None,))
            for window in windows
            for flip in ((False, True) if self.flip else (False,))
        ]

    @property
    def least(self) -> int:
        """Number of views of an image that is no larger than a tile."""
        return len(self.of(1, 1))

    @property
    def single(self) -> bool:
        """Whether the only view is the whole image at one size."""
        return len(self.sizes) < 2 and not self.flip and self.tiling is None


def cut_view(sample: Sample, view: View) -> Sample:
    """Cut a view out of a decoded image, as an image of its own."""
    left, top, right, bottom = view.window
    image = pixels_hwc(sample)[top:bottom, left:right]
    if view.flip:
        image = image[:, ::-1]
    return Sample(
        image_id=sample.image_id,
        path=sample.path,
        image=np.ascontiguousarray(image),
        original_size=(bottom - top, right - left),
        image_size=(float(bottom - top), float(right - left)),
    )


def views_of(reader: Reader) -> Views:
    """The views that a `MultiscaleTestResize` of the reader describes; without one, the whole image."""
    step = next(reader.find(MultiscaleTestResize), None)
    return Views() if step is None else Views(sizes=step.sizes, flip=step.use_flip)


def augmented(reader: Reader) -> Views:
    """Test-time augmentation: the sizes of the reader's `MultiscaleTestResize`, else `SCALES`; mirrored too.

    Raises:
        ViewError: If the reader does not resize, so there is nothing to vary.
    """
    stated = views_of(reader)
    if not stated.single:
        return stated
    step = next(reader.find(Resize), None)
    if step is None:
        raise ViewError("test-time augmentation varies the size, but the reader has no Resize")
    return Views(sizes=tuple(_scaled(step.params, factor) for factor in SCALES), flip=True)


class FinalNms(Protocol):
    """What merging follows: the final NMS of a model, or what its export says of it.

    Attributes:
        nms_threshold: IoU of the class-wise NMS; None in the export of a model without NMS.
        keep_top_k: Most detections of an image.
    """

    @property
    def nms_threshold(self) -> Optional[float]: ...

    @property
    def keep_top_k(self) -> Optional[int]: ...


@dataclass(frozen=True)
class ViewOptions:
    """What a user chooses of test-time augmentation.

    Attributes:
        multi_scale: Run each image at several sizes (those of the reader's `MultiscaleTestResize`, else
            `SCALES` times its own), mirrored too.
        tile_size: (height, width) in pixels of overlapping tiles to run too; None for no tiles.
        tile_overlap: Share of a tile that the next one below, and the next one beside, overlap; in [0, 1).
        merge: Make one detection of those that match; else list those of every view.
        match_threshold: IoU from which on detections of different views match; None for that of the model's
            NMS.
    """

    multi_scale: bool = False
    tile_size: Optional[tuple[int, int]] = None
    tile_overlap: tuple[float, float] = (0.25, 0.25)
    merge: bool = True
    match_threshold: Optional[float] = None

    def views(self, reader: Reader, nms: Optional[FinalNms]) -> Views:
        """The views of an image that a reader prepares, merged as the model's own NMS would.

        Args:
            reader: Prepares the images.
            nms: The final NMS of the model; None where it has none.

        Raises:
            ViewError: If the options do not fit each other or the reader.
        """
        views = augmented(reader) if self.multi_scale else views_of(reader)
        if self.tile_size is not None:
            views = replace(views, tiling=Tiling(self.tile_size, self.tile_overlap))
        if nms is not None and nms.nms_threshold is not None:
            # Tiles have no common limit of detections: each may hold as many as the detector finds at once.
            most = nms.keep_top_k if views.tiling is None else None
            views = replace(views, match_threshold=nms.nms_threshold, keep_top_k=most)
        if self.match_threshold is not None:
            views = replace(views, match_threshold=self.match_threshold)
        return replace(views, merge=self.merge)


def _scaled(params: ResizeParams, factor: float) -> ResizeParams:
    def side(value: int) -> int:
        if factor == 1:
            return value
        if params.keep_ratio:
            return max(1, round(value * factor))
        return max(_STRIDE, _STRIDE * round(value * factor / _STRIDE))

    return params._replace(target=(side(params.target[0]), side(params.target[1])))
