"""Protects what all detectors promise alike: no step and no detection waits for the device, `predict` reads
it once, and an image gets the same detections alone and in a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import paddle
import pytest

from ppdet.config.spec import Spec
from ppdet.inference.predictors import predict
from ppdet.modeling.backbones.csp_resnet import CSPResNet
from ppdet.modeling.backbones.darknet import DarkNetTiny
from ppdet.modeling.backbones.resnet import ResNet
from ppdet.modeling.detectors.detr import DETR
from ppdet.modeling.detectors.ppyoloe import PPYOLOE, PPYOLOEWithAuxHead
from ppdet.modeling.detectors.retinanet import RetinaNet
from ppdet.modeling.detectors.yolov3 import YOLOv3
from ppdet.modeling.heads.ppyoloe import PPYOLOEHead
from ppdet.modeling.heads.retina import RetinaHead
from ppdet.modeling.heads.retina_features import RetinaFeat
from ppdet.modeling.heads.simple_conv import SimpleConvHead
from ppdet.modeling.heads.yolo import YOLOBox, YOLOv3Head
from ppdet.modeling.interfaces import Detector
from ppdet.modeling.necks.csp_pan import CustomCSPPAN
from ppdet.modeling.necks.fpn import FPN
from ppdet.modeling.necks.yolo_fpn import YOLOv3TinyFPN
from ppdet.modeling.post_process import BBoxPostProcess, MultiClassNMS
from ppdet.structures import Batch
from tests.modeling.small_detr import small_detr
from tests.modeling.small_rcnn import KINDS, small_batch, small_rcnn
from tests.support_sync import count_host_syncs

OBJECTS = [[[10, 10, 50, 40], [60, 5, 90, 60]], []]
NMS = {"score_threshold": 0.0, "keep_top_k": 10, "nms_top_k": 50}


def small_retina() -> Detector:
    return RetinaNet(
        num_classes=3,
        backbone=Spec.of(ResNet, depth=18, return_idx=[1, 2, 3], freeze_norm=False, freeze_at=-1),
        neck=Spec.of(FPN, out_channel=16, has_extra_convs=True, extra_stage=2, use_c5=False),
        head=Spec.of(
            RetinaHead,
            conv_feat=Spec.of(RetinaFeat, feat_out=16, num_convs=1),
            nms=Spec.of(MultiClassNMS, **NMS),
        ),
    )


def small_yolo() -> Detector:
    return YOLOv3(
        num_classes=3,
        backbone=Spec.of(DarkNetTiny),
        neck=Spec.of(YOLOv3TinyFPN),
        yolo_head=Spec.of(
            YOLOv3Head,
            anchors=[[10, 14], [23, 27], [37, 58], [81, 82], [135, 169], [344, 319]],
            anchor_masks=[[3, 4, 5], [0, 1, 2]],
        ),
        post_process=Spec.of(
            BBoxPostProcess, decode=Spec.of(YOLOBox, conf_thresh=0.0), nms=Spec.of(MultiClassNMS, **NMS)
        ),
    )


def small_ppyoloe() -> Detector:
    size = {"width_mult": 0.125, "depth_mult": 0.33}
    return PPYOLOE(
        num_classes=3,
        backbone=Spec.of(CSPResNet, use_alpha=True, **size),
        neck=Spec.of(CustomCSPPAN, **size),
        yolo_head=Spec.of(PPYOLOEHead, nms=Spec.of(MultiClassNMS, **NMS)),
    )


def small_ppyoloe_aux() -> Detector:
    """With the auxiliary head and, from the first epoch on, the task-aligned assigner."""
    size = {"width_mult": 0.25, "depth_mult": 0.33}
    return PPYOLOEWithAuxHead(
        num_classes=3,
        backbone=Spec.of(CSPResNet, use_alpha=True, **size),
        neck=Spec.of(CustomCSPPAN, out_channels=[64, 64, 64], **size),
        yolo_head=Spec.of(
            PPYOLOEHead, attn_conv="repvgg", static_assigner_epoch=0, nms=Spec.of(MultiClassNMS, **NMS)
        ),
        aux_head=Spec.of(SimpleConvHead, feat_out=32),
    )


FAMILIES: dict[str, Callable[[], Detector]] = {
    **{kind: partial(small_rcnn, kind) for kind in KINDS},
    "retinanet": small_retina,
    "yolov3_tiny": small_yolo,
    "rtdetr": small_detr,
    "ppyoloe": small_ppyoloe,
    "ppyoloe_aux": small_ppyoloe_aux,
}


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Detector:
    paddle.seed(3)
    return FAMILIES[request.param]()


def test_nothing_waits_for_the_device(model: Detector) -> None:
    batch = small_batch(OBJECTS)
    model.train()
    with count_host_syncs() as reads:
        paddle.add_n(list(model(batch).values())).backward()
    # The assignment of queries is solved on the host: the costs of all layers and images come there at once.
    assert len(reads) == int(isinstance(model, DETR)), reads
    model.eval()
    with count_host_syncs() as reads, paddle.no_grad():
        model.detect(batch.images, batch.image_sizes, batch.scale_factors)
    assert not reads, reads
    with count_host_syncs() as reads:
        predict(model, batch)
    assert len(reads) == 1, reads


def test_a_batch_gives_what_single_images_give(model: Detector) -> None:
    model.eval()
    batch = small_batch(OBJECTS)
    together = predict(model, batch)
    for i, expected in enumerate(together):
        rows = (batch.images[i : i + 1], batch.image_sizes[i : i + 1], batch.scale_factors[i : i + 1])
        (found,) = predict(model, Batch(*rows, (batch.image_ids[i],), (batch.paths[i],)))
        assert found.image_id == expected.image_id
        assert len(found) == len(expected) > 0
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-3, atol=1e-5)
        # Where two scores are equal to rounding, their order is free.
        distance = np.abs(found.boxes[:, None] - expected.boxes[None]).max(axis=2)
        assert (distance.min(axis=1) < 0.05).all()
        assert (found.masks is None) == (expected.masks is None)
