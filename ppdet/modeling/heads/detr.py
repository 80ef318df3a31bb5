"""From the predictions of a query detector to losses, and to detections.

Letters: N images, Q queries, K classes, D detections per image, H, W input height and width.
"""

from __future__ import annotations

import paddle
from paddle import Tensor
from paddle.nn import functional

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import PositiveInt
from ppdet.config.spec import Spec
from ppdet.modeling.losses.detr import DINOLoss
from ppdet.modeling.queries import QueryOutputs, QueryPredictions, QueryTargets
from ppdet.ops.boxes import clip_boxes
from ppdet.ops.indexing import gather_rows, top_k
from ppdet.ops.normalized_boxes import to_corners
from ppdet.structures import DetectionTensors


class DINOHead:
    """The losses of a query detector; its layers of outputs belong to the transformer.

    Args:
        loss: The losses.
    """

    def __init__(self, *, loss: Spec[DINOLoss] = Spec.of(DINOLoss)) -> None:  # noqa: B008  (immutable)
        self.loss = loss.build()

    def losses(self, outputs: QueryOutputs, targets: QueryTargets) -> dict[str, Tensor]:
        """Named training losses; see `DINOLoss`."""
        return self.loss(outputs, targets)


class DETRPostProcess:
    """The best pairs of query and class. Nothing is suppressed: each object has one query.

    Args:
        num_top_queries: D; rows beyond Q * K are padding.

    Raises:
        ArgumentError: If `num_top_queries` is not positive.
    """

    def __init__(self, *, num_top_queries: PositiveInt = 300) -> None:
        if num_top_queries < 1:
            raise ArgumentError("num_top_queries", f"expected >= 1, got {num_top_queries}")
        self.num_top_queries = num_top_queries

    def __call__(
        self, predictions: QueryPredictions, images: Tensor, image_sizes: Tensor, scale_factors: Tensor
    ) -> DetectionTensors:
        """Detections in pixels of the original images, clipped to them, by falling score.

        Args:
            predictions: Of the last layer.
            images: ``[N, 3, H, W]``, what the network saw, padding included; boxes are in its units.
            image_sizes: ``[N, 2]`` float32 (height, width) of the resized content.
            scale_factors: ``[N, 2]`` float32 (y, x), resized / original.

        Returns:
            D detections per image. A query can be among them with several classes.
        """
        scores = functional.sigmoid(predictions.logits.astype("float32"))
        classes = scores.shape[2]
        best = top_k(paddle.flatten(scores, 1), self.num_top_queries)
        exists = best.values >= 0
        columns = paddle.where(exists, best.columns, paddle.zeros_like(best.columns))
        query = paddle.floor_divide(columns, paddle.full_like(columns, classes))
        labels = paddle.where(exists, columns - query * classes, paddle.full_like(columns, -1))
        size = paddle.shape(images)[2:].astype("float32") / scale_factors
        scale = paddle.concat([size[:, 1:], size[:, :1]] * 2, axis=-1).unsqueeze(1)
        boxes = gather_rows(to_corners(predictions.boxes.astype("float32")), query) * scale
        boxes = clip_boxes(boxes, paddle.floor(image_sizes / scale_factors + 0.5))
        real = exists.astype("float32")
        return DetectionTensors(boxes * real.unsqueeze(-1), best.values * real, labels)
