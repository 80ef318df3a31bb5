"""One small detector of every family, and how its images are prepared."""

from __future__ import annotations

from typing import Any
from unittest import mock

import paddle

from ppdet.config.spec import Spec
from ppdet.data.readers import TestReader
from ppdet.data.transforms.decode import Decode
from ppdet.data.transforms.normalize import NormalizeImage, Permute
from ppdet.data.transforms.pad import PadBatch
from ppdet.data.transforms.resize import Resize
from ppdet.modeling.assign.anchors import AnchorGenerator
from ppdet.modeling.backbones import darknet
from ppdet.modeling.backbones.csp_resnet import CSPResNet
from ppdet.modeling.backbones.darknet import DarkNet, DarkNetTiny
from ppdet.modeling.backbones.resnet import ResNet
from ppdet.modeling.detectors.ppyoloe import PPYOLOE
from ppdet.modeling.detectors.retinanet import RetinaNet
from ppdet.modeling.detectors.two_stage import CascadeRCNN, FasterRCNN, MaskRCNN
from ppdet.modeling.detectors.yolov3 import YOLOv3
from ppdet.modeling.heads.bbox_decode import RCNNBox
from ppdet.modeling.heads.bbox_head import BBoxHead
from ppdet.modeling.heads.cascade_head import CascadeHead, CascadeTwoFCHead
from ppdet.modeling.heads.mask_head import MaskFeat, MaskHead, MaskPostProcess
from ppdet.modeling.heads.ppyoloe import PPYOLOEHead
from ppdet.modeling.heads.retina import RetinaHead
from ppdet.modeling.heads.retina_features import RetinaFeat
from ppdet.modeling.heads.roi_extractor import RoIAlign
from ppdet.modeling.heads.roi_features import Res5Head, TwoFCHead
from ppdet.modeling.heads.rpn_head import ProposalGenerator, RPNHead
from ppdet.modeling.heads.yolo import YOLOv3Head
from ppdet.modeling.interfaces import Detector
from ppdet.modeling.necks.csp_pan import CustomCSPPAN
from ppdet.modeling.necks.fpn import FPN
from ppdet.modeling.necks.yolo_fpn import YOLOv3TinyFPN
from ppdet.modeling.post_process import BBoxPostProcess, MultiClassNMS
from tests.modeling.small_detr import small_detr

NAMES = ("cat", "dog", "bird")
FAMILIES = (
    "faster_fpn",
    "faster_c4",
    "mask_fpn",
    "mask_c4",
    "cascade_fpn",
    "cascade_mask_fpn",
    "retinanet",
    "yolov3",
    "yolov3_tiny",
    "rtdetr",
    "ppyoloe",
)
_NMS = Spec.of(MultiClassNMS, score_threshold=0.05, nms_threshold=0.5, keep_top_k=20)


def reader() -> TestReader:
    """Resized to 96 x 128 within its ratio, normalised, padded to multiples of 32."""
    return TestReader(
        sample_transforms=[
            Spec.of(Decode),
            Spec.of(Resize, target_size=[96, 128], keep_ratio=True, interp=1),
            Spec.of(NormalizeImage),
            Spec.of(Permute),
        ],
        batch_transforms=[Spec.of(PadBatch, pad_to_stride=32)],
        batch_size=2,
    )


def small_model(name: str, *, aligned: bool = True) -> Detector:
    """A detector of a family, with weights from a fixed seed that give detections."""
    paddle.seed(3)
    if name.startswith("yolov3"):
        tiny = "tiny" in name
        parts: dict[str, Any] = {"backbone": Spec.of(_NarrowDarkNet)}
        if tiny:
            head = Spec.of(YOLOv3Head, anchors=_TINY_ANCHORS, anchor_masks=[[3, 4, 5], [0, 1, 2]])
            parts = {"backbone": Spec.of(DarkNetTiny), "neck": Spec.of(YOLOv3TinyFPN), "yolo_head": head}
        model: Detector = Spec.of(YOLOv3, **parts).build(num_classes=3)
    elif name == "retinanet":
        model = _retinanet()
    elif name == "rtdetr":
        model = small_detr()
    elif name == "ppyoloe":
        model = _ppyoloe()
    else:
        model = _rcnn(name, aligned=aligned)
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("conv2.batch_norm.weight"):
            # Fresh residual sums of DarkNet grow until boxes are denormal and scores 1, which proves nothing.
            parameter.set_value(parameter * 0.1)
        # Fresh detectors find nothing: outputs are spread so that scores differ and pass the threshold.
        if any(
            part in parameter_name
            for part in ("bbox_score", "bbox_delta", "retina_cls", "rpn_rois", "pred_cls", "pred_reg")
        ):
            spread = 0.001 if name.endswith("_c4") else 0.05  # the features of C4 are large
            parameter.set_value(paddle.randn(parameter.shape) * spread)
            if name.endswith("_c4") and parameter_name.endswith("bbox_score.bias"):
                parameter.set_value(paddle.to_tensor([0.0, 0.0, 0.0, -2.0]))  # background is rare
    model.eval()
    return model


