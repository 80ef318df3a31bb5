"""Protects contract C2: the state dict of every model has the keys and shapes that 2.x publishes, no other.

One key list per published model of these families; the model is the one that our own config of that name
describes, or one with the few changes that its 2.x config makes.
"""

from __future__ import annotations

import json

import paddle
import pytest

from ppdet import build_model, load_config
from tests.support import ROOT, SHARED, requires_shared

KEYS = SHARED / "keys"

_VD = ["ResNet.variant=d"]
_R34_YOLO = [
    "norm_type=sync_bn",
    "YOLOv3.backbone=ResNet",
    "ResNet.depth=34",
    "ResNet.return_idx=[1, 2, 3]",
    "ResNet.freeze_at=-1",
    "ResNet.freeze_norm=false",
]
#: Key lists of models that have no config of their own here -> (config, what differs).
VARIANTS = {
    "faster_rcnn_r34_vd_fpn_1x_coco": ("faster_rcnn_r34_fpn_1x_coco", _VD),
    "faster_rcnn_r50_vd_1x_coco": ("faster_rcnn_r50_1x_coco", _VD),
    "faster_rcnn_r50_vd_fpn_ssld_1x_coco": ("faster_rcnn_r50_vd_fpn_1x_coco", []),
    "retinanet_r101_fpn_2x_coco": ("retinanet_r50_fpn_2x_coco", ["ResNet.depth=101"]),
    "yolov3_darknet53_original_270e_coco": ("yolov3_darknet53_270e_coco", []),
    "yolov3_darknet53_270e_coco.variant_iou_aware": (
        "yolov3_darknet53_270e_coco",
        ["YOLOv3Head.iou_aware=true"],
    ),
    "yolov3_r34_270e_coco": ("yolov3_darknet53_270e_coco", _R34_YOLO),
}
LISTS = sorted(path.name.removesuffix(".g2.json") for path in KEYS.glob("*.g2.json"))


@requires_shared
@pytest.mark.parametrize("name", LISTS)
def test_keys_and_shapes(name: str) -> None:
    config, changes = VARIANTS.get(name, (name, []))
    experiment = load_config(ROOT / "configs" / f"{config}.yml", overrides=changes)
    with paddle.LazyGuard():  # drawing random weights takes seconds, and values are not looked at
        model = build_model(experiment)
    ours = {key: list(value.shape) for key, value in model.state_dict().items()}
    published = json.loads((KEYS / f"{name}.g2.json").read_text())
    assert ours == published


@requires_shared
def test_there_are_lists_of_every_family() -> None:
    assert len(LISTS) >= 22
    for family in ("faster_rcnn", "mask_rcnn", "cascade_rcnn", "cascade_mask_rcnn", "retinanet", "yolov3"):
        assert any(name.startswith(family) for name in LISTS)
