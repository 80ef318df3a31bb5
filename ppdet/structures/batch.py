"""What a model takes and what it gives.

Letters: N images, H, W padded height and width, G most objects of an image in the batch,
R proposals, D detections, K classes, M mask resolution.

Tensors are padded to a common length rather than kept in lists: shapes stay fixed inside a step,
an image without objects is no special case, and nothing has to be read back from the device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from ppdet.structures.checks import check_shape
from ppdet.utils.device import to_device

if TYPE_CHECKING:
    from paddle import Tensor

#: Label of a padded row, and of a region that takes no part in a loss.
IGNORE_LABEL = -1


def original_sizes(image_sizes: Any, scale_factors: Any) -> Any:
    """Sizes of the original images, which resizing has rounded away.

    Args:
        image_sizes: ``[N, 2]`` float32 (height, width) of the resized content, a tensor or a NumPy array.
        scale_factors: ``[N, 2]`` float32 (y, x), resized / original, of the same kind.

    Returns:
        ``[N, 2]`` float32 whole numbers of that kind, (height, width).
    """
    sizes = image_sizes / scale_factors + 0.5
    return np.floor(sizes) if isinstance(sizes, np.ndarray) else sizes.floor()


#: Names of the tensors of a batch, of its targets, and of their polygons.
_IMAGES = ("images", "image_sizes", "scale_factors")
_TARGETS = ("boxes", "labels", "is_crowd", "weights")
_POLYGONS = ("vertices", "owner")


@dataclass(frozen=True)
class PolygonBatch:
    """Polygon parts of all objects of a batch, padded, for rasterising on the device.

    Attributes:
        vertices: ``[P, V, 2]`` float32 x, y in pixels of the resized image; rows are closed by
            repeating the last vertex up to V.
        owner: ``[P]`` int64, ``n * G + g`` of the object a part belongs to; -1 in padded rows.
    """

    vertices: Tensor
    owner: Tensor

    def __post_init__(self) -> None:
        check_shape("vertices", self.vertices, (None, None, 2))
        check_shape("owner", self.owner, (self.vertices.shape[0],))


@dataclass(frozen=True)
class BatchTargets:
    """Ground truth of a batch. Padded rows have label -1 and an all-zero box; G >= 1.

    Attributes:
        boxes: ``[N, G, 4]`` float32 xyxy in pixels of the resized images.
        labels: ``[N, G]`` int64 in 0..K-1, or -1 in padded rows.
        is_crowd: ``[N, G]`` bool.
        weights: ``[N, G]`` float32 mixup weights; ones where there was no mixup.
        polygons: Masks, where the model needs them.
    """

    boxes: Tensor
    labels: Tensor
    is_crowd: Tensor
    weights: Tensor
    polygons: Optional[PolygonBatch] = None

    def __post_init__(self) -> None:
        check_shape("boxes", self.boxes, (None, None, 4))
        rows = (self.boxes.shape[0], self.boxes.shape[1])
        for name in ("labels", "is_crowd", "weights"):
            check_shape(name, getattr(self, name), rows)


@dataclass(frozen=True)
class Batch:
    """Input of a detector.

    Attributes:
        images: ``[N, 3, H, W]`` float32, normalised, zeros at the right and bottom as padding.
        image_sizes: ``[N, 2]`` float32 (height, width) of the resized content, without padding.
        scale_factors: ``[N, 2]`` float32 (y, x), resized / original.
        image_ids: N ids from the annotation file; stay on the host.
        paths: N file names, for errors and drawing; stay on the host.
        targets: Ground truth, or None at inference.
    """

    images: Tensor
    image_sizes: Tensor
    scale_factors: Tensor
    image_ids: tuple[int, ...]
    paths: tuple[str, ...]
    targets: Optional[BatchTargets] = None

    def __post_init__(self) -> None:
        check_shape("images", self.images, (None, 3, None, None))
        count = self.images.shape[0]
        check_shape("image_sizes", self.image_sizes, (count, 2))
        check_shape("scale_factors", self.scale_factors, (count, 2))
        if count >= 0 and not len(self.image_ids) == len(self.paths) == count:
            raise ValueError(f"{count} images, {len(self.image_ids)} image_ids, {len(self.paths)} paths")

    def __len__(self) -> int:
        return int(self.images.shape[0])

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Batch:
        """Make a batch from arrays or tensors by field name, those of its targets and polygons included.

        Args:
            arrays: `images`, `image_sizes`, `scale_factors`, `image_ids`, `paths`; `boxes`, `labels`,
                `is_crowd`, `weights` if there are targets; `vertices`, `owner` if they have masks.
        """

        def tensors(names: Sequence[str]) -> dict[str, Tensor]:
            import paddle

            values = {name: arrays[name] for name in names}
            return {
                name: value if isinstance(value, paddle.Tensor) else to_device(value)
                for name, value in values.items()
            }

        targets = None
        if "boxes" in arrays:
            polygons = PolygonBatch(**tensors(_POLYGONS)) if "vertices" in arrays else None
            targets = BatchTargets(**tensors(_TARGETS), polygons=polygons)
        return cls(
            **tensors(_IMAGES),
            image_ids=tuple(arrays["image_ids"]),
            paths=tuple(arrays["paths"]),
            targets=targets,
        )

    def tensors(self) -> dict[str, Tensor]:
        """All its tensors by field name, as `from_arrays` takes them."""
        found = {name: getattr(self, name) for name in _IMAGES}
        if self.targets is not None:
            found |= {name: getattr(self.targets, name) for name in _TARGETS}
            if self.targets.polygons is not None:
                found |= {name: getattr(self.targets.polygons, name) for name in _POLYGONS}
        return found


@dataclass(frozen=True)
class Proposals:
    """Candidate regions of a batch, best first, padded to R.

    Attributes:
        boxes: ``[N, R, 4]`` float32 xyxy in pixels of the resized images.
        objectness_logits: ``[N, R]`` float32.
        valid: ``[N, R]`` bool, False in padded rows.
    """

    boxes: Tensor
    objectness_logits: Tensor
    valid: Tensor

    def __post_init__(self) -> None:
        check_shape("boxes", self.boxes, (None, None, 4))
        rows = (self.boxes.shape[0], self.boxes.shape[1])
        check_shape("objectness_logits", self.objectness_logits, rows)
        check_shape("valid", self.valid, rows)


@dataclass(frozen=True)
class DetectionTensors:
    """Detections of a batch on the device, sorted by score within each image, padded to D.

    Attributes:
        boxes: ``[N, D, 4]`` float32 xyxy in pixels of the ORIGINAL images, clipped.
        scores: ``[N, D]`` float32; 0 in padded rows.
        labels: ``[N, D]`` int64 in 0..K-1; -1 in padded rows.
        mask_probs: ``[N, D, M, M]`` float32 in 0..1 relative to each box, or None.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    mask_probs: Optional[Tensor] = None

    def __post_init__(self) -> None:
        check_shape("boxes", self.boxes, (None, None, 4))
        rows = (self.boxes.shape[0], self.boxes.shape[1])
        check_shape("scores", self.scores, rows)
        check_shape("labels", self.labels, rows)
