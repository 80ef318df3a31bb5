"""Mask head (He et al., "Mask R-CNN", sections 3 and 3.1).

Letters: N images, S sampled regions per image, P the most positives among them, D detections per image,
T regions of all images, K classes, M mask resolution.
"""

from __future__ import annotations

from typing import Callable, NamedTuple

import paddle
from paddle import Tensor, nn
from paddle.nn import functional

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import Fraction, NonNegativeInt, PositiveInt
from ppdet.config.spec import Derived, Shared, Spec
from ppdet.modeling.heads.bbox_head import BoxTraining
from ppdet.modeling.heads.mask_targets import MaskAssigner
from ppdet.modeling.heads.roi_extractor import RoIAlign
from ppdet.ops.constants import Kept, arange
from ppdet.ops.indexing import dim, place_rows, row_starts
from ppdet.ops.roi_align import FlatRegions, flatten_regions
from ppdet.structures import BatchTargets, BoxConventions, FeatureShape
from ppdet.structures.conventions import NORMAL

#: ``[R]`` bool, True in the first row.
_FIRST: Kept[Tensor] = Kept(64)


class SharedFeatures(NamedTuple):
    """Maps of a box head's body, for a mask head that works on them too.

    Attributes:
        channels: Their channels.
        resolution: Their side in cells; 0 if the body returns vectors.
    """

    channels: int
    resolution: int


class MaskFeat(nn.Layer):
    """Convolutions, then a transposed one that doubles the resolution (figure 4).

    Args:
        in_channel: Channels in.
        num_convs: How many 3x3 convolutions.
        out_channel: Channels of each layer.
    """

    def __init__(
        self, *, in_channel: Derived[int], num_convs: NonNegativeInt = 4, out_channel: PositiveInt = 256
    ) -> None:
        super().__init__()
        self.out_channels = out_channel
        layers: list[tuple[str, nn.Layer]] = []
        channels = in_channel
        for i in range(1, num_convs + 1):
            conv = nn.Conv2D(channels, out_channel, 3, padding=1, weight_attr=_for_rectifier())
            layers += [(f"mask_inter_feat_{i}", conv), (f"relu_{i}", nn.ReLU())]
            channels = out_channel
        enlarge = nn.Conv2DTranspose(channels, out_channel, 2, stride=2, weight_attr=_for_rectifier())
        self.upsample = nn.Sequential(*layers, ("conv5_mask", enlarge), ("relu", nn.ReLU()))

    def forward(self, features: Tensor) -> Tensor:
        """``[T, in, M / 2, M / 2]`` to ``[T, out, M, M]``."""
        return self.upsample(features)


