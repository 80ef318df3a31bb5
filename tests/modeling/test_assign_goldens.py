"""Protects anchors, matching, sampling and training targets against the numbers of the reference."""

from __future__ import annotations

import math

import numpy as np
import paddle
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ppdet.modeling.assign.anchor_targets import MaxIoUAssigner
from ppdet.modeling.assign.anchors import AnchorGenerator, RetinaAnchorGenerator
from ppdet.modeling.assign.matcher import IoUMatcher
from ppdet.modeling.assign.roi_targets import BBoxAssigner
from ppdet.modeling.assign.rpn_targets import RPNTargetAssign
from ppdet.modeling.assign.sampler import BalancedSampler
from ppdet.ops.boxes import pairwise_iou
from ppdet.structures import BatchTargets
from tests.support import load_golden

FPN_STRIDES = [4, 8, 16, 32, 64]
FPN_SIZES = [[32], [64], [128], [256], [512]]


@pytest.fixture(scope="module")
def golden():
    return load_golden("unit_ops")[0]


def maps(*sizes):
    return [paddle.zeros([1, 1, h, w]) for h, w in sizes]


def test_anchors_of_one_level(golden):
    generator = AnchorGenerator(strides=[16], anchor_sizes=[32, 64, 128, 256, 512])
    assert generator.num_anchors == 15
    assert_array_equal(generator(maps((2, 3)))[0].numpy(), golden["anchors/c4_2x3"])
    assert_array_equal(generator(maps((1, 1)))[0].numpy(), golden["anchors/c4_cell"])


def test_anchors_of_a_pyramid(golden):
    ours = AnchorGenerator(strides=FPN_STRIDES, anchor_sizes=FPN_SIZES)(maps(*[(2, 3)] * 5))
    for i in range(5):
        assert_array_equal(ours[i].numpy(), golden[f"anchors/fpn_2x3/{i}"])


def test_anchors_of_retinanet(golden):
    generator = RetinaAnchorGenerator(strides=[8, 16, 32, 64, 128])
    assert generator.num_anchors == 9
    for i, ours in enumerate(generator(maps(*[(2, 3)] * 5))):
        assert_allclose(ours.numpy(), golden[f"anchors/retina_2x3/{i}"], rtol=0, atol=1e-5 * 2**i)


MATCHES = {
    # name: (positive, negative, low quality, crowd known, ignore_thresh)
    "rpn": (0.7, 0.3, True, False, -1.0),
    "rpn_crowd": (0.7, 0.3, True, True, -1.0),
    "rpn_crowd_ignore": (0.7, 0.3, True, True, 0.5),
    "roi": (0.5, 0.5, False, False, -1.0),
    "roi_crowd": (0.5, 0.5, False, True, -1.0),
    "retina": (0.5, 0.4, True, False, -1.0),
}


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("name", MATCHES)
def test_matches(golden, name, padding):
    positive, negative, low_quality, crowd_known, ignore_thresh = MATCHES[name]
    matcher = IoUMatcher(
        positive_overlap=positive,
        negative_overlap=negative,
        allow_low_quality=low_quality,
        ignore_thresh=ignore_thresh,
    )
    gt, crowd = golden["match/gt"], golden["match/is_crowd"][:, 0] > 0
    match = matcher(
        paddle.to_tensor(golden["match/anchors"]),
        paddle.to_tensor(np.concatenate([gt, np.zeros((padding, 4), "float32")])),
        paddle.to_tensor(np.arange(6 + padding) < 6),
        paddle.to_tensor(np.concatenate([crowd & crowd_known, np.zeros(padding, bool)])),
    )
    assert_array_equal(match.labels.numpy(), golden[f"match/{name}/labels"])
    # Where nothing overlaps, the row is arbitrary and means nothing: the reference takes any of the zeros.
    usable = paddle.to_tensor(gt[~(crowd & crowd_known)])
    touching = pairwise_iou(paddle.to_tensor(golden["match/anchors"]), usable).numpy().max(axis=1) > 0
    assert touching.sum() > 100
    assert_array_equal(match.gt_index.numpy()[touching], golden[f"match/{name}/matches"][touching])


def test_without_objects_all_is_negative(golden):
    matcher = IoUMatcher(positive_overlap=0.7, negative_overlap=0.3, allow_low_quality=True)
    no = paddle.zeros([1], dtype="bool")
    match = matcher(paddle.to_tensor(golden["match/anchors"]), paddle.zeros([1, 4]), no, no)
    assert_array_equal(match.labels.numpy(), golden["match/no_gt/labels"])
    assert_array_equal(match.gt_index.numpy(), golden["match/no_gt/matches"])


@pytest.mark.parametrize(("size", "fraction"), [(64, 0.5), (64, 0.25), (256, 0.5), (512, 0.25)])
def test_first_samples(golden, size, fraction):
    sampler = BalancedSampler(batch_size_per_im=size, fg_fraction=fraction, use_random=False)
    labels = paddle.to_tensor(golden["sample/labels"].astype("int64"))
    sample = sampler(paddle.stack([labels, labels.flip(0), labels]))
    for image in (0, 2):
        rows, kinds = sample.rows[image].numpy(), sample.labels[image].numpy()
        assert_array_equal(rows[kinds == 1], golden[f"sample/{size}_{fraction}/fg"])
        assert_array_equal(rows[kinds == 0], golden[f"sample/{size}_{fraction}/bg"])
        assert_array_equal(np.sort(kinds == -1), kinds == -1)


