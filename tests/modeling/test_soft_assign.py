"""Protects the assigners of PP-YOLOE: equal to the goldens and to slow loops; no objects, one, many,
contested anchors, levels smaller than the number of candidates.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import paddle
import pytest

from ppdet.modeling.assign.atss import ATSSAssigner
from ppdet.modeling.assign.soft_targets import SoftTargets, settle
from ppdet.modeling.assign.task_aligned import TaskAlignedAssigner
from ppdet.modeling.layers.anchor_points import AnchorPoints, anchor_points
from ppdet.structures import BatchTargets
from tests.oracles import ppyoloe as oracle
from tests.support import load_golden

units = functools.lru_cache(maxsize=1)(lambda: load_golden("modern_units")[0])
LEVELS = ((32, 5), (16, 10), (8, 20))


def grid(levels: tuple[tuple[int, int], ...] = LEVELS) -> AnchorPoints:
    return anchor_points([paddle.zeros([1, 1, n, n]) for _, n in levels], [s for s, _ in levels])


def targets_of(boxes: Any, labels: Any) -> BatchTargets:
    labels = np.asarray(labels, np.int64)
    return BatchTargets(
        boxes=paddle.to_tensor(np.asarray(boxes, np.float32)),
        labels=paddle.to_tensor(labels),
        is_crowd=paddle.zeros(labels.shape, dtype="bool"),
        weights=paddle.ones(labels.shape),
    )


def golden_case(name: str) -> tuple[BatchTargets, paddle.Tensor, paddle.Tensor]:
    """Targets, scores and predicted boxes."""
    real = units()[f"{name}/pad_gt_mask"][..., 0] > 0
    labels = np.where(real, units()[f"{name}/gt_class"][..., 0], -1)
    scores, boxes = (paddle.to_tensor(units()[f"{name}/{key}"]) for key in ("scores", "boxes"))
    return targets_of(units()[f"{name}/gt_bbox"], labels), scores, boxes


def test_points_and_squares_equal_the_golden() -> None:
    points = grid()
    np.testing.assert_array_equal(points.pixels.numpy(), units()["grid/points"])
    np.testing.assert_array_equal(points.strides.numpy(), units()["grid/strides"])
    np.testing.assert_array_equal(points.squares(5.0).numpy(), units()["grid/anchors"])


def assert_equals_golden(found: SoftTargets, key: str) -> None:
    labels = units()[f"{key}/labels"]
    np.testing.assert_array_equal(found.labels.numpy(), labels)
    positive = labels < 6
    assert positive.any()
    np.testing.assert_array_equal(found.boxes.numpy()[positive], units()[f"{key}/boxes"][positive])
    scores = units()[f"{key}/score_max"]
    np.testing.assert_allclose(found.scores.numpy(), scores, rtol=0, atol=1e-5 * scores.max())


@pytest.mark.parametrize("case", ["", "_crowded"])
def test_atss_equals_the_golden(case: str) -> None:
    targets, _, boxes = golden_case(f"assign{case}")
    found = ATSSAssigner()(grid().squares(5.0), [25, 100, 400], targets, boxes, num_classes=6)
    assert_equals_golden(found, f"atss{case}")


@pytest.mark.parametrize(("case", "close"), [("", False), ("_crowded", False), ("", True)])
def test_task_aligned_equals_the_golden(case: str, close: bool) -> None:
    targets, scores, boxes = golden_case(f"assign{case}")
    found = TaskAlignedAssigner(is_close_gt=close)(grid(), scores, boxes, targets)
    assert_equals_golden(found, "tal_close_gt" if close else f"tal{case}")


NONE: tuple[Any, Any] = ([[[0, 0, 0, 0]], [[0, 0, 0, 0]]], [[-1], [-1]])
ONE: tuple[Any, Any] = ([[[31.3, 22.1, 97.2, 80.7]], [[0, 0, 0, 0]]], [[2], [-1]])
#: Two objects that share most of their anchors, a small one, one at the border, one of the whole image.
MANY: tuple[Any, Any] = (
    [
        [[20.3, 21.1, 80.2, 85.7], [24.9, 19.4, 87.3, 80.6], [70.1, 90.2, 79.3, 99.9]],
        [[100.7, 50.1, 128, 128], [0, 0, 127.3, 126.1], [0, 0, 0, 0]],
    ],
    [[0, 1, 2], [2, 0, -1]],
)
SMALL_GRID = ((64, 2), (32, 4), (16, 8))


def predictions(seed: int, points: AnchorPoints, boxes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Random scores ``[2, A, 3]`` and boxes around the points that overlap the objects."""
    rng = np.random.default_rng(seed)
    centres = points.pixels.numpy()
    sides = rng.uniform(20, 70, (2, len(centres), 4)).astype(np.float32)
    found = np.concatenate([centres - sides[..., :2], centres + sides[..., 2:]], axis=-1)
    return rng.uniform(0.05, 0.9, (2, len(centres), 3)).astype(np.float32), found.astype(np.float32)


def assert_equals_loops(found: SoftTargets, expected: oracle.Assignment) -> None:
    for n, image in enumerate(expected):
        assert found.labels[n].numpy().tolist() == [label for label, _, _ in image]
        for r, (_, g, score) in enumerate(image):
            assert found.scores[n, r].item() == pytest.approx(score, rel=1e-4, abs=1e-6)
            if g is not None:
                assert found.gt_index[n, r].item() == g


@pytest.mark.parametrize("case", [NONE, ONE, MANY], ids=["none", "one", "many"])
def test_both_equal_slow_loops(case: tuple[Any, Any]) -> None:
    points = grid(SMALL_GRID)
    boxes, labels = np.asarray(case[0], np.float32), np.asarray(case[1])
    scores, predicted = predictions(4, points, boxes)
    targets = targets_of(boxes, labels)
    found = ATSSAssigner()(
        points.squares(5.0), [4, 16, 64], targets, paddle.to_tensor(predicted), num_classes=3
    )
    expected = oracle.atss(points.squares(5.0).numpy(), [4, 16, 64], boxes, labels, predicted, classes=3)
    assert_equals_loops(found, expected)
    found = TaskAlignedAssigner()(points, paddle.to_tensor(scores), paddle.to_tensor(predicted), targets)
    expected = oracle.task_aligned(points.pixels.numpy(), scores, predicted, boxes, labels)
    assert_equals_loops(found, expected)
    counts = [sum(g is not None for _, g, _ in image) for image in expected]
    assert (counts[0] > 0) == (case is not NONE)


def test_a_contested_anchor_goes_to_the_object_that_it_overlaps_most() -> None:
    claims = paddle.to_tensor([[[True, True, False], [True, False, False], [False, False, False]]])
    ious = paddle.to_tensor([[[0.2, 0.1, 0.9], [0.3, 0.8, 0.0], [0.6, 0.0, 0.0]]])
    # The first is claimed by two and goes to a third; the second is claimed by one and stays.
    assert settle(claims, ious).astype("int32").numpy().tolist() == [[[0, 1, 0], [0, 0, 0], [1, 0, 0]]]