class MaskHead(nn.Layer):
    """A mask for every region and class.

    Args:
        in_shapes: Feature shapes, finest first.
        shared_features: Maps of the box head's body.
        conventions: Box conventions.
        num_classes: K.
        head: Body.
        roi_extractor: Pools regions.
        mask_assigner: Training targets.
        share_bbox_feat: Work on the maps of the box head's body (C4) rather than on pooled regions.

    Raises:
        ValueError: If `share_bbox_feat` is true and the box head has no maps.
    """

    def __init__(
        self,
        *,
        in_shapes: Derived[list[FeatureShape]],
        shared_features: Derived[SharedFeatures],
        conventions: Derived[BoxConventions] = NORMAL,
        num_classes: Shared[PositiveInt] = 80,
        head: Spec[MaskFeat] = Spec.of(MaskFeat),  # noqa: B008  (immutable)
        roi_extractor: Spec[RoIAlign] = Spec.of(RoIAlign),  # noqa: B008
        mask_assigner: Spec[MaskAssigner] = Spec.of(MaskAssigner),  # noqa: B008
        share_bbox_feat: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.share_bbox_feat = share_bbox_feat
        self.roi_extractor = roi_extractor.build(in_shapes=in_shapes, conventions=conventions)
        channels, resolution = self.roi_extractor.channels, self.roi_extractor.resolution
        if share_bbox_feat:
            if shared_features.resolution == 0:
                raise ArgumentError("share_bbox_feat", "needs a box head with feature maps, as Res5Head")
            channels, resolution = shared_features
        self.head = head.build(in_channel=channels)
        self.assign = mask_assigner.build(mask_resolution=2 * resolution)
        self.mask_fcn_logits = nn.Conv2D(self.head.out_channels, num_classes, 1, weight_attr=_for_rectifier())

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Mask logits of given classes.

        Args:
            features: ``[T, C, M / 2, M / 2]``.
            labels: ``[T]`` int64, the class of each mask; a value outside of 0..K-1 takes class 0.

        Returns:
            ``[T, M, M]`` float32.
        """
        logits = self.mask_fcn_logits(self.head(features))
        is_class = (labels >= 0) & (labels < self.num_classes)
        column = paddle.where(is_class, labels, paddle.zeros_like(labels))
        rows = arange(dim(labels, 0)) * self.num_classes + column
        picked = paddle.gather(logits.flatten(0, 1), rows)
        return picked.astype("float32")

    def losses(
        self, features: list[Tensor], box_training: BoxTraining, targets: BatchTargets, *, positives: int
    ) -> dict[str, Tensor]:
        """Binary cross entropy of the masks of positives, averaged over their pixels.

        Args:
            features: Feature maps.
            box_training: Of the same step.
            targets: Ground truth with polygons.
            positives: P; they are the first rows of the sampled regions.

        Returns:
            ``loss_mask``. An image without positives counts as one region with loss 0, so the mean always
            exists and a batch of them still reaches every parameter.
        """
        regions = box_training.regions
        labels, gt_index = regions.labels[:, :positives], regions.gt_index[:, :positives]
        positive = (labels >= 0) & (labels < self.num_classes)
        flat = flatten_regions(regions.boxes[:, :positives], _and_first(positive))
        assert flat.rows is not None
        if self.share_bbox_feat:
            shape = box_training.features.shape
            by_image = box_training.features.reshape([labels.shape[0], -1, *shape[1:]])
            pooled = paddle.gather(by_image[:, :positives].flatten(0, 1), flat.rows)
        else:
            pooled = self.roi_extractor(features, flat)
        logits = self(pooled, paddle.gather(labels.flatten(), flat.rows))
        objects = gt_index + row_starts(*targets.labels.shape)
        masks = self.assign(flat.boxes, paddle.gather(objects.flatten(), flat.rows), targets)
        counted = paddle.gather(positive.flatten().astype("float32"), flat.rows)
        counts = positive.astype("float32").sum(axis=1)
        pixels = paddle.clip(counts, min=1.0).sum() * (logits.shape[1] * logits.shape[2])
        loss = functional.binary_cross_entropy_with_logits(
            logits, masks, weight=counted.reshape([-1, 1, 1]), reduction="sum"
        )
        return {"loss_mask": loss / pixels}

    def predict(
        self,
        features: list[Tensor],
        boxes: Tensor,
        labels: Tensor,
        *,
        box_features: Callable[[list[Tensor], FlatRegions], Tensor],
    ) -> Tensor:
        """Mask probabilities of detections.

        Args:
            features: Feature maps.
            boxes: ``[N, D, 4]`` float32 xyxy, pixels of the resized images.
            labels: ``[N, D]`` int64, -1 in padded rows.
            box_features: The box head's body over pooled regions, used with `share_bbox_feat`.

        Returns:
            ``[N, D, M, M]`` float32 in 0..1; zeros in padded rows.
        """
        regions = flatten_regions(boxes, _and_first(labels >= 0))
        assert regions.rows is not None
        pool = box_features if self.share_bbox_feat else self.roi_extractor
        picked = paddle.gather(labels.flatten(), regions.rows)
        probs = functional.sigmoid(self(pool(features, regions), picked))
        placed = place_rows(probs, regions.rows, dim(boxes, 0) * dim(boxes, 1))
        masks = placed.reshape([-1, boxes.shape[1], *probs.shape[1:]])
        return masks * (labels >= 0).astype("float32").unsqueeze(-1).unsqueeze(-1)


def _and_first(objects: Tensor) -> Tensor:
    """``[N, R]`` bool: rows with an object, and the first of each image.

    The other rows are left out, since the head is the costly part and most images have few objects; the first
    keeps every tensor from being empty.
    """
    rows = dim(objects, 1)
    return objects | _FIRST.get(rows, lambda: arange(rows) == 0)


class MaskPostProcess:
    """Settings of the masks that are pasted into the original image."""

    def __init__(self, *, binary_thresh: Fraction = 0.5) -> None:
        """Check and keep the threshold.

        Args:
            binary_thresh: Probability 0..1 from which on a pixel belongs to the object.

        Raises:
            ValueError: If it is out of range.
        """
        if not 0 <= binary_thresh <= 1:
            raise ArgumentError("binary_thresh", f"expected 0..1, got {binary_thresh}")
        self.binary_thresh = binary_thresh


def _for_rectifier() -> paddle.ParamAttr:
    """Normal weights of variance 2 / fan-in."""
    return paddle.ParamAttr(initializer=nn.initializer.KaimingNormal())
