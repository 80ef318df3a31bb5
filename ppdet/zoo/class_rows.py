"""Takes over the rows of a predictor that belong to classes both sides know, by name.

Only the last layer of a head depends on the classes. Every position along its class axis has a meaning:
"the logit of *dog*", "dx of *dog*", "objectness of anchor 1". Naming the positions of both sides and
copying where names agree covers every layout with one rule.

Letters: K classes, A anchors per cell.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Callable, Optional

import numpy as np

Slots = list[Hashable]

#: Stands for the background class among names; no category can be called that.
_BACKGROUND = ("background",)


def _class_then_background(total: int, names: Sequence[str]) -> Optional[Slots]:
    return [*names, _BACKGROUND] if total == len(names) + 1 else None


def _class_then_delta(total: int, names: Sequence[str]) -> Optional[Slots]:
    if total == 4:  # class-agnostic boxes, or one class: nothing depends on its name
        return [("delta", j) for j in range(4)]
    return [(name, j) for name in names for j in range(4)] if total == 4 * len(names) else None


def _class_only(total: int, names: Sequence[str]) -> Optional[Slots]:
    return list(names) if total == len(names) else None


def _anchor_then_class(total: int, names: Sequence[str]) -> Optional[Slots]:
    anchors, rest = divmod(total, len(names))
    return None if rest else [(a, name) for a in range(anchors) for name in names]


def _yolo(total: int, names: Sequence[str]) -> Optional[Slots]:
    """A x [x, y, w, h, objectness, K classes], after A IoU channels where the head predicts them."""
    fields: list[Hashable] = [*(("field", j) for j in range(5)), *names]
    anchors, rest = divmod(total, len(fields))
    if not rest:
        return [(a, f) for a in range(anchors) for f in fields]
    anchors, rest = divmod(total, len(fields) + 1)
    if rest:
        return None
    return [("iou", a) for a in range(anchors)] + [(a, f) for a in range(anchors) for f in fields]


@dataclass(frozen=True)
class ClassAxis:
    """Where a predictor's tensors depend on the classes.

    Attributes:
        axis: 0 for convolutions ``[out, in, h, w]`` and embeddings ``[K, channels]``, -1 for linear layers
            ``[in, out]``.
        slots: Names of the positions along the axis, given its length and the class names; None if
            the length does not fit the number of classes.
    """

    axis: int
    slots: Callable[[int, Sequence[str]], Optional[Slots]]


_PREDICTORS: tuple[tuple[re.Pattern[str], ClassAxis], ...] = (
    (re.compile(r"(^|\.)bbox_score(_stage\d+)?\."), ClassAxis(-1, _class_then_background)),
    (re.compile(r"(^|\.)bbox_delta(_stage\d+)?\."), ClassAxis(-1, _class_then_delta)),
    (re.compile(r"(^|\.)mask_fcn_logits\."), ClassAxis(0, _class_only)),
    (re.compile(r"(^|\.)retina_cls\."), ClassAxis(0, _anchor_then_class)),
    (re.compile(r"(^|\.)yolo_output\.\d+\."), ClassAxis(0, _yolo)),
    (re.compile(r"(^|\.)(pred_cls\.\d+|gfl_cls)\."), ClassAxis(0, _class_only)),
    (re.compile(r"(^|\.)(enc_score_head|dec_score_head\.\d+)\."), ClassAxis(-1, _class_only)),
    (re.compile(r"(^|\.)denoising_class_embed\."), ClassAxis(0, _class_only)),
)


def class_axis(key: str) -> Optional[ClassAxis]:
    """How the tensor of this key depends on the classes, or None if it does not."""
    return next((axis for pattern, axis in _PREDICTORS if pattern.search(key)), None)


def take_class_rows(
    key: str, value: np.ndarray, initial: np.ndarray, *, file_names: Sequence[str], model_names: Sequence[str]
) -> Optional[tuple[np.ndarray, int]]:
    """Put what `value` knows into a copy of `initial`.

    Args:
        key: Key in the model; says which kind of predictor it is.
        value: The file's tensor.
        initial: The model's tensor, for the positions the file does not know.
        file_names: Class names of the file by label.
        model_names: Class names of the model by label.

    Returns:
        The new tensor and the number of positions taken over; None if `key` does not depend on classes
        or a length does not fit its number of names.
    """
    found = class_axis(key)
    if found is None or value.ndim != initial.ndim:
        return None
    moved, target = np.moveaxis(value, found.axis, 0), np.moveaxis(initial.copy(), found.axis, 0)
    old, new = found.slots(len(moved), file_names), found.slots(len(target), model_names)
    if old is None or new is None or moved.shape[1:] != target.shape[1:]:
        return None
    place = {slot: i for i, slot in enumerate(old)}
    pairs = [(i, place[slot]) for i, slot in enumerate(new) if slot in place]
    for i, j in pairs:
        target[i] = moved[j]
    return np.ascontiguousarray(np.moveaxis(target, 0, found.axis)), len(pairs)