class _NarrowDarkNet(DarkNet):
    """DarkNet with a block in each stage and a quarter of the channels.

    The published one has no sizes to choose, and its 240 MB are written and read by every format.
    """

    def __init__(self) -> None:
        with mock.patch.multiple(darknet, _BLOCKS={53: (1, 1, 1, 1, 1)}, _STEM_CHANNELS=8):
            super().__init__()


_TINY_ANCHORS = [[10, 14], [23, 27], [37, 58], [81, 82], [135, 169], [344, 319]]


def _ppyoloe() -> Detector:
    size = {"width_mult": 0.125, "depth_mult": 0.33}
    return Spec.of(
        PPYOLOE,
        backbone=Spec.of(CSPResNet, use_alpha=True, **size),
        neck=Spec.of(CustomCSPPAN, **size),
        yolo_head=Spec.of(PPYOLOEHead, nms=_NMS),
    ).build(num_classes=3)


def _retinanet() -> Detector:
    return Spec.of(
        RetinaNet,
        backbone=Spec.of(ResNet, depth=18, return_idx=[1, 2, 3]),
        neck=Spec.of(FPN, out_channel=16, has_extra_convs=True, extra_stage=2, use_c5=False),
        head=Spec.of(
            RetinaHead, conv_feat=Spec.of(RetinaFeat, feat_out=16, num_convs=1), nms=_NMS, nms_pre=50
        ),
    ).build(num_classes=3)


def _rcnn(name: str, *, aligned: bool) -> Detector:
    cascade, masks, pyramid = "cascade" in name, "mask" in name, "fpn" in name
    extractor = Spec.of(RoIAlign, resolution=7 if pyramid else 14, aligned=aligned)
    if cascade:
        body = Spec.of(CascadeTwoFCHead, out_channel=16)
        box_head: Spec[Any] = Spec.of(CascadeHead, head=body, roi_extractor=extractor)
    elif pyramid:
        box_head = Spec.of(BBoxHead, head=Spec.of(TwoFCHead, out_channel=16), roi_extractor=extractor)
    else:
        box_head = Spec.of(
            BBoxHead, head=Spec.of(Res5Head, depth=18), roi_extractor=extractor, with_pool=True
        )
    sizes: Any = [[32], [64], [128], [256], [512]] if pyramid else [32, 64, 128]
    stages = (
        {"num_stages": 4, "return_idx": [0, 1, 2, 3]} if pyramid else {"num_stages": 3, "return_idx": [2]}
    )
    parts: dict[str, Any] = {
        "backbone": Spec.of(ResNet, depth=18, **stages),
        "rpn_head": Spec.of(
            RPNHead,
            anchor_generator=Spec.of(AnchorGenerator, anchor_sizes=sizes),
            # A C4 head runs the last stage of the ResNet for each proposal.
            test_proposal=Spec.of(ProposalGenerator, pre_nms_top_n=60, post_nms_top_n=30 if pyramid else 10),
        ),
        "bbox_head": box_head,
        "bbox_post_process": Spec.of(BBoxPostProcess, decode=Spec.of(RCNNBox), nms=_NMS),
    }
    if pyramid:
        parts["neck"] = Spec.of(FPN, out_channel=16)
    if masks:
        parts["mask_head"] = Spec.of(
            MaskHead,
            head=Spec.of(MaskFeat, num_convs=1 if pyramid else 0, out_channel=16),
            roi_extractor=Spec.of(RoIAlign, resolution=14, aligned=aligned),
            share_bbox_feat=not pyramid,
        )
        parts["mask_post_process"] = Spec.of(MaskPostProcess)
    detector = CascadeRCNN if cascade else MaskRCNN if masks else FasterRCNN
    return Spec.of(detector, **parts).build(num_classes=3)
