"""Protects contract C1: YAMLs in the vocabulary of PaddleDetection 2.x load and build without an edit.

The files in `vocabulary/` are written for this test. Names in `AWAITED` may be missing from the table of
components: what a file says of them is left out of the judgement only as long as they are.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ppdet.config import ConfigError, Problem
from ppdet.config.components import COMPONENTS
from ppdet.experiment.config import load_config
from tests.config.toys import write
from tests.support import ROOT

FILES = Path(__file__).parent / "vocabulary"

#: Components of these families that other parts of the project bring.
AWAITED = {
    "LearningRate",
    "OptimizerBuilder",
    "VOCDataSet",
    "MultiscaleTestResize",
    "Pad",
    "Mixup",
    "RandomDistort",
    "RandomExpand",
    "RandomCrop",
    "NormalizeBox",
    "PadBox",
    "BboxXYXY2XYWH",
}

PPYOLOE = [
    "coco_detection.yml",
    "runtime.yml",
    "optimizer_ppyoloe.yml",
    "ppyoloe_crn.yml",
    "ppyoloe_reader.yml",
]
#: The second name of 2.x for the same detector.
AS_YOLOV3 = (
    "architecture: YOLOv3\nYOLOv3: {backbone: CSPResNet, neck: CustomCSPPAN, yolo_head: PPYOLOEHead,"
    " post_process: ~}\n"
)
RCNN = ["runtime.yml", "optimizer_1x.yml", "rcnn_fpn_reader.yml"]
R50_VD = (
    "ResNet: {depth: 50, variant: d, norm_type: bn, freeze_at: 0, return_idx: [0, 1, 2, 3], num_stages: 4}"
)
SSLD = f"{R50_VD[:-1]}, lr_mult_list: [0.05, 0.05, 0.1, 0.15]}}"

RTDETR = ["coco_detection.yml", "runtime.yml", "optimizer_6x.yml", "rtdetr.yml", "rtdetr_reader.yml"]
#: The encoder of an RT-DETR, and what all of them say of their training.
ENCODER = """\
find_unused_parameters: True
log_iter: 200
HybridEncoder:
  hidden_dim: {0}
  use_encoder_idx: [2]
  num_encoder_layers: {1}
  encoder_layer:
    name: TransformerLayer
    d_model: {0}
    nhead: 8
    dim_feedforward: {2}
    dropout: 0.
    activation: 'gelu'
  expansion: {3}
  depth_mult: 1.0
