"""Slow truths about detections and objects of a dataset, from loops over dictionaries as in COCO's files.

An object is ``{"image_id", "category_id", "bbox", "iscrowd"}``, a detection has ``score`` too.
"""

from __future__ import annotations

from typing import Any, Optional

Row = dict[str, Any]


def overlap(one: list[float], other: list[float]) -> float:
    """Intersection over union of two xywh boxes."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def matched(objects: list[Row], detections: list[Row], threshold: float) -> dict[int, int]:
    """Detection -> object, by index, of boxes of one class by falling score; no crowds."""
    found: dict[int, int] = {}
    for d in sorted(range(len(detections)), key=lambda d: -detections[d]["score"]):
        best, choice = threshold, None
        for g, thing in enumerate(objects):
            if thing["image_id"] != detections[d]["image_id"] or g in found.values():
                continue
            value = overlap(detections[d]["bbox"], thing["bbox"])
            if thing["category_id"] == detections[d]["category_id"] and value >= best:
                best, choice = value, g
        if choice is not None:
            found[d] = choice
    return found


def average_precision(verdicts: list[tuple[float, bool]], objects: int) -> float:
    """AP at 101 recalls from (score, correct) of one class."""
    ordered = [correct for _, correct in sorted(verdicts, key=lambda row: -row[0])]
    points, hits = [], 0
    for rank, correct in enumerate(ordered, start=1):
        hits += correct
        points.append((hits / objects, hits / rank))
    total = 0.0
    for step in range(101):
        total += max((p for r, p in points if r >= step * 0.01), default=0.0)
    return total / 101


def mean_ap(objects: list[Row], verdicts: list[tuple[int, float, bool]], forgiven: set[int]) -> float:
    """Mean AP over classes from (class, score, correct); `forgiven` objects do not count."""
    classes = sorted({o["category_id"] for g, o in enumerate(objects) if g not in forgiven})
    values = []
    for c in classes:
        count = sum(o["category_id"] == c for g, o in enumerate(objects) if g not in forgiven)
        values.append(average_precision([(s, ok) for k, s, ok in verdicts if k == c], count))
    return sum(values) / len(values)


def tide(objects: list[Row], detections: list[Row]) -> tuple[dict[str, int], dict[str, float]]:
    """Counts and costs by kind, from section 2 of the paper, read line by line."""
    found = matched(objects, detections, 0.5)
    used = set(found.values())
    kinds: dict[int, tuple[str, Optional[int]]] = {}
    for d, detection in enumerate(detections):
        if d in found:
            continue
        here = [g for g, o in enumerate(objects) if o["image_id"] == detection["image_id"]]
        value = {g: overlap(detection["bbox"], objects[g]["bbox"]) for g in here}
        same = [g for g in here if objects[g]["category_id"] == detection["category_id"]]
        other = [g for g in here if g not in same]
        near = max(same, key=value.__getitem__, default=None)
        mistaken = max(other, key=value.__getitem__, default=None)
        if near is not None and 0.1 <= value[near] <= 0.5:
            kinds[d] = ("localisation", near)
        elif mistaken is not None and value[mistaken] >= 0.5:
            kinds[d] = ("classification", mistaken)
        elif any(value[g] >= 0.5 and g in used for g in same):
            kinds[d] = ("duplicate", None)
        elif max(value.values(), default=0) <= 0.1:
            kinds[d] = ("background", None)
        else:
            kinds[d] = ("both", None)
    owner: dict[int, int] = {}  # free object -> the nearly right detection of the highest score
    for d in sorted(kinds, key=lambda d: -detections[d]["score"]):
        target = kinds[d][1]
        if target is not None and target not in used:
            owner.setdefault(target, d)
    missed = {g for g in range(len(objects)) if g not in used and g not in owner}
    names = ("classification", "localisation", "both", "duplicate", "background")
    counts = {name: sum(kind == name for kind, _ in kinds.values()) for name in names}
    base = _with(objects, detections, found, kinds, owner, None, set())
    costs = {n: _with(objects, detections, found, kinds, owner, n, set()) - base for n in names}
    costs["missed"] = _with(objects, detections, found, kinds, owner, None, missed) - base
    return {**counts, "missed": len(missed)}, costs


def _with(
    objects: list[Row],
    detections: list[Row],
    found: dict[int, int],
    kinds: dict[int, tuple[str, Optional[int]]],
    owner: dict[int, int],
    mended: Optional[str],
    forgiven: set[int],
) -> float:
    verdicts = []
    for d, detection in enumerate(detections):
        kind, target = kinds.get(d, ("", None))
        if d in found or kind != mended:
            verdicts.append((detection["category_id"], detection["score"], d in found))
        elif target is not None and owner.get(target) == d:
            verdicts.append((objects[target]["category_id"], detection["score"], True))
    return mean_ap(objects, verdicts, forgiven)


def confusion(
    objects: list[Row], detections: list[Row], threshold: float, classes: list[int]
) -> list[list[int]]:
    """The matrix with background last: own class first, then across classes by falling score."""
    shown = [d for d in detections if d["score"] >= threshold]
    found = matched(objects, shown, 0.5)
    table = [[0] * (len(classes) + 1) for _ in range(len(classes) + 1)]
    for d in sorted(range(len(shown)), key=lambda d: -shown[d]["score"]):
        if d in found:
            continue
        free = {
            g: overlap(shown[d]["bbox"], o["bbox"])
            for g, o in enumerate(objects)
            if o["image_id"] == shown[d]["image_id"] and g not in found.values()
        }
        choice = max(free, key=free.__getitem__, default=None)
        if choice is not None and free[choice] >= 0.5:
            found[d] = choice
    for d, detection in enumerate(shown):
        row = classes.index(objects[found[d]]["category_id"]) if d in found else len(classes)
        table[row][classes.index(detection["category_id"])] += 1
    for g, thing in enumerate(objects):
        if g not in found.values():
            table[classes.index(thing["category_id"])][len(classes)] += 1
    return table


def calibration_error(verdicts: list[tuple[float, bool]], bins: int) -> float:
    """D-ECE over scores from (score, correct)."""
    total = 0.0
    for b in range(bins):
        mine = [(s, ok) for s, ok in verdicts if b == min(int(s * bins), bins - 1)]
        if mine:
            precision = sum(ok for _, ok in mine) / len(mine)
            total += abs(precision - sum(s for s, _ in mine) / len(mine)) * len(mine)
    return total / len(verdicts)
