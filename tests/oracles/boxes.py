"""Slow truth for boxes, NMS and their use: plain Python over plain numbers, one box at a time."""

from __future__ import annotations

import math

import numpy as np

from ppdet.doctor.oracles import area, intersection, iou, nms


def giou(a, b):
    shared = intersection(a, b)
    union = area(a) + area(b) - shared
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return iou(a, b) - (hull - union) / hull


def diou(a, b):
    width, height = max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])
    dx, dy = (a[0] + a[2] - b[0] - b[2]) / 2, (a[1] + a[3] - b[1] - b[3]) / 2
    return iou(a, b) - (dx * dx + dy * dy) / (width * width + height * height)


def ciou(a, b):
    angle_a, angle_b = (math.atan((x[2] - x[0]) / (x[3] - x[1])) for x in (a, b))
    v = 4 / math.pi**2 * (angle_a - angle_b) ** 2
    return diou(a, b) - (v * v / (1 - iou(a, b) + v) if v > 0 else 0.0)


def class_wise_nms(boxes, scores, *, score_threshold, iou_threshold, keep_top_k, pre_nms_top_k=None):
    """Rows (score, label, box) of one image, class by class, then the best of all. No padding."""
    found = []
    for label in range(scores.shape[1]):
        class_boxes = boxes[:, label if boxes.shape[1] > 1 else 0]
        rows = [i for i in range(len(scores)) if scores[i, label] > score_threshold]
        rows = sorted(rows, key=lambda i: -scores[i, label])[:pre_nms_top_k]
        kept = nms(class_boxes[rows], scores[rows, label], np.zeros(len(rows)), iou_threshold)
        found += [(scores[rows[i], label], label, *class_boxes[rows[i]]) for i in kept]
    return sorted(found, key=lambda row: -row[0])[:keep_top_k]
