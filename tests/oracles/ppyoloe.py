"""PP-YOLOE's assigners and losses as loops in float64: slow, and meant to be read."""

from __future__ import annotations

import math

import numpy as np

from tests.oracles.retina import iou

#: (label, object, target score) of an anchor; background is (K, None, 0).
Assignment = list[list[tuple[int, "int | None", float]]]


def giou(a: np.ndarray, b: np.ndarray) -> float:
    """Generalised IoU (Rezatofighi et al. 2019, algorithm 1)."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0.0) * max(height, 0.0)
    union = sum((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)) - common
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return float(common / union - (hull - union) / hull)


def inside(point: np.ndarray, box: np.ndarray) -> bool:
    return bool(min(point[0] - box[0], point[1] - box[1], box[2] - point[0], box[3] - point[1]) > 1e-9)


def centre(box: np.ndarray) -> np.ndarray:
    return (box[:2] + box[2:]) / 2


def atss(
    anchors: np.ndarray,
    sizes: list[int],
    boxes: np.ndarray,
    labels: np.ndarray,
    predicted: np.ndarray,
    *,
    classes: int,
    topk: int = 9,
) -> Assignment:
    """Zhang et al. 2020, algorithm 1: the nearest anchors whose IoU is above mean + deviation."""
    images = []
    for n in range(len(boxes)):
        objects = [g for g in range(len(labels[n])) if labels[n, g] >= 0]
        claims: dict[int, list[int]] = {}
        for g in objects:
            candidates: list[int] = []
            for start, size in zip(np.cumsum([0, *sizes[:-1]]), sizes):
                level = range(start, start + size)
                distance = {r: np.linalg.norm(centre(anchors[r]) - centre(boxes[n, g])) for r in level}
                candidates += sorted(level, key=lambda r: distance[r])[:topk]
            overlaps = {r: iou(anchors[r], boxes[n, g]) for r in candidates}
            values = list(overlaps.values())
            threshold = np.mean(values) + np.std(values, ddof=1)
            for r, overlap in overlaps.items():
                if overlap > threshold and inside(centre(anchors[r]), boxes[n, g]):
                    claims.setdefault(r, []).append(g)
        image = []
        for r, anchor in enumerate(anchors):
            g = settle(claims.get(r, []), objects, [iou(anchor, boxes[n, h]) for h in objects])
            score = 0.0 if g is None else iou(predicted[n, r], boxes[n, g])
            image.append((classes if g is None else int(labels[n, g]), g, score))
        images.append(image)
    return images


def settle(claimed_by: list[int], objects: list[int], overlaps: list[float]) -> int | None:
    """An anchor's object; if several claim it, the one of the image that it overlaps most."""
    if len(claimed_by) > 1:
        return objects[int(np.argmax(overlaps))]
    return claimed_by[0] if claimed_by else None


def task_aligned(
    points: np.ndarray,
    scores: np.ndarray,
    predicted: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    *,
    topk: int = 13,
    alpha: float = 1.0,
    beta: float = 6.0,
) -> Assignment:
    """Feng et al. 2021, section 3.2; for objects with `topk` metrics above 0, or fewer points inside."""
    images = []
    for n in range(len(boxes)):
        objects = [g for g in range(len(labels[n])) if labels[n, g] >= 0]
        overlap = {(g, r): iou(predicted[n, r], boxes[n, g]) for g in objects for r in range(len(points))}
        metric = {
            (g, r): float(scores[n, r, labels[n, g]]) ** alpha * overlap[g, r] ** beta for g, r in overlap
        }
        claims: dict[int, list[int]] = {}
        for g in objects:
            near = [r for r in range(len(points)) if inside(points[r], boxes[n, g])]
            for r in sorted(near, key=lambda r: -metric[g, r])[:topk]:
                if metric[g, r] > 0:
                    claims.setdefault(r, []).append(g)
        owner = {r: settle(claims[r], objects, [overlap[g, r] for g in objects]) for r in claims}
        image = []
        for r in range(len(points)):
            g = owner.get(r)
            score = 0.0
            if g is not None:
                mine = [q for q, h in owner.items() if h == g]
                largest = max(metric[g, q] for q in mine)
                score = metric[g, r] / (largest + 1e-9) * max(overlap[g, q] for q in mine)
            image.append((scores.shape[2] if g is None else int(labels[n, g]), g, score))
        images.append(image)
    return images


def losses(
    class_logits: np.ndarray,
    box_logits: np.ndarray,
    points: np.ndarray,
    strides: np.ndarray,
    boxes: np.ndarray,
    assigned: Assignment,
    *,
    weights: tuple[float, float, float] = (1.0, 2.5, 0.5),
) -> dict[str, float]:
    """The three losses: logits ``[N, A, K]`` and ``[N, A, 4, B]``, points ``[A, 2]`` in strides ``[A]``."""
    sums = {"loss_cls": 0.0, "loss_iou": 0.0, "loss_dfl": 0.0}
    total = sum(score for image in assigned for _, _, score in image)
    bins = np.arange(box_logits.shape[-1])
    for n, image in enumerate(assigned):
        for r, (label, g, score) in enumerate(image):
            for k, logit in enumerate(class_logits[n, r].astype(np.float64)):
                target = score if k == label else 0.0
                p = 1 / (1 + math.exp(-logit))
                weight = score if k == label else 0.75 * p**2
                sums["loss_cls"] -= weight * (target * math.log(p) + (1 - target) * math.log(1 - p))
            if g is None:
                continue
            box = boxes[n, g].astype(np.float64) / strides[r]
            x, y = points[r]
            log_p = box_logits[n, r].astype(np.float64)
            log_p = log_p - np.log(np.exp(log_p).sum(axis=1, keepdims=True))
            left, top, right, bottom = (np.exp(log_p) * bins).sum(axis=1)
            sums["loss_iou"] += score * (1 - giou(np.array([x - left, y - top, x + right, y + bottom]), box))
            for row, distance in zip(log_p, (x - box[0], y - box[1], box[2] - x, box[3] - y)):
                distance = min(max(distance, 0.0), len(bins) - 1 - 0.01)
                low = int(distance)
                share = distance - low
                sums["loss_dfl"] -= score * (row[low] * (1 - share) + row[low + 1] * share) / 4
    return {name: w * value / max(total, 1) for (name, value), w in zip(sums.items(), weights)}
