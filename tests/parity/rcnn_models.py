"""The R-CNN models of the goldens, described in Python so that no config file can hide a difference."""

from __future__ import annotations

from typing import Any

from ppdet.config.spec import Spec
from ppdet.modeling.assign.anchors import AnchorGenerator
from ppdet.modeling.assign.roi_targets import BBoxAssigner
from ppdet.modeling.assign.rpn_targets import RPNTargetAssign
from ppdet.modeling.backbones.resnet import ResNet
from ppdet.modeling.detectors.two_stage import CascadeRCNN, FasterRCNN, MaskRCNN, TwoStageDetector
from ppdet.modeling.heads.bbox_decode import RCNNBox
from ppdet.modeling.heads.bbox_head import BBoxHead
from ppdet.modeling.heads.cascade_head import CascadeHead
from ppdet.modeling.heads.mask_head import MaskFeat, MaskHead, MaskPostProcess
from ppdet.modeling.heads.roi_extractor import RoIAlign
from ppdet.modeling.heads.roi_features import Res5Head
from ppdet.modeling.heads.rpn_head import ProposalGenerator, RPNHead
from ppdet.modeling.necks.fpn import FPN
from ppdet.modeling.post_process import BBoxPostProcess, MultiClassNMS
from tests.support import with_reference_weights

PYRAMID_SIZES = [[32], [64], [128], [256], [512]]
C4_SIZES = [32, 64, 128, 256, 512]


def rcnn_spec(name: str, *, ignore_thresh: float = -1.0) -> Spec[TwoStageDetector]:
    """Description of a golden's model."""
    cascade, masks, pyramid = "cascade" in name, "mask" in name, "fpn" in name
    resnet: dict[str, Any] = {"depth": 34 if "r34" in name else 50, "variant": "d" if "vd" in name else "b"}
    if not pyramid:
        resnet |= {"num_stages": 3, "return_idx": [2]}
    extractor = Spec.of(RoIAlign, resolution=7 if pyramid else 14)
    assigner = Spec.of(
        BBoxAssigner,
        use_random=False,
        ignore_thresh=ignore_thresh,
        batch_size_per_im=512 if pyramid else 128,
    )
    if cascade:
        box_head: Spec = Spec.of(CascadeHead, roi_extractor=extractor, bbox_assigner=assigner)
    elif pyramid:
        box_head = Spec.of(BBoxHead, roi_extractor=extractor, bbox_assigner=assigner)
    else:
        box_head = Spec.of(
            BBoxHead, roi_extractor=extractor, bbox_assigner=assigner, head=Spec.of(Res5Head), with_pool=True
        )
    parts: dict[str, Any] = {
        "backbone": Spec.of(ResNet, **resnet),
        "rpn_head": _rpn(pyramid, cascade, ignore_thresh),
        "bbox_head": box_head,
        "bbox_post_process": Spec.of(
            BBoxPostProcess,
            decode=Spec.of(RCNNBox),
            nms=Spec.of(MultiClassNMS, score_threshold=0.05, nms_threshold=0.5, keep_top_k=100),
        ),
    }
    if pyramid:
        parts["neck"] = Spec.of(FPN)
    if masks:
        parts["mask_head"] = Spec.of(
            MaskHead,
            head=Spec.of(MaskFeat, num_convs=4 if pyramid else 0),
            roi_extractor=Spec.of(RoIAlign, resolution=14),
            share_bbox_feat=not pyramid,
        )
        parts["mask_post_process"] = Spec.of(MaskPostProcess)
    detector = CascadeRCNN if cascade else MaskRCNN if masks else FasterRCNN
    return Spec.of(detector, **parts)


def _rpn(pyramid: bool, cascade: bool, ignore_thresh: float) -> Spec[RPNHead]:
    test = {"nms_thresh": 0.7, "min_size": 0.0}
    train = dict(test)
    if pyramid:
        train |= {"pre_nms_top_n": 2000, "post_nms_top_n": 2000 if cascade else 1000}
        test |= {"pre_nms_top_n": 1000, "post_nms_top_n": 1000}
    else:
        train |= {"pre_nms_top_n": 12000, "post_nms_top_n": 2000}
        test |= {"pre_nms_top_n": 6000, "post_nms_top_n": 200}
    return Spec.of(
        RPNHead,
        anchor_generator=Spec.of(AnchorGenerator, anchor_sizes=PYRAMID_SIZES if pyramid else C4_SIZES),
        rpn_target_assign=Spec.of(RPNTargetAssign, use_random=False, ignore_thresh=ignore_thresh),
        train_proposal=Spec.of(ProposalGenerator, **train),
        test_proposal=Spec.of(ProposalGenerator, **test),
    )


def reference_rcnn(name: str, *, ignore_thresh: float = -1.0) -> TwoStageDetector:
    """A golden's model with the reference weights."""
    return with_reference_weights(rcnn_spec(name, ignore_thresh=ignore_thresh).build)


def set_aligned(model: TwoStageDetector, aligned: bool) -> None:
    """Choose where the RoI heads of a model put pixel centres; building another takes seconds."""
    model.bbox_head.roi_extractor.aligned = aligned
    if model.mask_head is not None:
        model.mask_head.roi_extractor.aligned = aligned
