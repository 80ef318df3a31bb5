"""Protects two-stage detectors where goldens do not reach: odd images, odd targets, waits for the device.

Every loss term must be there and finite, and gradients must reach every trainable parameter, whatever the
batch; neither a training step nor inference may read a value on the host, but for one transfer in `predict`.
"""

from __future__ import annotations

from unittest import mock

import numpy as np
import paddle
import pytest
from pycocotools import mask as coco_mask

from ppdet.config.spec import Spec
from ppdet.inference.predictors import predict, to_detections
from ppdet.modeling.backbones.resnet import ResNet
from ppdet.modeling.heads.bbox_head import BBoxHead, BoxHead
from ppdet.modeling.heads.mask_head import MaskHead
from ppdet.modeling.heads.roi_features import Res5Head
from ppdet.modeling.necks.fpn import FPN
from ppdet.structures import FeatureShape, Proposals
from tests.modeling.small_rcnn import KINDS, small_batch, small_rcnn
from tests.support_sync import count_host_syncs

BATCHES = {
    "one object": [[[10, 10, 50, 40]]],
    "second image empty": [[[10, 10, 50, 40], [60, 5, 90, 60]], []],
    "no objects at all": [[], []],
    "at the border": [[[0, 0, 96, 64], [95, 63, 96, 64]]],
    "one pixel": [[[20, 20, 21, 21]], [[0, 0, 1, 1], [30, 30, 30.5, 30.5]]],
}


def expected_losses(kind: str) -> set[str]:
    stages = [f"_stage{i}" for i in range(3)] if "cascade" in kind else [""]
    names = {"loss_rpn_cls", "loss_rpn_reg"}
    names |= {f"loss_bbox_{what}{stage}" for what in ("cls", "reg") for stage in stages}
    return names | ({"loss_mask"} if "mask" in kind else set())


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if "c4" in kind else ()) for kind in KINDS]
)
def test_every_batch_gives_every_loss_and_gradient(kind: str) -> None:
    model = small_rcnn(kind)
    model.train()
    for what, boxes in BATCHES.items():
        model.clear_gradients()
        losses = model(small_batch(boxes))
        assert set(losses) == expected_losses(kind), what
        for name, loss in losses.items():
            assert loss.shape == [], (what, name)
            assert np.isfinite(loss.item()), (what, name)
        paddle.add_n(list(losses.values())).backward()
        for name, parameter in model.named_parameters():
            if parameter.trainable:
                assert parameter.grad is not None, f"{what}: no gradient reaches {name}"
                assert bool(paddle.isfinite(parameter.grad).all()), (what, name)


@pytest.mark.parametrize("real", [5, 1, 0])
def test_a_costly_head_is_spared_the_padding(real: int) -> None:
    """What counts is the same as with it, also without a single region in one image or in both."""
    model = small_rcnn("c4")
    model.eval()
    batch = small_batch([[], []])
    low = paddle.uniform([2, 5, 2], min=0.0, max=40.0)
    valid = paddle.to_tensor([[i < real for i in range(5)], [False] * 5])
    proposals = Proposals(paddle.concat([low, low + 20.0], axis=-1), paddle.zeros([2, 5]), valid)
    head = model.bbox_head
    with paddle.no_grad():
        features = model.backbone(batch.images)
        whole = BoxHead.predict(head, features, proposals, batch.image_sizes)
        with mock.patch.object(head, "_outputs_of", side_effect=head._outputs_of) as computed:
            found = head.predict(features, proposals, batch.image_sizes)
    assert computed.call_args.args[0].shape[0] == real
    for name in ("probs", "deltas"):
        ours, expected = getattr(found, name).numpy(), getattr(whole, name).numpy()
        assert ours.shape == expected.shape
        np.testing.assert_allclose(ours[0, :real], expected[0, :real], rtol=1e-4, atol=1e-6)
        assert not ours[0, real:].any()
        assert not ours[1].any()


@pytest.mark.parametrize("num_classes", [1, 1000])
def test_few_and_many_classes(num_classes: int) -> None:
    model = small_rcnn("mask", num_classes=num_classes)
    batch = small_batch([[[10, 10, 50, 40]], []], classes=num_classes)
    model.train()
    assert all(np.isfinite(loss.item()) for loss in model(batch).values())
    for found in predict(model, batch):
        assert ((found.labels >= 0) & (found.labels < num_classes)).all()


@pytest.mark.parametrize("kind", ["mask_c4", "cascade_mask"])
def test_a_step_does_not_wait_for_the_device(kind: str) -> None:
    model = small_rcnn(kind)
    model.train()
    batch = small_batch([[[10, 10, 50, 40], [60, 5, 90, 60]], []])
    model(batch)
    with count_host_syncs() as reads:
        paddle.add_n(list(model(batch).values())).backward()
    assert not reads, reads


