"""Protects mask targets and pasted masks, which must agree with COCO's own mask API to the bit."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from pycocotools import mask as coco

from ppdet.ops.masks import compress_counts, paste_to_rle, rasterize_polygons
from tests.oracles.masks import paste_densely
from tests.support import load_golden
from tests.support_sync import count_host_syncs


def batch_of(objects):
    """``vertices`` and ``owner`` of objects, each a list of ``[V, 2]`` parts, padded as a batch is."""
    parts = [(np.asarray(p, "float32").reshape(-1, 2), i) for i, o in enumerate(objects) for p in o]
    longest = max((len(p) for p, _ in parts), default=1)
    vertices = np.zeros((len(parts) + 1, longest, 2), "float32")
    owner = np.full(len(parts) + 1, -1, "int64")
    for row, (part, i) in enumerate(parts):
        vertices[row] = np.concatenate([part, np.repeat(part[-1:], longest - len(part), axis=0)])
        owner[row] = i
    return paddle.to_tensor(vertices), paddle.to_tensor(owner)


def by_coco(parts, box, resolution):
    """The same with COCO's mask API."""
    box = box.astype("float64")
    scale = resolution / np.maximum(box[2:] - box[:2], 0.1)
    moved = [((np.asarray(p, "float32").reshape(-1, 2) - box[:2]) * scale).flatten().tolist() for p in parts]
    rles = coco.frPyObjects(moved, resolution, resolution)
    return coco.decode(coco.merge(rles))


@pytest.mark.parametrize("resolution", [14, 28])
def test_reference_rasters(resolution):
    golden, meta = load_golden("unit_ops")
    vertices, owner = batch_of(meta["polygons"])
    boxes = golden["raster/boxes"]
    for i in range(2):
        ours = rasterize_polygons(
            vertices,
            owner,
            paddle.to_tensor(boxes),
            paddle.full([len(boxes)], i, dtype="int64"),
            resolution=resolution,
        )
        assert_array_equal(ours.numpy(), golden[f"raster/{resolution}"][i])


@pytest.mark.parametrize("run", ["crowd", "default", "nogt"])
def test_reference_mask_targets(run):
    """The foreground regions of a whole training batch, objects counted over both images."""
    golden, _ = load_golden("mask_rcnn_r50_fpn_1x_coco_train")
    if f"{run}/mask/weights" not in golden:
        pytest.skip("this run is part of the full goldens only")
    objects, boxes, wanted = [], [], []
    for i in (0, 1):
        first = len(objects)
        points = iter(np.split(
            golden[f"{run}/gt/{i}/poly_points"], np.cumsum(golden[f"{run}/gt/{i}/poly_lengths"])[:-1]
        ))  # fmt: skip
        objects += [[next(points) for _ in range(n)] for n in golden[f"{run}/gt/{i}/poly_parts"]]
        roi = f"{run}/aligned/roi/stage0/{i}"
        boxes.append(golden[f"{roi}/rois"][golden[f"{roi}/fg"]])
        wanted.append(first + golden[f"{roi}/gt"][golden[f"{roi}/fg"]])
    ours = rasterize_polygons(
        *batch_of(objects),
        paddle.to_tensor(np.concatenate(boxes)),
        paddle.to_tensor(np.concatenate(wanted).astype("int64")),
        resolution=28,
    )
    expected = np.unpackbits(golden[f"{run}/mask/targets_packed"], axis=1).reshape(-1, 28, 28)
    expected = expected[golden[f"{run}/mask/weights"] > 0]
    assert len(expected) > 30
    assert_array_equal(ours.numpy(), expected)


def random_outline(rng, spread):
    count = int(rng.integers(3, 12))
    points = rng.uniform(-spread, 60 + spread, (count, 2))
    kind = rng.integers(3)
    if kind == 0:
        points = np.round(points)
    elif kind == 1:
        points = np.round(points * 2) / 2
    return points


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    resolution=st.sampled_from([7, 14, 28]),
    spread=st.sampled_from([0, 20, 300]),
)
def test_random_outlines_equal_coco(seed, resolution, spread):
    """Self-crossing, half-integer, far outside: every rounding rule of the original is exercised."""
    rng = np.random.default_rng(seed)
    objects = [[random_outline(rng, spread) for _ in range(rng.integers(1, 4))] for _ in range(4)]
    x, y = rng.uniform(-5, 50, (2, 12))
    boxes = np.stack([x, y, x + rng.uniform(0.5, 60, 12), y + rng.uniform(0.5, 60, 12)], 1).astype("float32")
    boxes[:4] = np.round(boxes[:4])
    wanted = rng.integers(0, 4, 12)
    ours = rasterize_polygons(
        *batch_of(objects), paddle.to_tensor(boxes), paddle.to_tensor(wanted), resolution=resolution
    ).numpy()
    for mask, box, i in zip(ours, boxes, wanted):
        assert_array_equal(mask, by_coco(objects[i], box, resolution))