"""
SMALL_ENCODER = ENCODER.format(256, 1, 1024, 0.5)

#: Name -> (bases, further lines).
FAMILIES = {
    "faster_rcnn_r50_fpn_1x": ([*RCNN, "coco_detection.yml", "faster_fpn.yml"], ""),
    "faster_rcnn_r50_fpn_2x": (
        [*RCNN, "coco_detection.yml", "faster_fpn.yml"],
        "epoch: 24\nLearningRate:\n  base_lr: 0.01\n  schedulers:\n  - !PiecewiseDecay\n    gamma: 0.1\n"
        "    milestones: [16, 22]\n  - !LinearWarmup\n    start_factor: 0.1\n    steps: 1000\n",
    ),
    "faster_rcnn_r50_vd_fpn_1x": ([*RCNN, "coco_detection.yml", "faster_fpn.yml"], R50_VD),
    "faster_rcnn_r50_vd_fpn_ssld_2x": ([*RCNN, "coco_detection.yml", "faster_fpn.yml"], SSLD),
    "faster_rcnn_r34_fpn_1x": (
        [*RCNN, "coco_detection.yml", "faster_fpn.yml"],
        "ResNet:\n  depth: 34\n  freeze_at: 0\n  return_idx: [0,1,2,3]\n  num_stages: 4\n",
    ),
    "faster_rcnn_r101_fpn_2x": (
        [*RCNN, "coco_detection.yml", "faster_fpn.yml"],
        "ResNet:\n  # index 0 stands for res2\n  depth: 101\nweights: output/x/model_final\n",
    ),
    "faster_rcnn_r50_1x": (
        ["runtime.yml", "optimizer_1x.yml", "rcnn_c4_reader.yml", "coco_detection.yml", "faster_c4.yml"],
        "",
    ),
    "faster_rcnn_tta": (
        ["runtime.yml", "optimizer_1x.yml", "rcnn_tta_reader.yml", "coco_detection.yml", "faster_fpn.yml"],
        "",
    ),
    "mask_rcnn_r50_fpn_1x": ([*RCNN, "coco_instance.yml", "mask_fpn.yml"], ""),
    "mask_rcnn_r50_vd_fpn_ssld_2x": ([*RCNN, "coco_instance.yml", "mask_fpn.yml"], SSLD),
    "mask_rcnn_r50_1x": (
        ["runtime.yml", "optimizer_1x.yml", "rcnn_c4_reader.yml", "coco_instance.yml", "mask_c4.yml"],
        "",
    ),
    "cascade_rcnn_r50_fpn_1x": ([*RCNN, "coco_detection.yml", "cascade_fpn.yml"], ""),
    "cascade_mask_rcnn_r50_fpn_1x": ([*RCNN, "coco_instance.yml", "cascade_mask_fpn.yml"], ""),
    "retinanet_r50_fpn_1x": (
        [*RCNN, "coco_detection.yml", "retinanet.yml"],
        "find_unused_parameters: true\n",
    ),
    "yolov3_darknet53_270e_coco": (
        [
            "runtime.yml",
            "optimizer_270e.yml",
            "yolo_reader.yml",
            "coco_detection.yml",
            "yolov3_darknet53.yml",
        ],
        "snapshot_epoch: 5\nweights: output/yolov3_darknet53_270e_coco/model_final\n",
    ),
    "yolov3_darknet53_270e_voc": (
        ["runtime.yml", "optimizer_270e.yml", "yolo_reader.yml", "voc.yml", "yolov3_darknet53.yml"],
        "snapshot_epoch: 5\nuse_ema: true\nema_decay: 0.9998\n",
    ),
    "ppyoloe_plus_crn_s_80e_coco": (PPYOLOE, "depth_mult: 0.33\nwidth_mult: 0.50\n"),
    "ppyoloe_crn_x_300e_coco": (
        PPYOLOE,
        AS_YOLOV3 + "CSPResNet: {use_alpha: False}\ndepth_mult: 1.33\nwidth_mult: 1.25\n"
        "PPYOLOEHead: {static_assigner_epoch: 100, eval_input_size: [640, 640]}\n",
    ),
    "ppyoloe_plus_crn_t_auxhead_300e_coco": ([*PPYOLOE, "ppyoloe_crn_tiny.yml"], ""),
    "ppyoloe_plus_crn_t_auxhead_relu_300e_coco": (
        [*PPYOLOE, "ppyoloe_crn_tiny.yml"],
        "CSPResNet: {act: 'relu'}\nCustomCSPPAN: {act: 'relu'}\n"
        "PPYOLOEHead: {act: 'relu', attn_conv: None}\n",
    ),
    "ppyoloe_plus_crn_t_p2_auxhead_320_300e_coco": (
        [*PPYOLOE, "ppyoloe_crn_tiny.yml"],
        "CSPResNet: {return_idx: [0, 1, 2, 3]}\nCustomCSPPAN: {out_channels: [384, 384, 384, 384]}\n"
        "SimpleConvHead: {fpn_strides: [32, 16, 8, 4]}\nPPYOLOEHead: {fpn_strides: [32, 16, 8, 4]}\n"
        "eval_height: 320\neval_width: 320\neval_size: [320, 320]\n",
    ),
    "yolov3_r34": (
        [
            "runtime.yml",
            "optimizer_270e.yml",
            "yolo_reader.yml",
            "coco_detection.yml",
            "yolov3_darknet53.yml",
        ],
        "YOLOv3:\n  backbone: ResNet\nResNet:\n  depth: 34\n  return_idx: [1, 2, 3]\n  freeze_at: -1\n"
        "  freeze_norm: false\n  norm_decay: 0.\nload_static_weights: true\n",
    ),
    "rtdetr_r50vd": (RTDETR, "weights: output/x/model_final\nfind_unused_parameters: True\n"),
    "rtdetr_r50vd_m": (RTDETR, f"{SMALL_ENCODER}RTDETRTransformer:\n  eval_idx: 2 # the third of six\n"),
    "rtdetr_r18vd": (
        RTDETR,
        "ResNet:\n  depth: 18\n  variant: d\n  return_idx: [1, 2, 3]\n  freeze_at: -1\n  freeze_norm: false\n"
        f"  norm_decay: 0.\n{SMALL_ENCODER}RTDETRTransformer:\n  eval_idx: -1\n  num_decoder_layers: 3\n",
    ),
    "rtdetr_r101vd": (
        RTDETR,
        "ResNet: {depth: 101, lr_mult_list: [0.01, 0.01, 0.01, 0.01]}\n" + ENCODER.format(384, 1, 2048, 1.0),
    ),
    "rtdetr_hgnetv2_h": (
        RTDETR,
        "DETR:\n  backbone: PPHGNetV2\nPPHGNetV2:\n  arch: 'H'\n  return_idx: [1, 2, 3]\n  freeze_stem_only:"
        " True\n  freeze_at: 0\n  freeze_norm: True\n  lr_mult_list: [0., 0.01, 0.01, 0.01, 0.01]\n"
        + ENCODER.format(512, 2, 2048, 1.0),
    ),
}


def config_of(folder: Path, name: str, more: str = "") -> Path:
    bases, lines = FAMILIES[name]
    listed = "".join(f"  '{FILES / base}',\n" for base in bases)
    return write(folder, f"_BASE_: [\n{listed}]\n{lines}\n{more}", f"{name}.yml")


def problems_of(path: Path) -> list[Problem]:
    try:
        load_config(path)
    except ConfigError as error:
        return list(error.problems)
    return []


def is_awaited(problem: Problem) -> bool:
    missing = {name for name in AWAITED if name not in COMPONENTS}
    words = {*problem.place.path, *problem.message.replace(":", " ").split()}
    return bool(missing & words)


@pytest.mark.parametrize("name", FAMILIES)
def test_loads_unchanged(tmp_path: Path, name: str) -> None:
    faults = [str(p) for p in problems_of(config_of(tmp_path, name)) if not is_awaited(p)]
    assert not faults, "\n".join(faults)


#: What stands in for blocks whose components are not in the table.
READERS = "TrainReader: null\nEvalReader: null\nTestReader: null\nTrainDataset: null\nEvalDataset: null\n"
READERS += "LearningRate: null\nOptimizerBuilder: null\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in FAMILIES if "2x" not in n and "tta" not in n])
def test_builds(tmp_path: Path, name: str) -> None:
    """The model alone; readers and schedules are built where they are tested."""
    exp = load_config(config_of(tmp_path, name, READERS))
    model = exp.architecture.build()
    assert model.num_classes == exp.num_classes
    assert sum(p.size for p in model.parameters()) > (5e6 if "ppyoloe" in name else 20e6)


def test_what_is_written_twice_must_agree(tmp_path: Path) -> None:
    name = "yolov3_darknet53_270e_coco"
    target = "TrainReader:\n  num_classes: 81\n  batch_transforms:\n"
    target += "  - Gt2YoloTarget: {anchors: [[1, 2]], anchor_masks: [[6, 7, 8], [3, 4, 5], [0, 1, 2]],\n"
    target += "      downsample_ratios: [32, 16, 8], iou_thres: 1}\n"
    found = [str(p) for p in problems_of(config_of(tmp_path, name, target)) if not is_awaited(p)]
    assert any("TrainReader.num_classes: got 81, but num_classes is 80" in p for p in found)
    assert any("Gt2YoloTarget has no argument 'iou_thres'" in p for p in found)
    assert any(
        "Gt2YoloTarget.anchors: got the list [[1, 2]], but YOLOv3Head.anchors is [[10" in p for p in found
    )
    assert len(found) == 3


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "faster_rcnn_r50_fpn_1x",
            "FasterRCNN: {backbone: SwinTransformer}\nSwinTransformer: {embed_dim: 96, depths: [2]}\n",
            "not provided: SwinTransformer (architecture FasterRCNN)",
        ),
        (
            "faster_rcnn_r50_fpn_1x",
            "architecture: PicoDet\nPicoDet: {backbone: LCNet, head: PicoHead}\nLCNet: {scale: 1.5}\n",
            "architecture: not provided: PicoDet",
        ),
        (
            "yolov3_darknet53_270e_coco",
            "YOLOv3: {backbone: MobileNetV1, neck: YOLOv3FPN}\nMobileNetV1: {scale: 1, feature_maps: [4]}\n",
            "not provided: MobileNetV1 (architecture YOLOv3)",
        ),
        (
            "cascade_rcnn_r50_fpn_1x",
            "ResNet: {dcn_v2_stages: [1, 2, 3]}\n",
            "deformable convolution is not provided",
        ),
    ],
)
def test_what_is_not_provided_is_named(tmp_path: Path, name: str, text: str, words: str) -> None:
    found = [str(p) for p in problems_of(config_of(tmp_path, name, text)) if not is_awaited(p)]
    assert len(found) == 1, found
    assert words in found[0]


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*_*.yml")), ids=lambda p: p.stem)
def test_our_own_configs_load_and_survive_saving(tmp_path: Path, path: Path) -> None:
    exp = load_config(path)
    exp.save(tmp_path / "config.yml")
    assert load_config(tmp_path / "config.yml") == exp
