"""RetinaNet's loss as loops over anchors and classes in float64: slow, and meant to be read."""

from __future__ import annotations

import math

import numpy as np


def focal(logit: float, target: int, alpha: float, gamma: float) -> float:
    """-alpha_t (1 - p_t)^gamma log p_t (Lin et al. 2017, equation 5)."""
    # log p_t without overflow: -log(1 + exp(-z)), z the logit of the truth.
    z = logit if target else -logit
    log_p = -(max(-z, 0) + math.log1p(math.exp(-abs(z))))
    weight = alpha if target else 1 - alpha
    return -weight * (1 - math.exp(log_p)) ** gamma * log_p


def iou(a: np.ndarray, b: np.ndarray) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return float(width * height / (sum(areas) - width * height))


def deltas_to(anchor: np.ndarray, box: np.ndarray) -> list[float]:
    size, wanted = anchor[2:] - anchor[:2], box[2:] - box[:2]
    shift = ((box[:2] + box[2:]) / 2 - (anchor[:2] + anchor[2:]) / 2) / size
    return [*shift, *np.log(wanted / size)]


def losses(
    logits: np.ndarray,
    deltas: np.ndarray,
    anchors: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    *,
    positive: float = 0.5,
    negative: float = 0.4,
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> dict[str, float]:
    """Both losses of a batch: logits ``[N, R, K]``, deltas ``[N, R, 4]``, anchors ``[R, 4]``, G objects."""
    anchors, boxes = anchors.astype(np.float64), boxes.astype(np.float64)
    sums, positives = {"loss_cls": 0.0, "loss_reg": 0.0}, 0
    for n in range(len(logits)):
        objects = [g for g in range(len(labels[n])) if labels[n, g] >= 0]
        overlaps = np.array([[iou(a, boxes[n, g]) for g in objects] for a in anchors]).reshape(
            len(anchors), -1
        )
        best_of_object = overlaps.max(axis=0) if objects else []
        for r, anchor in enumerate(anchors):
            row = overlaps[r]
            best = row.max() if objects else 0.0
            promoted = any(v > 0 and v == top for v, top in zip(row, best_of_object))
            is_object = promoted or (objects != [] and best >= positive)
            if not is_object and best >= negative:
                continue
            matched = objects[int(row.argmax())] if is_object else -1
            for k in range(logits.shape[2]):
                target = int(is_object and labels[n, matched] == k)
                sums["loss_cls"] += focal(float(logits[n, r, k]), target, alpha, gamma)
            if is_object:
                positives += 1
                wanted = deltas_to(anchor, boxes[n, matched])
                sums["loss_reg"] += sum(abs(float(d) - w) for d, w in zip(deltas[n, r], wanted))
    return {name: value / max(positives, 1) for name, value in sums.items()}
