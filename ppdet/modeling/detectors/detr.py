"""Detectors whose objects are queries; with the default parts, RT-DETR (Zhao et al., arXiv:2304.08069)."""

from __future__ import annotations

from paddle import Tensor

from ppdet.config.ranges import PositiveInt
from ppdet.config.spec import Shared, Spec
from ppdet.modeling.backbones.resnet import ResNet
from ppdet.modeling.heads.detr import DETRPostProcess, DINOHead
from ppdet.modeling.interfaces import Backbone, Detector, Neck
from ppdet.modeling.necks.hybrid_encoder import HybridEncoder
from ppdet.modeling.queries import QueryTargets
from ppdet.modeling.transformers.rtdetr import RTDETRTransformer
from ppdet.structures import Batch, DetectionTensors

#: Strides 8, 16, 32; only the stem is frozen, with all statistics, and the stages learn slowly.
_BACKBONE: Spec[Backbone] = Spec.of(
    ResNet, depth=50, variant="d", return_idx=[1, 2, 3], freeze_stem_only=True, lr_mult_list=[0.1] * 4
)


class DETR(Detector):
    """Backbone, neck and transformer; keys ``backbone``, ``transformer``, ``neck``.

    Args:
        num_classes: K.
        backbone: Features, finest first.
        neck: Neck that returns the finest level first.
        transformer: From features to predictions.
        detr_head: Losses.
        post_process: From predictions to detections; there is no NMS.
    """

    def __init__(
        self,
        *,
        num_classes: Shared[PositiveInt],
        backbone: Spec[Backbone] = _BACKBONE,
        neck: Spec[Neck] = Spec.of(HybridEncoder),  # noqa: B008  (a Spec is immutable)
        transformer: Spec[RTDETRTransformer] = Spec.of(RTDETRTransformer),  # noqa: B008
        detr_head: Spec[DINOHead] = Spec.of(DINOHead),  # noqa: B008
        post_process: Spec[DETRPostProcess] = Spec.of(DETRPostProcess),  # noqa: B008
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.backbone = backbone.build()
        encoder = neck.build(in_shapes=self.backbone.out_shapes)
        self.transformer = transformer.build(in_shapes=encoder.out_shapes, num_classes=num_classes)
        self.neck = encoder
        self.detr_head = detr_head.build()
        self.post_process = post_process.build()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Training losses by name, each a float32 scalar.

        Raises:
            ValueError: If the batch has no targets.
        """
        if batch.targets is None:
            raise ValueError("the batch has no targets; for inference call detect, not the model itself")
        targets = QueryTargets.of(batch.targets, batch.images)
        features = self.neck(self.backbone(batch.images))
        return self.detr_head.losses(self.transformer.train_outputs(features, targets), targets)

    def detect(self, images: Tensor, image_sizes: Tensor, scale_factors: Tensor) -> DetectionTensors:
        """Detections as tensors; see `Detector.detect`."""
        predictions = self.transformer(self.neck(self.backbone(images)))
        return self.post_process(predictions, images, image_sizes, scale_factors)