def test_reference_pasting():
    golden, _ = load_golden("unit_ops")
    size = tuple(int(v) for v in golden["paste/hw"])
    rles = paste_to_rle(golden["paste/masks"], golden["paste/boxes"], size)
    ours = np.stack([coco.decode(r) for r in rles])
    expected = np.unpackbits(golden["paste/packed"], axis=1)[:, : size[0] * size[1]].reshape(-1, *size)
    assert_array_equal(expected.sum((1, 2)), golden["paste/area"])
    assert_array_equal(ours, expected)
    assert [coco.encode(np.asfortranarray(m)) for m in expected] == list(rles)


def test_nothing_to_draw():
    vertices, owner = batch_of([])
    boxes = paddle.to_tensor([[0.0, 0, 10, 10], [5, 5, 5, 5]])
    ours = rasterize_polygons(vertices, owner, boxes, paddle.to_tensor([0, -1]), resolution=14)
    assert ours.shape == [2, 14, 14]
    assert not ours.numpy().any()
    none = rasterize_polygons(vertices, owner, boxes[:0], paddle.zeros([0], "int64"), resolution=14)
    assert none.shape == [0, 14, 14]


def test_padding_never_matches_a_region_without_an_object():
    """Both are -1; they must not find each other."""
    vertices = paddle.to_tensor([[[0.0, 0], [9, 0], [9, 9]]])
    boxes = paddle.to_tensor([[0.0, 0, 10, 10]])
    minus = paddle.to_tensor([-1])
    assert not rasterize_polygons(vertices, minus, boxes, minus, resolution=14).numpy().any()


def test_chunks_make_no_difference(monkeypatch):
    rng = np.random.default_rng(0)
    parts = batch_of([[random_outline(rng, 10)] for _ in range(5)])
    boxes = paddle.to_tensor(np.tile(np.array([[0, 0, 50, 60]], "float32"), (9, 1)))
    wanted = paddle.to_tensor(np.arange(9) % 5)
    whole = rasterize_polygons(*parts, boxes, wanted, resolution=28)
    monkeypatch.setattr("ppdet.ops.masks._CHUNK_ELEMENTS", 1)
    pieces = rasterize_polygons(*parts, boxes, wanted, resolution=28)
    assert whole.numpy().any()
    assert_array_equal(whole.numpy(), pieces.numpy())


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
)
def test_pasted_masks_equal_dense_pasting(seed, height, width):
    """Boxes inside, across the border, outside, empty; the run lengths are those COCO's encoder gives."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-30, 50, (2, 8))
    boxes = np.stack([x, y, x + rng.uniform(0, 60, 8), y + rng.uniform(0, 60, 8)], 1).astype("float32")
    boxes[0] = [-10, -10, width + 10, height + 10]
    boxes[1, 2:] = boxes[1, :2]
    probs = rng.random((8, 7, 7)).astype("float32")
    probs[:2] = 0.9
    dense = paste_densely(probs, boxes, height, width)
    # Sums in another order may fall on the other side of the threshold.
    probs[(np.abs(dense - 0.5) < 1e-5).any((1, 2))] = 0
    dense = paste_densely(probs, boxes, height, width)
    expected = tuple(coco.encode(np.asfortranarray((m >= 0.5).astype("uint8"))) for m in dense)
    assert paste_to_rle(probs, boxes, (height, width)) == expected


def test_a_mask_that_fills_the_image_is_one_run():
    probs = np.full((1, 28, 28), 0.9, "float32")
    (rle,) = paste_to_rle(probs, np.array([[-50, -50, 150, 150]], "float32"), (30, 40))
    assert coco.area(rle) == 30 * 40


def test_no_detections():
    assert paste_to_rle(np.zeros((0, 28, 28)), np.zeros((0, 4)), (10, 10)) == ()


# Below 2**29 pixels: for longer runs pycocotools writes beyond the memory that it sets aside.
@given(st.lists(st.integers(1, 2**24), min_size=1, max_size=30), st.booleans())
def test_compressed_counts_equal_coco(counts, starts_with_object):
    counts = [0, *counts] if starts_with_object else counts
    total = sum(counts)
    expected = coco.frPyObjects({"size": [1, total], "counts": counts}, 1, total)
    assert compress_counts(np.array(counts)) == expected["counts"]


def test_drawing_reads_nothing_from_the_device():
    parts = batch_of([[random_outline(np.random.default_rng(0), 10)]])
    boxes, wanted = paddle.to_tensor([[0.0, 0, 50, 60]]), paddle.to_tensor([0])
    with count_host_syncs() as reads:
        rasterize_polygons(*parts, boxes, wanted, resolution=14)
    assert not reads, reads
