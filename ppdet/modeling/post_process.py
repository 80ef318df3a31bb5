"""From the raw outputs of a head to the final detections: decoding, then class-wise NMS.

Letters: N images, R boxes per image before NMS, K classes, D detections kept per image.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

from paddle import Tensor

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import Fraction, IntFromMinusOne
from ppdet.config.spec import Derived, Spec
from ppdet.ops.nms import class_wise_nms
from ppdet.structures import DetectionTensors


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

    @abstractmethod
    def __call__(self, outputs: Any, image_sizes: Tensor, scale_factors: Tensor) -> DecodedBoxes:
        """Decode.

        Args:
            outputs: Raw outputs of the head that this decoder belongs to.
            image_sizes: ``[N, 2]`` float32 (height, width) of the resized content.
            scale_factors: ``[N, 2]`` float32 (y, x), resized / original.

        Returns:
            Boxes and scores.
        """


#: Candidates of an image that enter the last NMS: trained detectors have some hundred, untrained ones any
#: number.
MAX_CANDIDATES = 4096


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
        score_threshold: Fraction = 0.05,
        nms_top_k: IntFromMinusOne = -1,
        keep_top_k: IntFromMinusOne = 100,
        nms_threshold: Fraction = 0.5,
    ) -> None:
        if keep_top_k < 1:
            raise ArgumentError(
                "keep_top_k", f"expected >= 1, got {keep_top_k}; detections have a fixed length"
            )
        if nms_top_k < 1 and nms_top_k != -1:
            raise ArgumentError("nms_top_k", f"expected >= 1, or -1 for all, got {nms_top_k}")
        self.score_threshold = score_threshold
        self.nms_top_k: Optional[int] = None if nms_top_k == -1 else nms_top_k
        self.keep_top_k = keep_top_k
        self.nms_threshold = nms_threshold
        self.max_candidates = MAX_CANDIDATES

    def __call__(self, decoded: DecodedBoxes) -> DetectionTensors:
        """Keep the best detections of each image, D = `keep_top_k`, by falling score."""
        kept = class_wise_nms(
            decoded.boxes,
            decoded.scores,
            score_threshold=self.score_threshold,
            iou_threshold=self.nms_threshold,
            keep_top_k=self.keep_top_k,
            pre_nms_top_k=self.nms_top_k,
            max_candidates=self.max_candidates,
        )
        return DetectionTensors(boxes=kept.boxes, scores=kept.scores, labels=kept.labels)


class BBoxPostProcess:
    """Decoding and NMS, one after the other.

    Args:
        decode: Decoder of the raw outputs: ``RCNNBox``, ``YOLOBox``.
        nms: Class-wise NMS.
        decode_arguments: Derived arguments of the decoder (anchors, strides, box weights) by name, from the
            head whose outputs it decodes. One that the decoder's own block repeats must agree.
    """

    def __init__(
        self,
        *,
        decode: Spec[BoxDecoder],
        nms: Spec[MultiClassNMS] = Spec.of(MultiClassNMS),  # noqa: B008  (a Spec is immutable)
        decode_arguments: Derived[Mapping[str, Any]],
    ) -> None:
        self.decode = decode.build(**decode_arguments)
        self.nms = nms.build()

    def __call__(self, outputs: Any, image_sizes: Tensor, scale_factors: Tensor) -> DetectionTensors:
        """Detections in pixels of the original images; arguments as for `BoxDecoder`."""
        return self.nms(self.decode(outputs, image_sizes, scale_factors))
