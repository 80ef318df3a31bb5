"""Training targets of a mask head.

Letters: T regions of all images together, G ground-truth rows per image, M mask resolution.
"""

from __future__ import annotations

from paddle import Tensor

from ppdet.config.spec import Derived
from ppdet.ops.masks import rasterize_polygons
from ppdet.structures import BatchTargets


class MaskAssigner:
    """The mask of each region's object, cropped to the region (He et al., "Mask R-CNN", section 3.1)."""

    def __init__(self, *, mask_resolution: Derived[int]) -> None:
        """Keep the resolution.

        Args:
            mask_resolution: M, the resolution of the mask head.
        """
        self.mask_resolution = mask_resolution

    def __call__(self, boxes: Tensor, objects: Tensor, targets: BatchTargets) -> Tensor:
        """Masks of regions.

        Args:
            boxes: ``[T, 4]`` float32 xyxy of the regions of all images.
            objects: ``[T]`` int64, ``n * G + g`` of the object that each is matched with.
            targets: Ground truth with polygons.

        Returns:
            ``[T, M, M]`` float32 of 0 and 1; a region without an object has finite values without meaning.

        Raises:
            ValueError: If the ground truth has no polygons.
        """
        polygons = targets.polygons
        if polygons is None:
            raise ValueError(
                "the model trains masks, but the batch has none: add gt_poly to TrainDataset.data_fields"
            )
        return rasterize_polygons(
            polygons.vertices, polygons.owner, boxes, objects, resolution=self.mask_resolution
        )
