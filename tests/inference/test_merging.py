"""Protects merging: equal to a plain greedy NMS between looks, pieces of cut objects become one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from ppdet.inference.merging import merge
from ppdet.inference.views import Tiling, View, Views
from ppdet.ops.masks import encode_window
from ppdet.structures import Detections

SIZE = (100, 200)


def listed(rows: list[Any], masks: Any = None) -> Detections:
    """Detections from (score, label, box)."""
    rows = sorted(rows, key=lambda row: -row[0])
    boxes = np.array([row[2] for row in rows], np.float32).reshape(-1, 4)
    scores, labels = (np.array([row[k] for row in rows]) for k in (0, 1))
    return Detections(0, boxes, scores.astype(np.float32), labels.astype(np.int64), masks)


def iou(a: Any, b: Any) -> float:
    """Of two boxes, the slow way."""
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    common = max(w, 0.0) * max(h, 0.0)
    return float(common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common))


def slow_merge(found: list[Detections], flips: list[bool], threshold: float, most: int) -> list[Any]:
    """Greedy NMS between looks at the whole image, row by row."""
    rows = []
    for look, (one, flip) in enumerate(zip(found, flips)):
        for box, score, label in zip(one.boxes.tolist(), one.scores.tolist(), one.labels.tolist()):
            x1, y1, x2, y2 = box
            rows.append(
                (score, label, (SIZE[1] - x2, y1, SIZE[1] - x1, y2) if flip else (x1, y1, x2, y2), look)
            )
    rows.sort(key=lambda row: -row[0])
    kept: list[Any] = []
    for row in rows:
        rivals = [k for k in kept if k[1] == row[1] and k[3] != row[3]]
        if all(iou(k[2], row[2]) <= threshold for k in rivals):
            kept.append(row)
    return kept[:most]


boxes_ = st.tuples(st.integers(0, 150), st.integers(0, 60), st.integers(5, 50), st.integers(5, 40)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
lists_ = st.lists(st.tuples(st.integers(0, 1), boxes_), max_size=8)


@given(st.lists(lists_, min_size=2, max_size=4), st.integers(0, 2**31), st.integers(1, 30))
@settings(max_examples=80, deadline=None)
def test_equals_the_slow_way(looks: list[Any], seed: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.permutation(sum(map(len, looks))).tolist()  # no two alike
    found = [listed([((scores.pop() + 1) / 100, *row) for row in rows]) for rows in looks]
    flips = [bool(v) for v in rng.integers(0, 2, len(looks))]
    views = [View((0, 0, SIZE[1], SIZE[0]), flip, None) for flip in flips]
    merged = merge(found, views, Views(match_threshold=0.4, keep_top_k=most), image_id=3, size=SIZE)
    wanted = slow_merge(found, flips, 0.4, most)
    assert merged.image_id == 3
    assert merged.labels.tolist() == [row[1] for row in wanted]
    np.testing.assert_allclose(merged.scores, [row[0] for row in wanted], rtol=1e-6)
    np.testing.assert_allclose(merged.boxes, np.array([row[2] for row in wanted]).reshape(-1, 4))


def test_one_look_changes_nothing() -> None:
    close = listed([(0.9, 0, (0, 0, 10, 10)), (0.8, 0, (0, 0, 10, 10.1)), (0.7, 1, (5, 5, 9, 9))])
    (view,) = Views().of(*SIZE)
    merged = merge([close], [view], Views(match_threshold=0.1), image_id=0, size=SIZE)
    np.testing.assert_array_equal(merged.boxes, close.boxes)
    np.testing.assert_array_equal(merged.scores, close.scores)


def test_nothing_found_gives_nothing() -> None:
    views = Views(flip=True, tiling=Tiling((60, 60))).of(*SIZE)
    merged = merge([listed([])] * len(views), views, Views(), image_id=0, size=SIZE)
    assert len(merged) == 0
    assert merged.boxes.shape == (0, 4)


RIGHT, LEFT = View((80, 0, 200, 100), False, None), View((0, 0, 120, 100), False, None)


def test_the_whole_one_wins_over_its_piece() -> None:
    # The left tile sees the object whole, the right one a piece of it, and is surer.
    left = listed([(0.6, 0, (60, 20, 100, 50))])
    right = listed([(0.9, 0, (0, 20, 20, 50))])
    merged = merge([left, right], [LEFT, RIGHT], Views(), image_id=0, size=SIZE)
    assert merged.boxes.tolist() == [[60, 20, 100, 50]]
    assert merged.scores.tolist() == [np.float32(0.9)]


def test_pieces_without_a_whole_are_put_together() -> None:
    def mask(view: View, x1: int, y1: int, x2: int, y2: int) -> Any:
        left, top, right, bottom = view.window
        return encode_window(np.ones((x2 - x1, y2 - y1), bool), x1, y1, (bottom - top, right - left))

    left = listed([(0.6, 1, (40, 20, 120, 50))], (mask(LEFT, 40, 20, 120, 50),))
    right = listed([(0.9, 1, (0, 21, 80, 50))], (mask(RIGHT, 0, 21, 80, 50),))
    merged = merge([left, right], [LEFT, RIGHT], Views(), image_id=0, size=SIZE)
    assert merged.boxes.tolist() == [[40, 20, 160, 50]]
    assert merged.scores.tolist() == [np.float32(0.9)]
    assert merged.masks is not None
    pixels = coco_mask.decode(merged.masks[0])
    wanted = np.zeros(SIZE, np.uint8)
    wanted[20:50, 40:120] = 1
    wanted[21:50, 80:160] = 1
    np.testing.assert_array_equal(pixels, wanted)


@pytest.mark.parametrize(
    "other",
    [
        (0.9, 0, (0, 20, 80, 50)),  # another class
        (0.9, 1, (0, 60, 80, 90)),  # lower down
        (0.9, 1, (0, 48, 80, 90)),  # touching
        (0.9, 1, (30, 20, 80, 50)),  # beside it: the right tile says that it starts later
    ],
)
def test_what_is_not_the_same_stays_apart(other: Any) -> None:
    left = listed([(0.6, 1, (40, 20, 120, 50))])
    merged = merge([left, listed([other])], [LEFT, RIGHT], Views(), image_id=0, size=SIZE)
    assert len(merged) == 2


def test_listing_all_without_merging() -> None:
    left, right = listed([(0.6, 0, (60, 20, 100, 50))]), listed([(0.9, 0, (0, 20, 20, 50))])
    merged = merge([left, right], [LEFT, RIGHT], Views(merge=False), image_id=0, size=SIZE)
    assert merged.boxes.tolist() == [[80, 20, 100, 50], [60, 20, 100, 50]]
