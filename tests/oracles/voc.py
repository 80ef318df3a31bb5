"""VOC's mAP in slow, plain words."""

from __future__ import annotations

from typing import Any


def iou(a: Any, b: Any) -> float:
    """Overlap of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def average_precision(
    truth: list[tuple[int, Any, bool]], found: list[tuple[int, float, Any]], map_type: str
) -> Any:
    """AP of one class.

    Args:
        truth: Image, box, difficult.
        found: Image, score, box.
        map_type: 11point or integral.

    Returns:
        AP, or None without objects.
    """
    total = sum(not difficult for _, _, difficult in truth)
    if total == 0:
        return None
    used: set[int] = set()
    right = wrong = 0
    curve: list[tuple[float, float]] = []
    for image, _, box in sorted(found, key=lambda row: -row[1]):
        best, best_overlap = None, 0.5
        for number, (other, candidate, _) in enumerate(truth):
            overlap = iou(box, candidate) if other == image else 0.0
            if overlap > best_overlap:
                best, best_overlap = number, overlap
        if best is not None and truth[best][2]:
            continue
        if best is None or best in used:
            wrong += 1
        else:
            used.add(best)
            right += 1
        curve.append((right, right / (right + wrong)))
    if map_type == "11point":
        return (
            sum(max([p for r, p in curve if r * 10 >= tenth * total], default=0.0) for tenth in range(11))
            / 11
        )
    area = 0.0
    for hits in range(1, total + 1):  # each object adds a step of 1 / total
        area += max([p for r, p in curve if r >= hits], default=0.0) / total
    return area
