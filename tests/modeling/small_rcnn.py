"""Small two-stage detectors for quick tests, and batches for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle

from ppdet.config.spec import Spec
from ppdet.modeling.assign.anchors import AnchorGenerator
from ppdet.modeling.assign.roi_targets import BBoxAssigner
from ppdet.modeling.backbones.resnet import ResNet
from ppdet.modeling.detectors.two_stage import CascadeRCNN, FasterRCNN, MaskRCNN, TwoStageDetector
from ppdet.modeling.heads.bbox_decode import RCNNBox
from ppdet.modeling.heads.bbox_head import BBoxHead
from ppdet.modeling.heads.cascade_head import CascadeHead
from ppdet.modeling.heads.mask_head import MaskFeat, MaskHead
from ppdet.modeling.heads.roi_extractor import RoIAlign
from ppdet.modeling.heads.roi_features import CascadeTwoFCHead, Res5Head, TwoFCHead
from ppdet.modeling.heads.rpn_head import ProposalGenerator, RPNHead
from ppdet.modeling.necks.fpn import FPN
from ppdet.modeling.post_process import BBoxPostProcess, MultiClassNMS
from ppdet.structures import Batch, BatchTargets, PolygonBatch

KINDS = ["faster", "c4", "mask", "mask_c4", "cascade", "cascade_mask"]


def small_rcnn(kind: str, *, num_classes: int = 3, seed: int = 0, **nms: Any) -> TwoStageDetector:
    """A detector of a kind of `KINDS`, with a ResNet-18 and narrow heads, randomly initialised."""
    paddle.seed(seed)
    pyramid = "c4" not in kind
    resnet: dict[str, Any] = {"depth": 18, "freeze_norm": False, "freeze_at": -1}
    if not pyramid:
        resnet.update(num_stages=3, return_idx=[2])
    assigner = Spec.of(BBoxAssigner, batch_size_per_im=16)
    extractor = Spec.of(RoIAlign, resolution=7 if pyramid else 14)
    common = {"roi_extractor": extractor, "bbox_assigner": assigner}
    if "cascade" in kind:
        head: Spec = Spec.of(CascadeHead, head=Spec.of(CascadeTwoFCHead, out_channel=32), **common)
    elif pyramid:
        head = Spec.of(BBoxHead, head=Spec.of(TwoFCHead, out_channel=32), **common)
    else:
        head = Spec.of(BBoxHead, head=Spec.of(Res5Head, depth=18), with_pool=True, **common)
    limits = {"pre_nms_top_n": 64, "post_nms_top_n": 24, "nms_thresh": 0.7}
    parts: dict[str, Any] = {
        "num_classes": num_classes,
        "backbone": Spec.of(ResNet, **resnet),
        "rpn_head": Spec.of(
            RPNHead,
            anchor_generator=Spec.of(
                AnchorGenerator, anchor_sizes=[[16], [32], [64], [128], [256]] if pyramid else [16, 32, 64]
            ),
            train_proposal=Spec.of(ProposalGenerator, **limits),
            test_proposal=Spec.of(ProposalGenerator, **limits),
        ),
        "bbox_head": head,
        "bbox_post_process": Spec.of(
            BBoxPostProcess,
            decode=Spec.of(RCNNBox),
            nms=Spec.of(MultiClassNMS, **{"score_threshold": 0.0, "keep_top_k": 10, **nms}),
        ),
    }
    if pyramid:
        parts["neck"] = Spec.of(FPN, out_channel=16)
    if "mask" in kind:
        parts["mask_head"] = Spec.of(
            MaskHead,
            head=Spec.of(MaskFeat, num_convs=1 if pyramid else 0, out_channel=8),
            roi_extractor=Spec.of(RoIAlign, resolution=14),
            share_bbox_feat=not pyramid,
        )
    detector = CascadeRCNN if "cascade" in kind else MaskRCNN if "mask" in kind else FasterRCNN
    return Spec.of(detector, **parts).build()


def small_batch(
    boxes: list[list[list[float]]], *, size: tuple[int, int] = (64, 96), classes: int = 3
) -> Batch:
    """A batch with given boxes per image, of labels 0, 1, ... in turn; each mask is its box."""
    count, longest = len(boxes), max(1, *(len(b) for b in boxes))
    padded = np.zeros((count, longest, 4), np.float32)
    labels = np.full((count, longest), -1, np.int64)
    for i, rows in enumerate(boxes):
        padded[i, : len(rows)] = np.reshape(rows, (-1, 4))
        labels[i, : len(rows)] = np.arange(len(rows)) % classes
    corners = padded.reshape(-1, 4)[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    owner = np.where(labels.reshape(-1) >= 0, np.arange(count * longest), -1)
    images = np.random.default_rng(0).normal(size=(count, 3, *size)).astype(np.float32)
    return Batch(
        images=paddle.to_tensor(images),
        image_sizes=paddle.to_tensor(np.array([size] * count, np.float32)),
        scale_factors=paddle.ones([count, 2]) * 0.5,
        image_ids=tuple(range(count)),
        paths=tuple(f"{i}.jpg" for i in range(count)),
        targets=BatchTargets(
            boxes=paddle.to_tensor(padded),
            labels=paddle.to_tensor(labels),
            is_crowd=paddle.zeros(labels.shape, dtype="bool"),
            weights=paddle.ones(labels.shape),
            polygons=PolygonBatch(paddle.to_tensor(corners), paddle.to_tensor(owner)),
        ),
    )
