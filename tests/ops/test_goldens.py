"""Protects parity of single operations with the numbers of the reference (``unit_ops.npz``)."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from numpy.testing import assert_allclose

from ppdet.ops import boxes, losses
from ppdet.ops.nms import class_wise_nms
from ppdet.ops.proposals import generate_proposals
from ppdet.ops.roi_align import assign_levels, multi_level_roi_align, roi_align
from tests.support import load_golden, reference_module


@pytest.fixture(scope="module")
def golden():
    return load_golden("unit_ops")[0]


def t(array, dtype=None):
    return paddle.to_tensor(np.asarray(array, dtype))


@pytest.mark.parametrize("case", [0, 1, 2])
def test_encode_deltas(golden, case):
    ours = boxes.encode_deltas(
        t(golden["coder/src"]), t(golden["coder/tgt"]), weights=golden[f"coder/{case}/weights"].tolist()
    )
    assert_allclose(ours.numpy(), golden[f"coder/{case}/deltas"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "weights"), [("w1", (1, 1, 1, 1)), ("w10", (10, 10, 5, 5))])
def test_decode_deltas(golden, name, weights):
    deltas = t(golden["coder/decode_in"]).reshape([20, 2, 4])
    ours = boxes.decode_deltas(t(golden["coder/src"]).unsqueeze(1), deltas, weights=weights)
    assert_allclose(ours.numpy(), golden[f"coder/decode_out_{name}"], rtol=1e-5, atol=1e-2)


def test_overlaps(golden):
    ours = boxes.pairwise_iou(t(golden["coder/src"]), t(golden["coder/tgt"]))
    assert_allclose(ours.numpy(), golden["coder/overlaps"], atol=1e-6)


def test_levels_and_restore_order(golden):
    rois = golden["levels/rois"]
    levels = assign_levels(t(rois), first_level=2, last_level=5).numpy()
    for i in range(4):
        assert_allclose(rois[levels == i + 2], golden[f"levels/{i}/rois"])
        of_image = [(levels[:25] == i + 2).sum(), (levels[25:] == i + 2).sum()]
        assert_allclose(of_image, golden[f"levels/{i}/num"])


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("resolution", [7, 14])
def test_multi_level_roi_align(golden, aligned, resolution):
    ours = multi_level_roi_align(
        [t(golden[f"roi_align/feat{i}"]) for i in range(4)],
        t(np.concatenate([golden["roi_align/rois0"], golden["roi_align/rois1"]])),
        t([20, 14], "int32"),
        resolution=resolution,
        strides=[4, 8, 16, 32],
        aligned=aligned,
    ).numpy()
    name = f"roi_align/{'' if aligned else 'un'}aligned_{resolution}"
    if resolution == 7:
        assert_allclose(ours, golden[name], atol=1e-4)
    else:
        check_summary(ours, golden, name)


@pytest.mark.parametrize("aligned", [True, False])
def test_single_level_roi_align(golden, aligned):
    ours = roi_align(
        t(golden["roi_align/feat2"]),
        t(np.concatenate([golden["roi_align/rois0"], golden["roi_align/rois1"]])),
        t([20, 14], "int32"),
        resolution=14,
        stride=16,
        aligned=aligned,
    ).numpy()
    check_summary(ours, golden, f"roi_align/c4_{'' if aligned else 'un'}aligned_14")


def check_summary(ours, golden, name):
    assert list(ours.shape) == golden[f"{name}/shape"].tolist()
    expected = golden[f"{name}/sample"]
    count = 1000 if len(expected) > 500 else 500
    assert_allclose(reference_module().sample_values(ours, count), expected, atol=1e-4)


@pytest.mark.parametrize(("name", "weights"), [("class", (10, 10, 5, 5)), ("agnostic", (30, 30, 15, 15))])
def test_class_wise_nms_after_the_box_head(golden, name, weights):
    """Decode, clip, NMS of two images of 70 and 50 regions, padded to 70; the reference sorts by label."""
    rois = np.zeros((2, 70, 4), "float32")
    prob = np.zeros((2, 70, 80), "float32")
    deltas = np.zeros((2, 70, golden[f"post/{name}/deltas"].shape[1]), "float32")
    for i, rows in enumerate((slice(0, 70), slice(70, 120))):
        count = rows.stop - rows.start
        rois[i, :count] = golden[f"post/rois{i}"]
        prob[i, :count] = golden["post/prob"][rows, :80]
        deltas[i, :count] = golden[f"post/{name}/deltas"][rows]
    decoded = boxes.decode_deltas(t(rois).unsqueeze(2), t(deltas).reshape([2, 70, -1, 4]), weights=weights)
    clipped = boxes.clip_boxes(decoded, t(golden["post/im_shape"]))
    result = class_wise_nms(clipped, t(prob), score_threshold=0.05, iou_threshold=0.5, keep_top_k=100)
    start = 0
    for i, count in enumerate(golden[f"post/{name}/num"]):
        expected = golden[f"post/{name}/nms"][start : start + count]
        start += count
        assert int((result.labels[i] >= 0).sum()) == count
        ours = np.concatenate(
            [result.labels[i, :count, None].numpy(), result.scores[i, :count, None].numpy(),
             result.boxes[i, :count].numpy()], axis=1,
        )  # fmt: skip
        assert (np.diff(ours[:, 1]) <= 0).all()
        assert_allclose(by_label(ours), by_label(expected), atol=1e-3)


def by_label(rows):
    return rows[np.lexsort((-rows[:, 1], rows[:, 0]))]


def test_focal_loss(golden):
    target = np.eye(81, dtype="float32")[golden["focal/target"]][:, :80]
    ours = losses.sigmoid_focal_loss(t(golden["focal/logits"]), t(target)).numpy()
    assert_allclose(ours, golden["focal/none"], rtol=1e-5, atol=1e-6)
    assert_allclose(ours.sum(), golden["focal/sum"][0], rtol=1e-5)


@pytest.mark.parametrize("beta", [0, 0.11, 1])
def test_smooth_l1(golden, beta):
    ours = losses.smooth_l1(t(golden["smooth_l1/pred"]), t(golden["smooth_l1/target"]), beta=beta)
    assert_allclose(ours.numpy(), golden[f"smooth_l1/beta_{beta:g}"], rtol=1e-5, atol=1e-6)


PROPOSALS = {
    # name: (pre_nms_top_n, post_nms_top_n)
    "all": (1000, 1000),
    "topk": (100, 20),
    "collect": (100, 100),
    "tiny": (1000, 1000),
}


@pytest.mark.parametrize("padded_images", [1, 2])
@pytest.mark.parametrize("name", PROPOSALS)
def test_proposals(golden, name, padded_images):
    """``collect`` is the reference's topk_after_collect: a level is limited by pre_nms_top_n."""
    pre, post = PROPOSALS[name]
    deltas = golden["proposals/deltas_tiny" if name == "tiny" else "proposals/deltas"]

    def rows(x, width):
        x = x.reshape(1, 3, width, 8, 10).transpose(0, 3, 4, 1, 2).reshape(1, 240, width)
        return t(np.repeat(x, padded_images, axis=0))

    regions = generate_proposals(
        rows(golden["proposals/scores"], 1).squeeze(-1),
        rows(deltas, 4),
        [t(golden["proposals/anchors"])],
        t(np.repeat(golden["proposals/im_shape"], padded_images, axis=0)),
        pre_nms_top_n=pre,
        post_nms_top_n=post,
        nms_thresh=0.7,
        min_size=0.0,
    )
    assert regions.boxes.shape == [padded_images, post, 4]
    expected = golden[f"proposals/{name}/rois"]
    for i in range(padded_images):
        valid = regions.valid[i].numpy()
        assert valid.sum() == len(expected)
        assert_allclose(regions.boxes[i].numpy()[valid], expected, atol=1e-3)
        assert_allclose(
            regions.objectness_logits[i].numpy()[valid], golden[f"proposals/{name}/probs"][:, 0], rtol=1e-6
        )
