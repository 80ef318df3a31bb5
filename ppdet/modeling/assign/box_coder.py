"""Boxes encoded as deltas from other boxes."""

from __future__ import annotations

from collections.abc import Sequence

from paddle import Tensor

from ppdet.ops.boxes import decode_deltas, encode_deltas


class DeltaCoder:
    """Encodes boxes as deltas and decodes them, with one set of weights (Girshick et al. 2014, appendix C).

    Attributes:
        weights: Factors of dx, dy, dw, dh, four positive numbers; greater weights make deltas and losses
            greater.
        limited: Whether dw and dh are cut at `ppdet.ops.boxes.LOG_SCALE_LIMIT`.
    """

    def __init__(self, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0), *, limited: bool = True) -> None:
        """Check and keep the weights.

        Args:
            weights: 1 1 1 1 for anchors, 10 10 5 5 for the box head of R-CNN.
            limited: See the attribute.

        Raises:
            ValueError: If they are not four positive numbers.
        """
        self.limited = limited
        self.weights = tuple(float(w) for w in weights)
        if len(self.weights) != 4 or any(w <= 0 for w in self.weights):
            raise ValueError(f"box delta weights must be four positive numbers, got {list(weights)}")

    def encode(self, boxes: Tensor, targets: Tensor) -> Tensor:
        """Deltas ``[..., 4]`` from `boxes` to `targets`, both ``[..., 4]`` xyxy; see `encode_deltas`."""
        return encode_deltas(boxes, targets, weights=self.weights)

    def decode(self, boxes: Tensor, deltas: Tensor) -> Tensor:
        """`boxes` ``[..., 4]`` xyxy moved by `deltas`, not clipped; see `decode_deltas`."""
        return decode_deltas(boxes, deltas, weights=self.weights, limited=self.limited)
