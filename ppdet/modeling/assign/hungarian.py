"""One-to-one assignment of queries to objects (Carion et al., "DETR", arXiv:2005.12872, section 3.1).

Letters: N images, S sets of predictions, Q queries, K classes, G most objects of an image in the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import paddle
from paddle import Tensor
from paddle.nn import functional

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import Fraction, NonNegative
from ppdet.modeling.queries import QueryPredictions, QueryTargets
from ppdet.ops.boxes import paired_iou
from ppdet.ops.normalized_boxes import to_corners

#: What the parts of a cost or of a loss are called.
PARTS = ("class", "bbox", "giou")
_COEFFICIENTS: dict[str, float] = {"class": 2.0, "bbox": 5.0, "giou": 2.0}
#: Keeps the logarithm of a probability of 0 finite.
_EPS = 1e-8
#: Cost in place of one that is not finite, which scipy refuses. The loss then says what is wrong.
_WORST = 1e6


def check_parts(argument: str, coefficients: Mapping[str, float]) -> dict[str, float]:
    """Coefficients of all `PARTS`.

    Raises:
        ArgumentError: If there are others, or some are missing.
    """
    if sorted(coefficients) != sorted(PARTS):
        raise ArgumentError(argument, f"expected {', '.join(PARTS)}, got {', '.join(sorted(coefficients))}")
    return {part: float(coefficients[part]) for part in PARTS}


class HungarianMatcher:
    """Gives each object the query for which the costs of all objects of the image add up to the least.

    The cost of a pair is a weighted sum of a focal classification cost (Lin et al., "RetinaNet", equation 5,
    as a positive minus as a negative), the L1 distance of the boxes, and their negative GIoU.

    Args:
        matcher_coeff: Weights of ``class``, ``bbox`` and ``giou``.
        alpha: Weight of positives in the classification cost.
        gamma: Exponent there.
    """

    def __init__(
        self,
        *,
        matcher_coeff: dict[str, NonNegative] = _COEFFICIENTS,
        alpha: Fraction = 0.25,
        gamma: NonNegative = 2.0,
    ) -> None:
        self._weights = check_parts("matcher_coeff", matcher_coeff)
        self._alpha = alpha
        self._gamma = gamma

    @paddle.no_grad()
    def costs(self, predictions: QueryPredictions, targets: QueryTargets) -> Tensor:
        """Costs ``[N, Q, G]`` float32 of all pairs; without meaning where there is no object."""
        parts = self.parts(predictions, targets)
        return paddle.add_n([self._weights[part] * cost for part, cost in parts.items()])

    def parts(self, predictions: QueryPredictions, targets: QueryTargets) -> dict[str, Tensor]:
        """The parts of the costs, unweighted, ``[N, Q, G]`` float32 each."""
        probability = functional.sigmoid(predictions.logits.astype("float32"))
        as_negative = (1 - self._alpha) * probability**self._gamma * -paddle.log(1 - probability + _EPS)
        as_positive = self._alpha * (1 - probability) ** self._gamma * -paddle.log(probability + _EPS)
        one_hot = functional.one_hot(targets.labels, probability.shape[-1])
        boxes = predictions.boxes.astype("float32").unsqueeze(2)
        objects = targets.boxes.unsqueeze(1)
        return {
            "class": paddle.matmul(as_positive - as_negative, one_hot, transpose_y=True),
            "bbox": paddle.abs(boxes - objects).sum(axis=-1),
            "giou": -paired_iou(to_corners(boxes), to_corners(objects), kind="giou"),
        }

    def __call__(self, predictions: Sequence[QueryPredictions], targets: QueryTargets) -> Tensor:
        """Match several sets of predictions with the same objects, each on its own.

        Costs of all sets come to the host together: the one time that a training step waits for the device.

        Args:
            predictions: S sets of equally many queries.
            targets: The objects.

        Returns:
            ``[S, N, G]`` int64, the query of each object; -1 where there is no object, or no query is left.
        """
        sets = len(predictions)
        costs = self.costs(QueryPredictions.joined(predictions), targets.repeated(sets))
        valid = targets.valid.astype("float32")
        packed = paddle.concat([paddle.flatten(costs), paddle.flatten(valid)]).numpy()
        shape = (sets, len(valid), *costs.shape[1:])
        cost = np.nan_to_num(packed[: costs.size].reshape(shape), nan=_WORST, posinf=_WORST, neginf=-_WORST)
        return paddle.to_tensor(match_on_host(cost, packed[costs.size :].reshape(valid.shape) > 0))


def match_on_host(costs: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Minimal assignments.

    Args:
        costs: ``[S, N, Q, G]`` finite.
        valid: ``[N, G]`` bool.

    Returns:
        ``[S, N, G]`` int64 queries, -1 for none.
    """
    from scipy.optimize import linear_sum_assignment

    matches = np.full((*costs.shape[:2], costs.shape[3]), -1, np.int64)
    for image, rows in enumerate(valid):
        objects = np.flatnonzero(rows)
        for one in range(len(costs)):
            queries, columns = linear_sum_assignment(costs[one, image][:, objects])
            matches[one, image, objects[columns]] = queries
    return matches