@pytest.mark.parametrize("kind", ["mask_c4", "cascade_mask"])
def test_prediction_reads_the_device_once(kind: str) -> None:
    model = small_rcnn(kind)
    batch = small_batch([[], []])
    predict(model, batch)
    with count_host_syncs() as reads:
        predict(model, batch)
    assert len(reads) == 1, reads


@pytest.mark.parametrize("kind", KINDS)
def test_detections_are_padded_sorted_and_inside(kind: str) -> None:
    model = small_rcnn(kind)
    model.train()
    batch = small_batch([[], [], []])
    found = predict(model, batch)
    assert model.training
    assert [d.image_id for d in found] == [0, 1, 2]
    for detections in found:
        assert 0 < len(detections) <= 10
        assert (np.diff(detections.scores) <= 0).all()
        # The images are 64 x 96 at half their original size.
        assert (detections.boxes >= 0).all()
        assert (detections.boxes <= [192, 128, 192, 128]).all()
        assert (detections.boxes[:, 2:] > detections.boxes[:, :2]).all()
        assert (detections.masks is not None) == ("mask" in kind)
        for mask in detections.masks or ():
            assert coco_mask.decode(mask).shape == (128, 192)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_above_the_threshold_is_no_detection(kind: str) -> None:
    model = small_rcnn(kind, score_threshold=1.5)
    for detections in predict(model, small_batch([[], []])):
        assert len(detections) == 0
        assert detections.masks in (None, ())


def test_image_smaller_than_the_coarsest_stride() -> None:
    model = small_rcnn("mask")
    model.train()
    batch = small_batch([[[1, 1, 9, 9]]], size=(32, 32))
    assert all(np.isfinite(loss.item()) for loss in model(batch).values())
    assert len(predict(model, batch)) == 1


@pytest.mark.slow
def test_training_learns_one_image() -> None:
    model = small_rcnn("mask")
    model.train()
    batch = small_batch([[[8, 8, 40, 40], [50, 20, 90, 60]]])
    optimizer = paddle.optimizer.Adam(1e-3, parameters=model.parameters())
    totals = []
    for _ in range(20):
        total = paddle.add_n(list(model(batch).values()))
        total.backward()
        optimizer.step()
        optimizer.clear_grad()
        totals.append(total.item())
    assert totals[-1] < 0.7 * totals[0]


def test_padding_is_left_out_of_detections() -> None:
    boxes = np.array([[[0, 0, 4, 4], [1, 1, 3, 3], [0, 0, 0, 0]]], np.float32)
    labels = np.array([[1, 0, -1]])
    masks = np.ones((1, 3, 2, 2), np.float32)
    (found,) = to_detections(
        boxes, np.array([[0.9, 0.5, 0]]), labels, masks, image_ids=[7], original_sizes=[(4, 6)]
    )
    assert found.image_id == 7
    assert found.labels.tolist() == [1, 0]
    assert [int(coco_mask.area(m)) for m in found.masks or ()] == [16, 4]


@pytest.mark.parametrize("kind", ["mask", "mask_c4", "cascade_mask"])
def test_the_mask_head_is_trained_on_positives_and_a_row_of_an_image_without(kind: str) -> None:
    model = small_rcnn(kind)
    model.train()
    assert model.mask_head is not None
    seen: list[np.ndarray] = []
    model.mask_head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1].numpy()))
    model(small_batch([[[10, 10, 50, 40], [60, 5, 90, 60]], []]))
    (labels,) = seen
    positive = (labels >= 0) & (labels < 3)
    assert positive.sum() > 0
    assert len(labels) == positive.sum() + 1


def test_masks_without_polygons_say_what_to_change() -> None:
    model = small_rcnn("mask")
    batch = small_batch([[[10, 10, 50, 40]]])
    object.__setattr__(batch.targets, "polygons", None)
    with pytest.raises(ValueError, match="gt_poly"):
        model(batch)


def test_parts_that_do_not_fit_say_so() -> None:
    shapes = [FeatureShape(256, 16)]
    with pytest.raises(ValueError, match=r"with_pool: got False.*set it to True"):
        BBoxHead(in_shapes=shapes, head=Spec.of(Res5Head, depth=18))
    with pytest.raises(ValueError, match="return_idx"):
        BBoxHead(in_shapes=shapes, head=Spec.of(Res5Head), with_pool=True)
    with pytest.raises(ValueError, match="feature maps"):
        small = small_rcnn("faster").bbox_head.stages[0].body
        MaskHead(
            in_shapes=shapes,
            shared_features=type("S", (), {"channels": small.out_channels, "resolution": 0})(),
            share_bbox_feat=True,
        )
    with pytest.raises(ValueError, match=r"spatial_scales.*16"):
        FPN(in_shapes=shapes, spatial_scales=[0.25])
    for wrong in (
        {"depth": 42},
        {"variant": "e"},
        {"return_idx": [4]},
        {"num_stages": 0},
        {"norm_type": "xn"},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ResNet(**wrong)  # type: ignore[arg-type]
