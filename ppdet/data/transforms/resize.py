"""Resizing, to one size or to a drawn one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Union

import numpy as np

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import Interpolation, PositiveInt
from ppdet.config.spec import Shared
from ppdet.data.geometry import resize_target
from ppdet.data.transforms.base import BatchTransform, Transform, pixels_hwc
from ppdet.structures import Sample, box_conventions

#: OpenCV's numbers for nearest, linear, cubic, area and Lanczos, which 2.x writes in `interp`.
INTERPOLATIONS = (0, 1, 2, 3, 4)
_LINEAR = 1

Size = Union[PositiveInt, Sequence[PositiveInt]]


class ResizeParams(NamedTuple):
    """What a resize does: to (height, width), or with `keep_ratio` to (short, long) side in any order.

    `unrounded` keeps the size that the scale gives, and interpolates bilinearly between floats; see
    `BoxConventions`.
    """

    target: tuple[int, int]
    keep_ratio: bool
    interp: int
    unrounded: bool = False


def as_size(value: Size, argument: str = "target_size") -> tuple[int, int]:
    """``640`` or ``[480, 640]`` as a pair.

    Args:
        value: The size.
        argument: Name of the argument that it is, for the error.

    Raises:
        ArgumentError: If it is neither, or not positive.
    """
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or min(pair) <= 0:
        raise ArgumentError(argument, f"expected one positive number or [height, width], got {value!r}")
    return int(pair[0]), int(pair[1])


def check_interp(interp: int) -> int:
    """Check an interpolation number.

    Raises:
        ArgumentError: If OpenCV has no such interpolation.
    """
    if interp not in INTERPOLATIONS:
        raise ArgumentError(
            "interp", f"expected 0 nearest, 1 linear, 2 cubic, 3 area or 4 Lanczos, got {interp}"
        )
    return interp


def resized_size(size: tuple[int, int], params: ResizeParams) -> tuple[int, int]:
    """(height, width) that an image of `size` (height, width) gets.

    With `keep_ratio`, the largest that keeps the short side within the smaller target and the long side
    within the larger, each side rounded to the nearest pixel.
    """
    if not params.keep_ratio:
        return params.target
    scale = min(min(params.target) / min(size), max(params.target) / max(size))
    return max(int(scale * size[0] + 0.5), 1), max(int(scale * size[1] + 0.5), 1)


def resize(sample: Sample, params: ResizeParams) -> Sample:
    """Resize image, boxes and masks. The factor of each axis is new / old size, after rounding."""
    import cv2

    if params.unrounded and params.keep_ratio:
        return _resize_unrounded(sample, params)
    image = pixels_hwc(sample)
    height, width = image.shape[:2]
    size = resized_size((height, width), params)
    scale = (size[0] / height, size[1] / width)
    target = sample.target
    return sample.replace(
        image=cv2.resize(image, (size[1], size[0]), interpolation=params.interp),
        image_size=(float(size[0]), float(size[1])),
        scale_factor=(sample.scale_factor[0] * scale[0], sample.scale_factor[1] * scale[1]),
        target=None if target is None else resize_target(target, scale, size),
    )


def _resize_unrounded(sample: Sample, params: ResizeParams) -> Sample:
    """As `resize` with `keep_ratio`, one factor for both axes, which is not rounded to whole pixels."""
    import cv2

    image = pixels_hwc(sample).astype(np.float32)
    size = image.shape[:2]
    scale = min(min(params.target) / min(size), max(params.target) / max(size))
    resized = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    target = sample.target
    return sample.replace(
        image=resized,
        image_size=(size[0] * scale, size[1] * scale),
        scale_factor=(sample.scale_factor[0] * scale, sample.scale_factor[1] * scale),
        target=None if target is None else resize_target(target, (scale, scale), resized.shape[:2]),
    )


class Resize(Transform[ResizeParams]):
    """Resizes to one size.

    Args:
        target_size: (height, width) in pixels, or one number for both; with `keep_ratio`, the limits of the
            short and the long side.
        keep_ratio: Scale both sides by the same factor.
        interp: OpenCV interpolation: 0 nearest, 1 linear, 2 cubic, 3 area, 4 Lanczos.
        conventions: Name of the box conventions; they may ask for an unrounded, bilinear resize.
    """

    def __init__(
        self,
        *,
        target_size: Size,
        keep_ratio: bool,
        interp: Interpolation = _LINEAR,
        conventions: Shared[str] = "",
    ) -> None:
        unrounded = box_conventions(conventions).unrounded_resize
        self.params = ResizeParams(as_size(target_size), keep_ratio, check_interp(interp), unrounded)

    def draw(self, sample: Sample, rng: np.random.Generator) -> ResizeParams:
        """Always the same."""
        del sample, rng
        return self.params

    def apply(self, sample: Sample, params: ResizeParams) -> Sample:
        """Resize image, boxes and masks."""
        return resize(sample, params)


class MultiscaleTestResize(Resize):
    """Resizes to several sizes one after the other, each mirrored too, and merges what is found.

    As a step on one image it resizes to `origin_target_size`; evaluation and inference look at the image
    again at each of the other `sizes`, and mirrored (`ppdet.inference`). In training it is a `Resize`.

    Args:
        origin_target_size: Limits of the short and the long side in pixels of the first look.
        target_size: Limits of the further ones; one number is that of the short side, and the long one grows
            as `origin_target_size` does.
        interp: OpenCV interpolation.
        use_flip: Look at each size mirrored too.
        conventions: Name of the box conventions; they may ask for an unrounded, bilinear resize.

    Attributes:
        sizes: Every size, `origin_target_size` first.
        use_flip: As above.
    """

    def __init__(
        self,
        *,
        origin_target_size: Size = (800, 1333),
        target_size: Sequence[Size] = (),
        interp: Interpolation = 2,
        use_flip: bool = True,
        conventions: Shared[str] = "",
    ) -> None:
        super().__init__(
            target_size=origin_target_size, keep_ratio=True, interp=interp, conventions=conventions
        )
        short, long = sorted(self.params.target)
        pairs = [
            (size, round(size * long / short)) if isinstance(size, int) else size for size in target_size
        ]
        more = [self.params._replace(target=as_size(pair)) for pair in pairs]
        self.sizes: tuple[ResizeParams, ...] = (self.params, *more)
        self.use_flip = use_flip


class _DrawnSize:
    """Draws one of several sizes."""

    def __init__(
        self,
        target_size: Union[Size, Sequence[Size]],
        *,
        keep_ratio: bool,
        interp: int,
        random_size: bool,
        random_range: bool,
        random_interp: bool,
    ) -> None:
        many = random_size or random_range
        if many and (isinstance(target_size, int) or not target_size):
            raise ArgumentError("target_size", f"expected a list of sizes to draw from, got {target_size!r}")
        self.sizes = [as_size(s) for s in target_size] if many else [as_size(target_size)]  # type: ignore[union-attr,arg-type]  # told apart by `many`
        if random_range and len(self.sizes) != 2:
            raise ArgumentError(
                "target_size",
                f"random_range needs two sizes, the smallest and the largest, got {target_size!r}",
            )
        self.keep_ratio = keep_ratio
        self.interp = check_interp(interp)
        self.random_range = random_range
        self.random_interp = random_interp

    def draw(self, rng: np.random.Generator) -> ResizeParams:
        if self.random_range:
            (low, long_low), (high, long_high) = ((min(s), max(s)) for s in self.sizes)
            size = (int(rng.integers(low, high + 1)), max(long_low, long_high))
        else:
            size = self.sizes[int(rng.integers(len(self.sizes)))]
        interp = int(rng.choice(INTERPOLATIONS)) if self.random_interp else self.interp
        return ResizeParams(size, self.keep_ratio, interp)


class RandomResize(Transform[ResizeParams]):
    """Resizes each image to a size drawn for it.

    Args:
        target_size: Sizes to draw from, each as in `Resize`; or a single one if neither random option is set.
        keep_ratio: As in `Resize`.
        interp: As in `Resize`.
        random_size: Draw one of the sizes.
        random_range: Draw the short side between that of the first and the second size; for two sizes.
        random_interp: Draw the interpolation too.
    """

    def __init__(
        self,
        *,
        target_size: Union[PositiveInt, list[PositiveInt], list[list[PositiveInt]]],
        keep_ratio: bool = True,
        interp: Interpolation = _LINEAR,
        random_size: bool = True,
        random_range: bool = False,
        random_interp: bool = False,
    ) -> None:
        self._drawn = _DrawnSize(
            target_size,
            keep_ratio=keep_ratio,
            interp=interp,
            random_size=random_size,
            random_range=random_range,
            random_interp=random_interp,
        )

    def draw(self, sample: Sample, rng: np.random.Generator) -> ResizeParams:
        """Draw size and interpolation."""
        del sample
        return self._drawn.draw(rng)

    def apply(self, sample: Sample, params: ResizeParams) -> Sample:
        """Resize image, boxes and masks."""
        return resize(sample, params)


class BatchRandomResize(BatchTransform[ResizeParams]):
    """Resizes all images of a batch to one size drawn for the batch.

    Args:
        target_size: Sizes to draw from, each one number or (height, width); or a single one if not
            `random_size`.
        keep_ratio: As in `Resize`.
        interp: As in `Resize`; nearest by default, as in 2.x.
        random_size: Draw one of the sizes.
        random_interp: Draw the interpolation too.
    """

    def __init__(
        self,
        *,
        target_size: Union[PositiveInt, list[PositiveInt], list[list[PositiveInt]]],
        keep_ratio: bool = False,
        interp: Interpolation = 0,
        random_size: bool = True,
        random_interp: bool = False,
    ) -> None:
        self._drawn = _DrawnSize(
            target_size,
            keep_ratio=keep_ratio,
            interp=interp,
            random_size=random_size,
            random_range=False,
            random_interp=random_interp,
        )

    def draw(self, samples: list[Sample], rng: np.random.Generator) -> ResizeParams:
        """Draw size and interpolation for the batch."""
        del samples
        return self._drawn.draw(rng)

    def apply(self, samples: list[Sample], params: ResizeParams) -> list[Sample]:
        """Resize every image, its boxes and masks."""
        return [resize(sample, params) for sample in samples]
