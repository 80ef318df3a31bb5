"""Protects proposal generation over several levels and images against slow code, and its fixed shapes."""

from __future__ import annotations

import math

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from ppdet.ops import proposals as proposals_module
from ppdet.ops.proposals import generate_proposals
from tests.oracles import boxes as oracle
from tests.support_sync import count_host_syncs

SIZES = np.array([[90, 120], [60, 80]], "float32")


def level(rng, anchors):
    """Logits, deltas and anchors of a level; logits are distinct, so the order is too."""
    corner = rng.uniform(-20, 100, (anchors, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 60, (anchors, 2))], axis=1)
    logits = rng.permutation(2 * anchors).reshape(2, anchors) + rng.random()
    return [x.astype("float32") for x in (logits, rng.normal(size=(2, anchors, 4)) * 0.3, boxes)]


def slow_proposals(levels, image, *, pre_nms_top_n, post_nms_top_n, nms_thresh, min_size):
    found = []
    for logits, deltas, anchors in levels:
        candidates = []
        for i in np.argsort(-logits[image])[:pre_nms_top_n]:
            x1, y1, x2, y2 = anchors[i].astype(float)
            dx, dy, dw, dh = deltas[image, i].astype(float)
            x, y = (x1 + x2) / 2 + dx * (x2 - x1), (y1 + y2) / 2 + dy * (y2 - y1)
            w, h = (x2 - x1) * math.exp(dw) / 2, (y2 - y1) * math.exp(dh) / 2
            height, width = SIZES[image].astype(float)
            box = [np.clip(x - w, 0, width), np.clip(y - h, 0, height), np.clip(x + w, 0, width)]
            box.append(np.clip(y + h, 0, height))
            if min(box[2] - box[0], box[3] - box[1]) >= max(min_size, 1):
                candidates.append((logits[image, i], *box))
        rows = np.array(candidates).reshape(-1, 5)
        kept = oracle.nms(rows[:, 1:], rows[:, 0], np.zeros(len(rows)), nms_thresh)
        found += rows[kept].tolist()
    return sorted(found, key=lambda row: -row[0])[:post_nms_top_n]


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    pre=st.sampled_from([3, 12, 50]),
    post=st.sampled_from([4, 40]),
    min_size=st.sampled_from([0, 8]),
    first_anchors=st.sampled_from([1, 30]),
)
def test_equals_slow_code(seed, pre, post, min_size, first_anchors):
    rng = np.random.default_rng(seed)
    levels = [level(rng, n) for n in (first_anchors, 12, 1)]
    options = {"pre_nms_top_n": pre, "post_nms_top_n": post, "nms_thresh": 0.5, "min_size": min_size}
    logits, deltas, anchors = ([paddle.to_tensor(x) for x in column] for column in zip(*levels))
    logits, deltas = paddle.concat(logits, axis=1), paddle.concat(deltas, axis=1)
    regions = generate_proposals(logits, deltas, anchors, paddle.to_tensor(SIZES), **options)
    assert regions.boxes.shape == [2, post, 4]
    for image in (0, 1):
        expected = np.array(slow_proposals(levels, image, **options)).reshape(-1, 5)
        valid = regions.valid[image].numpy()
        assert valid.tolist() == [True] * len(expected) + [False] * (post - len(expected))
        assert_allclose(regions.objectness_logits[image].numpy()[valid], expected[:, 0], rtol=1e-6)
        assert_allclose(regions.boxes[image].numpy()[valid], expected[:, 1:], atol=1e-3)
        assert not regions.boxes[image].numpy()[~valid].any()


@pytest.mark.parametrize("images", [1, 2, 3, 7])
def test_images_by_parts_are_as_all_at_once(monkeypatch, images):
    rng = np.random.default_rng(3)
    anchors = paddle.to_tensor(level(rng, 40)[2])
    logits = paddle.to_tensor(rng.permutation(images * 40).reshape(images, 40).astype("float32"))
    deltas = paddle.to_tensor(rng.normal(size=(images, 40, 4)).astype("float32") * 0.3)
    sizes = paddle.to_tensor(np.resize(SIZES, (images, 2)))

    def proposals():
        found = generate_proposals(
            logits, deltas, [anchors], sizes, pre_nms_top_n=40, post_nms_top_n=40, nms_thresh=0.3
        )
        return [field.numpy() for field in found]

    at_once = proposals()
    assert 0 < at_once[2].sum() < images * 40
    calls = []
    nms = proposals_module.kernels.nms
    monkeypatch.setattr(proposals_module, "_BOXES_AT_ONCE", 81)
    monkeypatch.setattr(
        proposals_module.kernels, "nms", lambda boxes, iou: calls.append(len(boxes)) or nms(boxes, iou)
    )
    for whole, part in zip(at_once, proposals()):
        assert_allclose(part, whole, rtol=0, atol=1e-4)
    assert calls == [80] * (images // 2) + [40] * (images % 2)


def test_nothing_large_enough():
    rng = np.random.default_rng(0)
    logits, deltas, anchors = (paddle.to_tensor(x) for x in level(rng, 5))
    regions = generate_proposals(
        logits, deltas, [anchors], paddle.to_tensor(SIZES),
        pre_nms_top_n=10, post_nms_top_n=6, nms_thresh=0.7, min_size=1000,
    )  # fmt: skip
    assert not regions.valid.numpy().any()
    assert not regions.boxes.numpy().any()


@pytest.mark.parametrize("pre", [5, 100])
def test_neither_gradient_nor_read_from_the_device(pre):
    rng = np.random.default_rng(0)
    logits, deltas, anchors = (paddle.to_tensor(x) for x in level(rng, 30))
    deltas.stop_gradient = False
    sizes = paddle.to_tensor(SIZES)
    with count_host_syncs() as reads:
        regions = generate_proposals(
            logits, deltas, [anchors], sizes, pre_nms_top_n=pre, post_nms_top_n=10, nms_thresh=0.7
        )
    assert not reads, reads
    assert regions.boxes.stop_gradient
