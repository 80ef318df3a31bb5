"""Training targets of a mask head.

Letters: N images, P regions per image, G ground-truth rows, M mask resolution.
"""

from __future__ import annotations

from paddle import Tensor

from ppdet.config.spec import Derived
from ppdet.modeling.assign.roi_targets import RoiTargets
from ppdet.ops.indexing import row_starts
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

    def __call__(self, regions: RoiTargets, targets: BatchTargets) -> Tensor:
        """Masks of regions.

        Args:
            regions: Of N images, P each, with the objects they are matched with.
            targets: Ground truth with polygons.

        Returns:
            ``[N, P, M, M]`` float32 of 0 and 1; a region without an object has finite values without meaning.

        Raises:
            ValueError: If the ground truth has no polygons.
        """
        polygons = targets.polygons
        if polygons is None:
            raise ValueError(
                "the model trains masks, but the batch has none: add gt_poly to TrainDataset.data_fields"
            )
        images, objects = targets.labels.shape
        masks = rasterize_polygons(
            polygons.vertices,
            polygons.owner,
            regions.boxes.reshape([-1, 4]),
            (regions.gt_index + row_starts(images, objects)).flatten(),
            resolution=self.mask_resolution,
        )
        return masks.reshape([images, -1, self.mask_resolution, self.mask_resolution])
