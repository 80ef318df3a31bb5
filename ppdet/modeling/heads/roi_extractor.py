"""Features of regions for the second stage.

Letters: N images, T regions of all images together, C channels, S output resolution.
"""

from __future__ import annotations

from paddle import Tensor

from ppdet.config.ranges import IntFromMinusOne, NonNegativeInt, PositiveInt
from ppdet.config.spec import Derived
from ppdet.ops.roi_align import FlatRegions, multi_level_roi_align
from ppdet.structures import BoxConventions, FeatureShape
from ppdet.structures.conventions import NORMAL


class RoIAlign:
    """Features of regions, each read at the pyramid level that suits its size.

    He et al., "Mask R-CNN", section 3; levels after Lin et al., "Feature Pyramid Networks", eq. 1.
    """

    def __init__(
        self,
        *,
        in_shapes: Derived[list[FeatureShape]],
        resolution: PositiveInt = 14,
        sampling_ratio: IntFromMinusOne = 0,
        aligned: bool = True,
        start_level: NonNegativeInt = 0,
        end_level: NonNegativeInt = 3,
        conventions: Derived[BoxConventions] = NORMAL,
    ) -> None:
        """Check and keep the settings.

        Args:
            in_shapes: Feature shapes, finest first.
            resolution: S, bins per side.
            sampling_ratio: Samples per bin and side; 0 for as many as the bin has cells.
            aligned: Pixel centres at half-integers. False is half a cell off, as early code was.
            start_level: First of `in_shapes` that regions are read from.
            end_level: Last of them; fewer levels than that is fine.
            conventions: Box conventions; may set `aligned`, and on a pyramid `sampling_ratio`.

        Raises:
            ValueError: If no level is left, or the levels differ in channels.
        """
        shapes = in_shapes[start_level : end_level + 1]
        if len({shape.channels for shape in shapes}) != 1:
            raise ValueError(
                f"RoIAlign levels {start_level}..{end_level} of {in_shapes}: expected at least one level, "
                "with equal channels"
            )
        self.resolution = resolution
        self.channels = shapes[0].channels
        fixed = conventions.pyramid_samples if len(shapes) > 1 else None
        self.sampling_ratio = sampling_ratio if fixed is None else fixed
        self.aligned = aligned if conventions.half_pixel_pooling is None else conventions.half_pixel_pooling
        self._last_pixel = conventions.last_pixel
        self._levels = slice(start_level, start_level + len(shapes))
        self._strides = [shape.stride for shape in shapes]

    def __call__(self, features: list[Tensor], regions: FlatRegions) -> Tensor:
        """``[T, C, S, S]`` in the order of the regions, which are in pixels of the resized images."""
        return multi_level_roi_align(
            features[self._levels],
            regions.boxes,
            regions.per_image,
            resolution=self.resolution,
            strides=self._strides,
            sampling_ratio=self.sampling_ratio,
            aligned=self.aligned,
            last_pixel=self._last_pixel,
        )
