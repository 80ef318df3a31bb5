"""Slow truth for matching, sampling and region targets: loops over boxes, after the text of the papers."""

from __future__ import annotations

from tests.oracles.boxes import iou


def match(boxes, gt, crowd, *, positive, negative, low_quality=False, ignore_thresh=-1.0):
    """(best row or None, label) of every box; `gt` without padding."""
    normal = [g for g in range(len(gt)) if not crowd[g]]
    table = [{g: iou(box, gt[g]) for g in normal} for box in boxes]
    promoted = set()
    for g in normal if low_quality else ():
        best = max((row[g] for row in table), default=0)
        promoted |= {a for a, row in enumerate(table) if best > 0 and row[g] == best}
    result = []
    for a, box in enumerate(boxes):
        best = max(table[a].values(), default=0.0)
        row = next((g for g in normal if table[a][g] == best), None) if best > 0 else None
        if best >= positive or a in promoted:
            label = 1
        elif best < negative:
            in_crowd = max((iou(box, gt[g]) for g in range(len(gt)) if crowd[g]), default=0)
            label = -1 if 0 < ignore_thresh < in_crowd else 0
        else:
            label = -1
        result.append((row, label))
    return result


def first_samples(labels, size, fraction):
    """Rows of positives and of negatives that are taken when nothing is random."""
    positive = [i for i, v in enumerate(labels) if v == 1][: int(size * fraction)]
    negative = [i for i, v in enumerate(labels) if v == 0][: size - len(positive)]
    return positive, negative
