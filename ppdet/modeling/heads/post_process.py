"""From the raw outputs of a head to the final detections: decoding, then class-wise NMS.

Letters: N images, R boxes per image before NMS, K classes, D detections kept per image.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

from paddle import Tensor, nn

from ppdet.config.spec import Derived, Spec
from ppdet.ops.nms import class_wise_nms
from ppdet.structures import BoxConventions, DetectionTensors


class DecodedBoxes(NamedTuple):
    """Boxes with scores, before NMS.

    Attributes:
        boxes: ``[N, R, K, 4]`` float32 xyxy, a box per class, or ``[N, R, 1, 4]`` shared by all classes,
            in pixels of the original images.
        scores: ``[N, R, K]`` float32 without background; 0 in rows that are padding.
    """

    boxes: Tensor
    scores: Tensor


class BoxDecoder(ABC):
    """Turns the raw outputs of one kind of head into boxes and scores."""

    conventions: BoxConventions = BoxConventions()

    @abstractmethod
    def __call__(self, outputs: Any, image_sizes: Tensor, scale_factors: Tensor) -> DecodedBoxes:
        """Decode.

        Args:
            outputs: Whatever the head that this decoder belongs to puts out.
            image_sizes: ``[N, 2]`` float32 (height, width) of the resized content.
            scale_factors: ``[N, 2]`` float32 (y, x), resized / original.

        Returns:
            Boxes and scores.
        """


class MultiClassNMS:
    """Non-maximum suppression within every class of every image (`ppdet.ops.nms.class_wise_nms`).

    Args:
        score_threshold: Kept scores are strictly greater.
        nms_top_k: Best boxes per class and image that enter NMS; -1 for all.
        keep_top_k: Detections kept per image over all classes, >= 1.
        nms_threshold: A box is dropped if its IoU with a better kept one of its class is greater.

    Raises:
        ValueError: If `keep_top_k` is not positive, or `nms_top_k` is neither positive nor -1.
    """

    def __init__(
        self,
        *,
        score_threshold: float = 0.05,
        nms_top_k: int = -1,
        keep_top_k: int = 100,
        nms_threshold: float = 0.5,
    ) -> None:
        if keep_top_k < 1:
            raise ValueError(
                f"MultiClassNMS.keep_top_k is {keep_top_k}, expected >= 1: detections have a fixed length"
            )
        if nms_top_k < 1 and nms_top_k != -1:
            raise ValueError(f"MultiClassNMS.nms_top_k is {nms_top_k}, expected >= 1, or -1 for all")
        self.score_threshold = score_threshold
        self.nms_top_k: Optional[int] = None if nms_top_k == -1 else nms_top_k
        self.keep_top_k = keep_top_k
        self.nms_threshold = nms_threshold

    def __call__(self, decoded: DecodedBoxes) -> DetectionTensors:
        """Keep the best detections of each image, D = `keep_top_k`, by falling score."""
        kept = class_wise_nms(
            decoded.boxes,
            decoded.scores,
            score_threshold=self.score_threshold,
            iou_threshold=self.nms_threshold,
            keep_top_k=self.keep_top_k,
            pre_nms_top_k=self.nms_top_k,
        )
        return DetectionTensors(boxes=kept.boxes, scores=kept.scores, labels=kept.labels)


class BBoxPostProcess:
    """Decoding and NMS, one after the other.

    Args:
        decode: How raw outputs become boxes: ``RCNNBox``, ``YOLOBox``.
        nms: What is kept of them.
        decode_facts: What the head knows and the decoder needs (anchors, strides, box weights); the parent
            hands it over. A fact that the decoder's own block repeats must agree.
    """

    def __init__(
        self,
        *,
        decode: Spec[BoxDecoder],
        nms: Spec[MultiClassNMS] = Spec.of(MultiClassNMS),  # noqa: B008  (a Spec is immutable)
        decode_facts: Derived[Optional[Mapping[str, Any]]] = None,
    ) -> None:
        self.decode = decode.build(**(decode_facts or {}))
        self.nms = nms.build()

    def __call__(self, outputs: Any, image_sizes: Tensor, scale_factors: Tensor) -> DetectionTensors:
        """Detections in pixels of the original images; arguments as for `BoxDecoder`."""
        return self.nms(self.decode(outputs, image_sizes, scale_factors))


def final_nms(model: nn.Layer) -> Optional[MultiClassNMS]:
    """The final NMS of a detector, wherever it keeps it; None if it has none."""
    for layer in model.sublayers(include_self=True):
        for value in vars(layer).values():
            if isinstance(value, BBoxPostProcess):
                return value.nms
            if isinstance(value, MultiClassNMS):
                return value
    return None
