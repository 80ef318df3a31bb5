"""Protects NMS: kept boxes, order, ties, separation of images and classes, padding, and precision far out."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from ppdet.ops.nms import batched_nms, class_wise_nms, group_cells
from tests.oracles import boxes as oracle
from tests.support_sync import count_host_syncs

quick = settings(deadline=None, max_examples=40)
SEEDS = st.integers(0, 2**32 - 1)


def crowded_boxes(rng, shape):
    """Boxes on whole quarter pixels, so that moving them is exact; close enough together to overlap."""
    corner = rng.integers(0, 120, (*shape, 2)) / 4
    return np.concatenate([corner, corner + rng.integers(8, 120, (*shape, 2)) / 4], axis=-1).astype("float32")


def kept_by_ours(boxes, scores, groups, iou_threshold=0.5):
    return batched_nms(
        paddle.to_tensor(boxes),
        paddle.to_tensor(scores),
        paddle.to_tensor(groups.astype("int64")),
        num_groups=640,
        iou_threshold=iou_threshold,
    ).numpy()


@quick
@given(SEEDS, st.integers(0, 30), st.integers(1, 7), st.booleans())
def test_batched_nms_equals_slow_code(seed, count, groups, ties):
    rng = np.random.default_rng(seed)
    boxes = crowded_boxes(rng, (count,))
    scores = (rng.integers(0, 3, count) / 4 if ties else rng.random(count)).astype("float32")
    group = rng.integers(0, groups, count)
    # No threshold at a quotient that an overlap of quarter pixels can hit.
    expected = oracle.nms(boxes.astype(float), scores, group, 0.5003)
    assert_array_equal(kept_by_ours(boxes, scores, group, 0.5003), expected)


@quick
@given(SEEDS)
def test_permutation_and_translation_change_nothing(seed):
    rng = np.random.default_rng(seed)
    boxes, scores, group = crowded_boxes(rng, (20,)), rng.random(20).astype("float32"), rng.integers(0, 3, 20)
    kept = kept_by_ours(boxes, scores, group, 0.4003)
    order = rng.permutation(20)
    assert_array_equal(order[kept_by_ours(boxes[order], scores[order], group[order], 0.4003)], kept)
    assert_array_equal(kept_by_ours(boxes - 64, scores, group, 0.4003), kept)


@pytest.mark.parametrize("groups", [[0], [0, 3, 3]])
def test_few_boxes(groups):
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]], "float32")[: len(groups)]
    kept = kept_by_ours(boxes, np.ones(len(groups), "float32"), np.array(groups))
    assert kept.tolist() == [0, 1][: len(groups)]


def test_no_boxes():
    assert kept_by_ours(np.zeros((0, 4), "float32"), np.zeros(0, "float32"), np.zeros(0)).tolist() == []


@pytest.mark.parametrize("groups", [1, 2, 4, 5, 81, 4096])
def test_every_group_has_a_cell_near_the_origin(groups):
    cells = group_cells(groups).numpy()
    assert_array_equal(cells[:, :2], cells[:, 2:])
    assert_array_equal(cells, np.round(cells))
    assert len(np.unique(cells, axis=0)) == groups
    assert np.abs(cells).max() <= np.ceil(np.sqrt(groups)) / 2


def test_640_groups_of_large_images_keep_their_precision():
    """Eight images, 80 classes, 1,333 pixels: pairs at IoU 0.4995 and 0.5005 stay on their sides of 0.5."""
    boxes, groups = [], []
    for group in range(640):
        for k, iou in enumerate((0.4995, 0.5005)):
            x, width = 1333 - 30 - 40 * k, 20.0
            # Two boxes of equal height and width w, d apart: IoU = (w - d) / (w + d).
            d = width * (1 - iou) / (1 + iou)
            boxes += [[x - width, 700, x, 720], [x - width + d, 700, x + d, 720]]
            groups += [group] * 2
    boxes.append([0, 0, 1333, 800])
    groups.append(0)
    kept = kept_by_ours(
        np.array(boxes, "float32"), np.arange(len(boxes), 0, -1).astype("float32"), np.array(groups)
    )
    expected = np.ones(len(boxes), bool)
    expected[3:-1:4] = False
    assert_array_equal(np.sort(kept), np.flatnonzero(expected))


def to_rows(result, image):
    count = int((result.labels[image] >= 0).sum())
    assert (result.labels[image, count:] == -1).all()
    assert not result.scores[image, count:].any()
    assert not result.boxes[image, count:].any()
    columns = [result.scores[image, :count, None], result.labels[image, :count, None].astype("float32")]
    return np.concatenate([*(c.numpy() for c in columns), result.boxes[image, :count].numpy()], axis=1)


@quick
@given(
    seed=SEEDS,
    images=st.integers(1, 3),
    regions=st.integers(0, 12),
    classes=st.integers(1, 4),
    shared=st.booleans(),
    keep=st.sampled_from([1, 5, 100]),
    per_class=st.sampled_from([None, 3]),
)
def test_class_wise_nms_equals_slow_code(seed, images, regions, classes, shared, keep, per_class):
    rng = np.random.default_rng(seed)
    boxes = crowded_boxes(rng, (images, regions, 1 if shared else classes))
    scores = rng.permutation(images * regions * classes).reshape(images, regions, classes).astype("float32")
    scores /= max(1, scores.size)
    result = class_wise_nms(
        paddle.to_tensor(boxes),
        paddle.to_tensor(scores),
        score_threshold=0.3,
        iou_threshold=0.4503,
        keep_top_k=keep,
        pre_nms_top_k=per_class,
    )
    assert result.boxes.shape == [images, keep, 4]
    for i in range(images):
        expected = oracle.class_wise_nms(
            boxes[i],
            scores[i],
            score_threshold=0.3,
            iou_threshold=0.4503,
            keep_top_k=keep,
            pre_nms_top_k=per_class,
        )
        assert_allclose(to_rows(result, i), np.array(expected).reshape(-1, 6), atol=1e-6)


def test_limiting_the_candidates_is_exact_while_enough_survive():
    rng = np.random.default_rng(0)
    boxes = paddle.to_tensor(crowded_boxes(rng, (2, 60, 5)))
    scores = paddle.to_tensor(rng.random((2, 60, 5)).astype("float32"))
    options = {"score_threshold": 0.01, "iou_threshold": 0.5, "keep_top_k": 10}
    whole = class_wise_nms(boxes, scores, **options)
    limited = class_wise_nms(boxes, scores, **options, max_candidates=60)
    assert (whole.labels >= 0).all()
    for a, b in zip(whole, limited):
        assert_array_equal(a.numpy(), b.numpy())


def test_a_score_at_the_threshold_is_dropped():
    result = class_wise_nms(
        paddle.to_tensor([[[[0.0, 0, 9, 9]], [[20.0, 0, 29, 9]]]]),
        paddle.to_tensor([[[0.5], [0.51]]]),
        score_threshold=0.5,
        iou_threshold=0.5,
        keep_top_k=4,
    )
    assert result.labels.tolist() == [[0, -1, -1, -1]]


def test_candidates_fewer_than_kept_are_refused():
    with pytest.raises(ValueError, match="max_candidates 10"):
        class_wise_nms(
            paddle.zeros([1, 1, 1, 4]), paddle.zeros([1, 1, 1]), score_threshold=0.1, iou_threshold=0.5,
            keep_top_k=20, max_candidates=10,
        )  # fmt: skip


def test_nothing_is_read_back_from_the_device():
    rng = np.random.default_rng(0)
    boxes, scores = paddle.to_tensor(crowded_boxes(rng, (2, 9, 1))), paddle.rand([2, 9, 3])
    with count_host_syncs() as reads:
        class_wise_nms(boxes, scores, score_threshold=0.1, iou_threshold=0.5, keep_top_k=5, pre_nms_top_k=3)
    assert not reads, reads