def ground_truth(golden, run):
    """The two images' ground truth, padded by two rows more than needed."""
    boxes = [golden[f"{run}/gt/{i}/bbox"].reshape(-1, 4) for i in (0, 1)]
    rows = max(len(b) for b in boxes) + 2
    padded = np.zeros((2, rows, 4), "float32")
    labels, crowd = np.full((2, rows), -1, "int64"), np.zeros((2, rows), bool)
    for i, b in enumerate(boxes):
        padded[i, : len(b)] = b
        labels[i, : len(b)] = golden[f"{run}/gt/{i}/class"][:, 0]
        crowd[i, : len(b)] = golden[f"{run}/gt/{i}/is_crowd"].reshape(-1) > 0
    return BatchTargets(
        *(paddle.to_tensor(x) for x in (padded, labels, crowd, np.ones((2, rows), "float32")))
    )


RUNS = ["crowd", "default", "nogt", "crowd_ignore"]


@pytest.mark.parametrize("run", RUNS)
def test_rpn_targets(run):
    golden = load_golden("faster_rcnn_r50_fpn_1x_coco_train")[0]
    anchors = paddle.concat(
        AnchorGenerator(strides=FPN_STRIDES, anchor_sizes=FPN_SIZES)(
            maps(*[(320 // s, 320 // s) for s in FPN_STRIDES])
        )
    )
    assert anchors.shape[0] == golden[f"{run}/rpn/num_anchors"][0]
    assign = RPNTargetAssign(use_random=False, ignore_thresh=0.5 if run == "crowd_ignore" else -1.0)
    targets = assign(anchors, ground_truth(golden, run))
    for i in (0, 1):
        rows, labels = targets.anchor_index[i].numpy(), targets.labels[i].numpy()
        fg = labels == 1
        assert_array_equal(rows[fg], golden[f"{run}/rpn/{i}/fg"])
        assert_array_equal(rows[labels == 0], golden[f"{run}/rpn/{i}/bg"])
        if fg.any():
            assert_array_equal(targets.gt_index[i].numpy()[fg], golden[f"{run}/rpn/{i}/fg_gt"])
            assert_allclose(targets.deltas[i].numpy()[fg], golden[f"{run}/rpn/{i}/fg_deltas"], atol=1e-5)
        assert not targets.deltas[i].numpy()[~fg].any()


FASTER, CASCADE = "faster_rcnn_r50_fpn_1x_coco_train", "cascade_rcnn_r50_fpn_1x_coco_train"


@pytest.mark.parametrize(
    ("model", "run", "stage"),
    [(FASTER, run, 0) for run in RUNS]
    + [(CASCADE, run, stage) for run in ("crowd", "default", "nogt") for stage in (0, 1, 2)],
)
def test_region_targets(model, run, stage):
    golden = load_golden(model)[0]
    folder = f"{run}/aligned/roi/stage{stage}"
    if f"{folder}/num" not in golden:
        pytest.skip("this run is part of the full goldens only")
    inputs = [golden[f"{folder}/{i}/input"] for i in (0, 1)]
    boxes = np.zeros((2, max(len(b) for b in inputs), 4), "float32")
    valid = np.zeros(boxes.shape[:2], bool)
    for i, b in enumerate(inputs):
        boxes[i, : len(b)], valid[i, : len(b)] = b, True
    assigner = BBoxAssigner(use_random=False, ignore_thresh=0.5 if run == "crowd_ignore" else -1.0)
    ours = assigner(paddle.to_tensor(boxes), paddle.to_tensor(valid), ground_truth(golden, run), stage=stage)
    for i, count in enumerate(golden[f"{folder}/num"]):
        labels = ours.labels[i].numpy()
        assert (labels[:count] >= 0).all()
        assert (labels[count:] == -1).all()
        assert_array_equal(labels[:count], golden[f"{folder}/{i}/labels"])
        assert_array_equal(ours.boxes[i].numpy()[:count], golden[f"{folder}/{i}/rois"])
        fg = np.flatnonzero((labels >= 0) & (labels < 80))
        assert_array_equal(fg, golden[f"{folder}/{i}/fg"])
        if len(fg):
            assert_array_equal(ours.gt_index[i].numpy()[fg], golden[f"{folder}/{i}/gt"][fg])
            assert_array_equal(ours.gt_boxes[i].numpy()[fg], golden[f"{folder}/{i}/fg_boxes"])


@pytest.mark.parametrize("run", ["default", "crowd"])
def test_anchor_targets(run):
    golden, _ = load_golden("retinanet_r50_fpn_1x_coco_train")
    strides = [8, 16, 32, 64, 128]
    anchors = paddle.concat(
        RetinaAnchorGenerator(strides=strides)(
            maps(*[(math.ceil(320 / s), math.ceil(320 / s)) for s in strides])
        )
    )
    targets = MaxIoUAssigner()(anchors, ground_truth(golden, run), num_classes=80)
    positives = 0
    for i in (0, 1):
        labels = targets.labels[i].numpy()
        fg = np.flatnonzero((labels >= 0) & (labels < 80))
        positives += len(fg)
        assert_array_equal(fg, golden[f"{run}/assign/{i}/fg"])
        assert_array_equal(targets.gt_index[i].numpy()[fg], golden[f"{run}/assign/{i}/fg_gt"])
        assert_array_equal(np.flatnonzero(labels == -1), golden[f"{run}/assign/{i}/ignored"])
        assert_array_equal(labels[fg], golden[f"{run}/gt/{i}/class"][:, 0][golden[f"{run}/assign/{i}/fg_gt"]])
    assert positives == golden[f"{run}/avg_factor"][0]
