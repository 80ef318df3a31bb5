"""RoIAlign on one feature map and over the levels of a pyramid (He et al. 2017, Mask R-CNN, section 3).

Letters: N images, T regions of all images together, R regions per image, C channels, S output resolution.

Regions come flat, ``[T, 4]`` ordered by image, with ``[N]`` int32 counts: the form Paddle's kernel takes.
`flatten_regions` makes it from padded ``[N, R, 4]`` regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, Optional

import paddle
from paddle import Tensor
from paddle.vision import ops as kernels

from ppdet.ops.boxes import box_area, inset_boxes
from ppdet.ops.constants import Kept, arange, constant
from ppdet.ops.indexing import dim

#: A region as large as an ImageNet crop ...
CANONICAL_SIZE = 224.0
#: ... is read at the level with stride 2**4 (Lin et al. 2017, FPN, eq. 1).
CANONICAL_LEVEL = 4
#: Pixels to which sides of empty regions are widened. Paddle's kernel divides by the number of samples, which
#: is 0 for an empty region (the result is NaN), and crashes on one that is inside out.
_MIN_SIDE = 0.01


#: As many regions in every image, by images and regions.
_EVEN: Kept[Tensor] = Kept(64)


class FlatRegions(NamedTuple):
    """Regions of a batch in one list.

    Attributes:
        boxes: ``[T, 4]`` float32 xyxy, ordered by image.
        per_image: ``[N]`` int32, sums to T.
        rows: ``[T]`` int64, the place of each among the padded regions of all images; None if all were kept.
    """

    boxes: Tensor
    per_image: Tensor
    rows: Optional[Tensor] = None


def flatten_regions(boxes: Tensor, valid: Optional[Tensor] = None) -> FlatRegions:
    """Padded regions as one list.

    Args:
        boxes: ``[N, R, 4]`` float32 xyxy.
        valid: ``[N, R]`` bool of the rows to keep; None keeps all N * R, padded ones too, and so keeps shapes
            fixed (an all-zero region costs little to pool: one sample per bin).

    Returns:
        The list, by image and then by row.
    """
    flat = paddle.reshape(boxes, [-1, 4])
    # A diverged model predicts boxes of NaN. They are pooled as empty boxes: the kernel would index with
    # them, and they would have no pyramid level.
    flat = paddle.where(flat == flat, flat, paddle.zeros_like(flat))
    if valid is None:
        # Counted from the tensor, since N and R may be unknown in a static graph.
        images, rows = dim(boxes, 0), dim(boxes, 1)
        return FlatRegions(flat, _EVEN.get((images, rows), lambda: _even_counts(boxes)))
    rows = paddle.nonzero(paddle.flatten(valid)).squeeze(1)
    return FlatRegions(paddle.gather(flat, rows), valid.astype("int32").sum(axis=1).astype("int32"), rows)


def _even_counts(boxes: Tensor) -> Tensor:
    return paddle.ones_like(boxes[..., 0]).sum(axis=1).astype("int32")


def roi_align(
    features: Tensor,
    boxes: Tensor,
    per_image: Tensor,
    *,
    resolution: int,
    stride: int,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> Tensor:
    """Features of regions at a fixed resolution, by averaged bilinear samples.

    Args:
        features: ``[N, C, H, W]`` float.
        boxes: ``[T, 4]`` float32 xyxy in image pixels, ordered by image; T may be 0.
        per_image: ``[N]`` int32. Must sum to T: the kernel does not check, and reads past the end if it does
            not.
        resolution: S, bins per side.
        stride: Image pixels per feature cell.
        sampling_ratio: Samples per bin and side; 0 for ceil(bin side in cells), each region its own.
        aligned: True: pixel centres are at half-integers, as everywhere in this package. False: the older
            convention, half a cell off, with regions widened to at least one cell.

    Returns:
        ``[T, C, S, S]``, differentiable in `features`. Samples more than one cell outside the map count as 0.
        Empty regions, such as padding, give finite values without meaning.
    """
    pool = _pool(resolution, sampling_ratio, aligned)
    return pool(features, _at_least_min_side(boxes), per_image, spatial_scale=1.0 / stride)


def _pool(resolution: int, sampling_ratio: int, aligned: bool) -> partial[Tensor]:
    return partial(
        kernels.roi_align,
        output_size=resolution,
        # The kernel takes every value < 1 as "adaptive".
        sampling_ratio=sampling_ratio if sampling_ratio > 0 else -1,
        aligned=aligned,
    )


def _at_least_min_side(boxes: Tensor) -> Tensor:
    lower, upper = paddle.split(boxes, 2, axis=1)
    return paddle.concat([lower, paddle.maximum(upper, lower + _MIN_SIDE)], axis=1)


def assign_levels(boxes: Tensor, *, first_level: int, last_level: int) -> Tensor:
    """Pyramid level of each region, by its size (Lin et al. 2017, FPN, eq. 1).

    floor(4 + log2(sqrt(area) / 224)), so regions of 112..224 pixels are level 3 and those of 224..448 level
    4.

    Args:
        boxes: ``[..., 4]`` float32 xyxy in image pixels.
        first_level: Lowest level there is; level l has stride 2**l.
        last_level: Highest level there is.

    Returns:
        ``[...]`` int64 in first_level..last_level; empty boxes get `first_level`.
    """
    return _levels_up(boxes, first_level, last_level) + first_level


def _levels_up(boxes: Tensor, first_level: int, last_level: int) -> Tensor:
    """`assign_levels`, counted from the first."""
    reached = box_area(boxes).unsqueeze(-1) >= constant(_least_areas(first_level, last_level), boxes)
    return reached.astype("int64").sum(axis=-1)


def _least_areas(first_level: int, last_level: int) -> list[float]:
    """Areas from which on regions are of each level but the first.

    A side of exactly 224 * 2**k is of the upper level; 1e-6 less, since boxes are rounded.
    """
    sides = [2.0 ** (level - CANONICAL_LEVEL) - 1e-6 for level in range(first_level + 1, last_level + 1)]
    return [(CANONICAL_SIZE * side) ** 2 for side in sides]


def multi_level_roi_align(
    features: Sequence[Tensor],
    boxes: Tensor,
    per_image: Tensor,
    *,
    resolution: int,
    strides: Sequence[int],
    sampling_ratio: int = 0,
    aligned: bool = True,
    last_pixel: float = 0.0,
) -> Tensor:
    """RoIAlign where each region is read at the pyramid level that suits its size.

    Args:
        features: L maps ``[N, C, H_l, W_l]``, finest first.
        boxes: ``[T, 4]`` float32 xyxy in image pixels, ordered by image; T may be 0.
        per_image: ``[N]`` int32, sums to T.
        resolution: S, bins per side.
        strides: L strides of the maps, each twice the one before; the first a power of two.
        sampling_ratio: As in `roi_align`.
        aligned: As in `roi_align`.
        last_pixel: Pixels at the right and bottom of a region that count for its level, but are not pooled;
            see `BoxConventions`.

    Returns:
        ``[T, C, S, S]`` in the order of `boxes`, differentiable in all `features`.

    Raises:
        ValueError: If the strides are not successive powers of two, or not one per map.
    """
    first = strides[0].bit_length() - 1
    if len(features) != len(strides) or any(s != 2 ** (first + i) for i, s in enumerate(strides)):
        raise ValueError(
            f"{len(features)} feature maps with strides {list(strides)}: expected successive powers of two"
        )
    pool = _pool(resolution, sampling_ratio, aligned)
    # Before regions are split by level: a level may have none, and oneDNN kernels of Paddle Inference 3.3
    # fail on empty tensors.
    pooled_boxes = _at_least_min_side(inset_boxes(boxes, last_pixel))
    if len(features) == 1:
        return pool(features[0], pooled_boxes, per_image, spatial_scale=1.0 / strides[0])
    levels = _levels_up(boxes, first, first + len(strides) - 1)
    # ``[L, T]``, and ``[L, N]`` regions of each image there.
    on_level = levels == arange(len(strides)).unsqueeze(1)
    in_both = on_level.unsqueeze(2) & _image_membership(boxes, per_image)
    counts = in_both.astype("int32").sum(axis=1).astype("int32")
    pooled, rows = [], []
    for feature, stride, member, count in zip(features, strides, on_level.unbind(), counts.unbind()):
        index = paddle.nonzero(member)
        at_level = paddle.gather_nd(pooled_boxes, index)
        pooled.append(pool(feature, at_level, count, spatial_scale=1.0 / stride))
        rows.append(index)
    restore = paddle.argsort(paddle.concat(rows).flatten())
    return paddle.gather(paddle.concat(pooled), restore)


def _image_membership(boxes: Tensor, per_image: Tensor) -> Tensor:
    """``[T, N]`` bool: whether a region belongs to an image."""
    per_image = per_image.astype("int64")
    end = paddle.cumsum(per_image)
    position = arange(dim(boxes, 0)).unsqueeze(1)
    return (position < end) & (position >= end - per_image)
