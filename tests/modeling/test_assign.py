"""Protects matching, sampling and targets: slow code, properties, images without objects, fixed shapes."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from ppdet.config import ArgumentError
from ppdet.modeling.assign.anchor_targets import MaxIoUAssigner
from ppdet.modeling.assign.anchors import AnchorGenerator, RetinaAnchorGenerator
from ppdet.modeling.assign.box_coder import DeltaCoder
from ppdet.modeling.assign.matcher import IoUMatcher
from ppdet.modeling.assign.roi_targets import BBoxAssigner
from ppdet.modeling.assign.rpn_targets import RPNTargetAssign
from ppdet.modeling.assign.sampler import BalancedSampler
from ppdet.structures import BatchTargets
from tests.oracles import assign as oracle
from tests.support_sync import count_host_syncs

quick = settings(deadline=None, max_examples=40)
SEEDS = st.integers(0, 2**32 - 1)


def some_boxes(rng, count):
    """Boxes on quarter pixels, close enough together to overlap, some equal."""
    corner = rng.integers(0, 100, (count, 2)) / 4
    return np.concatenate([corner, corner + rng.integers(8, 120, (count, 2)) / 4], axis=1).astype("float32")


def targets_of(*images, rows):
    """A batch from (boxes, labels, is_crowd) per image, padded to `rows`."""
    boxes = np.zeros((len(images), rows, 4), "float32")
    labels, crowd = np.full((len(images), rows), -1, "int64"), np.zeros((len(images), rows), bool)
    for i, (b, k, c) in enumerate(images):
        boxes[i, : len(b)], labels[i, : len(b)], crowd[i, : len(b)] = b, k, c
    weights = np.ones((len(images), rows), "float32")
    return BatchTargets(*(paddle.to_tensor(x) for x in (boxes, labels, crowd, weights)))


NO_OBJECTS = (np.zeros((0, 4)), [], [])


@quick
@given(
    seed=SEEDS,
    objects=st.integers(0, 6),
    low_quality=st.booleans(),
    ignore=st.sampled_from([-1.0, 0.3003]),
    thresholds=st.sampled_from([(0.7, 0.3), (0.5, 0.5), (0.5, 0.4)]),
)
def test_matcher_equals_slow_code(seed, objects, low_quality, ignore, thresholds):
    rng = np.random.default_rng(seed)
    boxes, gt, crowd = some_boxes(rng, 30), some_boxes(rng, objects), rng.random(objects) < 0.3
    boxes[:objects] = gt
    # Thresholds that no quotient of quarter pixels hits, so that float32 and Python agree.
    positive, negative = (v + 0.0003 for v in thresholds)
    expected = oracle.match(
        boxes.astype(float), gt.astype(float), crowd, positive=positive, negative=negative,
        low_quality=low_quality, ignore_thresh=ignore,
    )  # fmt: skip
    matcher = IoUMatcher(
        positive_overlap=positive,
        negative_overlap=negative,
        allow_low_quality=low_quality,
        ignore_thresh=ignore,
    )
    one = targets_of((gt, 0, crowd), rows=objects + 2)
    match = matcher(paddle.to_tensor(boxes).unsqueeze(0), one.boxes, one.labels != -1, one.is_crowd)
    assert_array_equal(match.labels.numpy()[0], [label for _, label in expected])
    for ours, (row, _) in zip(match.gt_index.numpy()[0], expected):
        assert row is None or ours == row


@quick
@given(SEEDS)
def test_order_of_ground_truth_changes_no_label(seed):
    rng = np.random.default_rng(seed)
    boxes, gt = paddle.to_tensor(some_boxes(rng, 25)), some_boxes(rng, 5)
    matcher = IoUMatcher(positive_overlap=0.5, negative_overlap=0.3, allow_low_quality=True)
    yes = paddle.ones([5], dtype="bool")
    first = matcher(boxes, paddle.to_tensor(gt), yes, ~yes)
    second = matcher(boxes, paddle.to_tensor(gt[rng.permutation(5)].copy()), yes, ~yes)
    assert_array_equal(first.labels.numpy(), second.labels.numpy())


@pytest.mark.parametrize("overlaps", [(0.3, 0.7), (1.5, 0.3), (0.5, -0.1)])
def test_matcher_refuses_overlaps_out_of_order(overlaps):
    with pytest.raises(ArgumentError, match=r"(positive|negative)_overlap: expected 0 < IoU <= "):
        IoUMatcher(positive_overlap=overlaps[0], negative_overlap=overlaps[1])


@quick
@given(
    seed=SEEDS,
    size=st.sampled_from([1, 4, 16, 64]),
    fraction=st.sampled_from([0.0, 0.25, 1.0]),
    random=st.booleans(),
)
def test_sampler_takes_the_right_numbers(seed, size, fraction, random):
    rng = np.random.default_rng(seed)
    labels = rng.choice([-1, 0, 1], (3, 40), p=rng.dirichlet([1, 1, 1]))
    paddle.seed(seed % 1000)
    sampler = BalancedSampler(batch_size_per_im=size, fg_fraction=fraction, use_random=random)
    sample = sampler(paddle.to_tensor(labels))
    assert sample.rows.shape == sample.labels.shape == [3, size]
    for i in range(3):
        rows, kinds = sample.rows.numpy()[i], sample.labels.numpy()[i]
        positive, negative = oracle.first_samples(labels[i], size, fraction)
        assert kinds.tolist() == [1] * len(positive) + [0] * len(negative) + [-1] * (
            size - len(positive + negative)
        )
        drawn = rows[kinds >= 0]
        assert_array_equal(labels[i][drawn], kinds[kinds >= 0])
        assert len(set(drawn)) == len(drawn)
        assert not rows[kinds < 0].any()
        if not random:
            assert drawn.tolist() == positive + negative


def test_random_sampling_is_uniform_seeded_and_differs_between_images():
    labels = paddle.to_tensor(np.tile(np.arange(40) % 2, (2, 1)))
    sampler = BalancedSampler(batch_size_per_im=8, fg_fraction=0.5)
    paddle.seed(1)
    counts = np.zeros(40)
    differ = 0
    for _ in range(400):
        rows = sampler(labels).rows.numpy()
        counts += np.bincount(rows[0], minlength=40)
        differ += set(rows[0]) != set(rows[1])
    # Each row is drawn with probability 4 / 20: 80 of 400 times, with a standard deviation of 8.
    assert counts.min() > 40
    assert counts.max() < 120
    assert differ > 390
    paddle.seed(1)
    first = sampler(labels).rows.numpy()
    paddle.seed(1)
    assert_array_equal(sampler(labels).rows.numpy(), first)


@pytest.mark.parametrize(
    ("size", "fraction", "argument"),
    [(0, 0.5, "batch_size_per_im"), (8, 1.5, "fg_fraction"), (8, -0.1, "fg_fraction")],
)
def test_sampler_refuses_numbers_out_of_range(size, fraction, argument):
    with pytest.raises(ArgumentError, match=argument):
        BalancedSampler(batch_size_per_im=size, fg_fraction=fraction)


def test_anchors_follow_offset_and_order():
    generator = AnchorGenerator(strides=[10], anchor_sizes=[[4, 8]], aspect_ratios=[1.0, 4.0], offset=0.5)
    (anchors,) = generator([paddle.zeros([1, 1, 2, 3])])
    assert anchors.shape == [2 * 3 * 4, 4]
    assert_allclose(anchors.numpy()[0], [3, 3, 7, 7])
    assert_allclose(anchors.numpy()[1], [4, 1, 6, 9])
    assert_allclose(anchors.numpy()[2], [1, 1, 9, 9])
    assert_allclose(anchors.numpy()[4], [13, 3, 17, 7])
    assert_allclose(anchors.numpy()[12], [3, 13, 7, 17])


def test_a_flat_list_of_sizes_holds_for_every_level():
    generator = AnchorGenerator(strides=[8, 16], anchor_sizes=[32, 64], aspect_ratios=[1.0])
    fine, coarse = generator([paddle.zeros([1, 1, 1, 1])] * 2)
    assert_array_equal(fine.numpy(), coarse.numpy())
    assert generator.num_anchors == 2


def test_octaves():
    generator = RetinaAnchorGenerator(
        strides=[8, 16], octave_base_scale=2.0, scales_per_octave=2, aspect_ratios=[1.0]
    )
    for level, anchors in enumerate(generator([paddle.zeros([1, 1, 1, 1])] * 2)):
        assert_allclose(anchors.numpy()[:, 2] * 2, [16 * 2**level, 16 * 2 ** (level + 0.5)], rtol=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [
        {"anchor_sizes": [[32], [64], [128]]},
        {"anchor_sizes": [[32], [-1]]},
        {"anchor_sizes": [[32], [64]], "aspect_ratios": [0.0]},
        {"anchor_sizes": [[32], [64]], "aspect_ratios": []},
    ],
)
def test_anchors_that_make_no_sense_are_refused(arguments):
    with pytest.raises(ValueError, match="aspect_ratios" if "aspect_ratios" in arguments else "anchor_sizes"):
        AnchorGenerator(strides=[8, 16], **arguments)


def test_anchors_for_another_number_of_maps_are_refused():
    with pytest.raises(ValueError, match="1 feature maps"):
        AnchorGenerator(strides=[8, 16])([paddle.zeros([1, 1, 2, 2])])


def test_coder_inverts_itself_and_refuses_weights():
    coder = DeltaCoder([10.0, 10.0, 5.0, 5.0])
    rng = np.random.default_rng(0)
    boxes, gt = (paddle.to_tensor(some_boxes(rng, 6)) for _ in range(2))
    assert_allclose(coder.decode(boxes, coder.encode(boxes, gt)).numpy(), gt.numpy(), atol=1e-3)
    with pytest.raises(ValueError, match="weights"):
        DeltaCoder([1.0, 1.0, 0.0, 1.0])


def test_rpn_targets_without_objects_are_all_negative():
    anchors = paddle.to_tensor(some_boxes(np.random.default_rng(0), 50))
    assign = RPNTargetAssign(batch_size_per_im=16, use_random=False)
    objects = (np.array([[0, 0, 10, 10]]), [3], [False])
    targets = assign(anchors, targets_of(NO_OBJECTS, objects, rows=2))
    assert targets.labels[0].tolist() == [0] * 16
    assert not targets.deltas[0].numpy().any()
    assert targets.labels[1].numpy().max() == 1


def test_fewer_anchors_than_samples_are_padded():
    anchors = paddle.to_tensor(some_boxes(np.random.default_rng(0), 5))
    targets = RPNTargetAssign(batch_size_per_im=16)(anchors, targets_of(NO_OBJECTS, rows=1))
    assert sorted(targets.labels[0].tolist()) == [-1] * 11 + [0] * 5


def region_case(rng):
    """Three images: with objects and a crowd, without, and with everything padded."""
    gt = some_boxes(rng, 4)
    boxes = np.stack([some_boxes(rng, 20) for _ in range(3)])
    boxes[0, :3] = gt[:3] + 0.25
    valid = np.ones((3, 20), bool)
    valid[:, 15:] = False
    valid[2] = False
    targets = targets_of((gt, [5, 6, 7, 8], [False, False, False, True]), NO_OBJECTS, NO_OBJECTS, rows=5)
    return paddle.to_tensor(boxes), paddle.to_tensor(valid), targets


def test_region_targets_of_mixed_images():
    boxes, valid, targets = region_case(np.random.default_rng(4))
    ours = BBoxAssigner(num_classes=9, batch_size_per_im=32, use_random=False)(boxes, valid, targets)
    labels = ours.labels.numpy()
    assert labels.shape == (3, 32)
    # Of 15 valid proposals and 4 ground-truth boxes, the three that are no crowd match themselves.
    assert (labels[0] >= 0).sum() == 19
    assert {5, 6, 7} <= set(labels[0][labels[0] < 9])
    assert 8 not in labels[0]
    assert_array_equal(labels[1], [9] * 15 + [-1] * 17)
    assert_array_equal(labels[2], [-1] * 32)
    assert not ours.boxes.numpy()[labels == -1].any()
    fg = (labels >= 0) & (labels < 9)
    own = targets.boxes.numpy()[0][ours.gt_index.numpy()[0][fg[0]]]
    assert_array_equal(ours.gt_boxes.numpy()[0][fg[0]], own)


@pytest.mark.parametrize("stage", [1, 2])
def test_later_stages_keep_all_regions_and_ignore_empty_ones(stage):
    boxes, valid, targets = region_case(np.random.default_rng(4))
    boxes[0, 4] = paddle.to_tensor([7.0, 7.0, 7.0, 30.0])
    ours = BBoxAssigner(num_classes=9, batch_size_per_im=32)(boxes, valid, targets, stage=stage)
    assert_array_equal(ours.boxes.numpy(), boxes.numpy())
    expected_valid = valid.numpy()
    expected_valid[0, 4] = False
    assert_array_equal(ours.labels.numpy() >= 0, expected_valid)


def test_later_stages_ask_for_more_overlap():
    gt = np.array([[0, 0, 10, 10]], "float32")
    # IoU 0.65: positive at 0.5 and 0.6, background at 0.7.
    boxes = paddle.to_tensor([[[0.0, 0, 10, 6.5]]])
    targets, valid = targets_of((gt, [3], [False]), rows=1), paddle.ones([1, 1], dtype="bool")
    assigner = BBoxAssigner(num_classes=9, batch_size_per_im=4, use_random=False)
    assert [int(assigner(boxes, valid, targets, stage=s).labels[0, 0]) for s in (0, 1, 2)] == [3, 3, 9]
    with pytest.raises(IndexError):
        assigner(boxes, valid, targets, stage=3)


def test_anchor_targets_count_crowds_as_objects_and_leave_out_the_middle():
    gt = np.array([[0, 0, 10, 10], [50, 50, 60, 60]], "float32")
    anchors = paddle.to_tensor([[0.0, 0, 10, 10], [0, 0, 10, 4.5], [0, 0, 10, 3], [50, 50, 60, 60]])
    batch = targets_of((gt, [1, 2], [False, True]), NO_OBJECTS, rows=3)
    targets = MaxIoUAssigner()(anchors, batch, num_classes=7)
    assert targets.labels.tolist() == [[1, -1, 7, 2], [7, 7, 7, 7]]
    assert targets.gt_boxes[0, 3].tolist() == [50, 50, 60, 60]


@pytest.mark.parametrize("random", [True, False])
def test_no_assigner_reads_from_the_device(random):
    boxes, valid, targets = region_case(np.random.default_rng(0))
    generator = AnchorGenerator(strides=[8], anchor_sizes=[[16, 32]])
    feature = paddle.zeros([3, 1, 6, 6])
    rpn = RPNTargetAssign(batch_size_per_im=16, use_random=random, ignore_thresh=0.5)
    roi = BBoxAssigner(batch_size_per_im=16, use_random=random)
    with count_host_syncs() as reads:
        (anchors,) = generator([feature])
        rpn(anchors, targets)
        roi(boxes, valid, targets)
        roi(boxes, valid, targets, stage=1)
        MaxIoUAssigner()(anchors, targets, num_classes=80)
    assert not reads, reads
