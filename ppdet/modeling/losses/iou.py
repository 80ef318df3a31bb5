"""Box losses from the IoU family, with the names and keys of 2.x. One value per box; the caller reduces."""

from __future__ import annotations

from paddle import Tensor
from paddle.nn import functional

from ppdet.config.errors import ArgumentError
from ppdet.config.ranges import NonNegative
from ppdet.ops.boxes import paired_iou


class _Similarity:
    """The member of the IoU family that a loss uses: at most one of three flags."""

    def __init__(self, *, giou: bool, diou: bool, ciou: bool) -> None:
        chosen = [kind for kind, flag in (("giou", giou), ("diou", diou), ("ciou", ciou)) if flag]
        if len(chosen) > 1:
            raise ArgumentError(chosen[-1], f"{' and '.join(chosen)} are both true; choose at most one")
        self.kind = chosen[0] if chosen else "iou"

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        return paired_iou(prediction, target, kind=self.kind)


class IouLoss:
    """``loss_weight * (1 - similarity)``, or of the squared similarity.

    Args:
        loss_weight: Factor.
        giou: Use the generalised IoU (Rezatofighi et al. 2019).
        diou: Use the distance IoU (Zheng et al. 2020).
        ciou: Use the complete IoU (Zheng et al. 2020).
        loss_square: Square the similarity. Meant for the plain IoU: squaring makes a negative giou, diou or
            ciou look good. It exists because 2.x configs of YOLOv3 were trained with it.

    Raises:
        ValueError: If more than one kind is chosen.
    """

    def __init__(
        self,
        *,
        loss_weight: NonNegative = 2.5,
        giou: bool = False,
        diou: bool = False,
        ciou: bool = False,
        loss_square: bool = True,
    ) -> None:
        self.loss_weight = loss_weight
        self.loss_square = loss_square
        self._similarity = _Similarity(giou=giou, diou=diou, ciou=ciou)

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Losses ``[...]`` of boxes ``[..., 4]`` float32 xyxy, differentiable in `prediction`."""
        similarity = self._similarity(prediction, target)
        if self.loss_square:
            similarity = similarity * similarity
        return self.loss_weight * (1 - similarity)


class IouAwareLoss:
    """Trains a logit to predict the IoU of its own box.

    Wu et al. 2020, "IoU-aware Single-stage Object Detector for Accurate Localization", section 3.2.

    Args:
        loss_weight: Factor.
        giou: Use the generalised IoU.
        diou: Use the distance IoU.
        ciou: Use the complete IoU.

    Raises:
        ValueError: If more than one kind is chosen.
    """

    def __init__(
        self, *, loss_weight: NonNegative = 1.0, giou: bool = False, diou: bool = False, ciou: bool = False
    ) -> None:
        self.loss_weight = loss_weight
        self._similarity = _Similarity(giou=giou, diou=diou, ciou=ciou)

    def __call__(self, iou_logits: Tensor, prediction: Tensor, target: Tensor) -> Tensor:
        """Losses ``[...]`` of logits ``[...]`` and boxes ``[..., 4]`` xyxy; no gradient to the boxes."""
        similarity = self._similarity(prediction.detach(), target)
        entropy = functional.binary_cross_entropy_with_logits(iou_logits, similarity, reduction="none")
        return self.loss_weight * entropy
