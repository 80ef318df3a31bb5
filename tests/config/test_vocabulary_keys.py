"""Protects contract C1 in its breadth: keys that only some 2.x configs use are accepted too.

`test_vocabulary.py` has whole configs; here are the rarer spellings, each put on top of one of those. Readers
are built as well, since what a transform takes shows only then.
"""

from __future__ import annotations

import argparse
import importlib
import re
from pathlib import Path

import pytest

from ppdet.experiment.config import load_config
from tests.config.test_vocabulary import config_of, problems_of

FASTER, MASK, CASCADE = "faster_rcnn_r50_fpn_1x", "mask_rcnn_r50_fpn_1x", "cascade_rcnn_r50_fpn_1x"
PPYOLOE = "ppyoloe_plus_crn_s_80e_coco"
YOLO, RETINA = "yolov3_darknet53_270e_coco", "retinanet_r50_fpn_1x"
TARGET = (
    "Gt2YoloTarget: {anchor_masks: [[6, 7, 8], [3, 4, 5], [0, 1, 2]], anchors: [[10, 13], [16, 30], [33, 23],"
    " [30, 61], [62, 45], [59, 119], [116, 90], [156, 198], [373, 326]], downsample_ratios: [32, 16, 8]"
)
NORMALIZE = "mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], is_scale: True"

#: What it is -> (config it is put on, further lines).
SPELLINGS = {
    "runtime": (
        FASTER,
        "use_gpu: true\nuse_xpu: false\nuse_mlu: false\nuse_npu: false\nlog_iter: 20\nsave_dir: output\n"
        "snapshot_epoch: 1\nprint_flops: false\nprint_params: false\nfind_unused_parameters: true\n"
        "export:\n  post_process: True\n  nms: True\n  benchmark: False\n  fuse_conv_bn: False\n",
    ),
    "frozen stem only and plain stages": (
        FASTER,
        "ResNet: {depth: 101, variant: d, norm_type: bn, freeze_at: 0, return_idx: [0, 1, 2, 3],"
        " num_stages: 4,"
        " lr_mult_list: [0.05, 0.05, 0.1, 0.15], dcn_v2_stages: [-1], norm_decay: 0., freeze_norm: true}\n",
    ),
    "tags of schedules": (
        FASTER,
        "LearningRate:\n  base_lr: 0.02\n  schedulers:\n  - !PiecewiseDecay\n    gamma: 0.1\n"
        "    milestones: [16, 22]\n    use_warmup: true\n  - !LinearWarmup\n    start_factor: 0.1\n"
        "    steps: 1000\n",
    ),
    "cosine and exponential warm-up": (
        YOLO,
        "LearningRate:\n  base_lr: 0.01\n  schedulers:\n  - name: CosineDecay\n    max_epochs: 300\n"
        "    min_lr_ratio: 0.05\n    last_plateau_epochs: 15\n  - name: ExpWarmup\n    epochs: 5\n",
    ),
    "clipping": (CASCADE, "OptimizerBuilder:\n  clip_grad_by_norm: 35.\n"),
    "no regularizer": (YOLO, "OptimizerBuilder:\n  regularizer: false\n"),
    "further anchors of the original YOLOv3": (
        YOLO,
        "norm_type: bn\nYOLOv3Loss: {ignore_thresh: 0.5, downsample: [32, 16, 8], label_smooth: false}\n"
        "TrainReader:\n  mixup_epoch: -1\n  batch_transforms:\n  - NormalizeBox: {}\n  - PadBox:"
        f" {{num_max_boxes: 50}}\n  - BboxXYXY2XYWH: {{}}\n  - Permute: {{}}\n"
        f"  - {TARGET}, iou_thresh: 0.5}}\n",
    ),
    "average of the weights": (YOLO, "use_ema: true\nema_decay: 0.9998\nema_decay_type: threshold\n"),
    "flip while testing at several sizes": (
        FASTER,
        "EvalReader:\n  sample_transforms:\n  - Decode: {}\n  - MultiscaleTestResize: {origin_target_size: "
        "[800, 1333], target_size: [700, 900], use_flip: True, interp: 2}\n"
        f"  - NormalizeImage: {{{NORMALIZE}, norm_type: mean_std}}\n  - Permute: {{}}\n",
    ),
    "every argument of the YOLO reader": (
        YOLO,
        "TrainReader:\n  inputs_def: {num_max_boxes: 50}\n  sample_transforms:\n  - Decode: {}\n"
        "  - Mixup: {alpha: 1.5, beta: 1.5}\n"
        "  - RandomDistort: {hue: [-18, 18, 0.5], saturation: [0.5, 1.5, 0.5], contrast: [0.5, 1.5, 0.5],"
        " brightness: [0.5, 1.5, 0.5], random_apply: True, count: 4, random_channel: False}\n"
        "  - RandomExpand: {ratio: 4.0, prob: 0.5, fill_value: [123.675, 116.28, 103.53]}\n"
        "  - RandomCrop: {aspect_ratio: [0.5, 2.0], thresholds: [0.0, 0.1, 0.3, 0.5, 0.7, 0.9], scaling:"
        " [0.3, 1.0], num_attempts: 50, allow_no_crop: True, cover_all_box: False, is_mask_crop: False}\n"
        "  - RandomFlip: {prob: 0.5}\n"
        "  batch_transforms:\n"
        "  - BatchRandomResize: {target_size: [320, 352], random_size: True, random_interp: True,"
        " keep_ratio: False, interp: 2}\n  - NormalizeBox: {}\n  - PadBox: {num_max_boxes: 50}\n"
        f"  - BboxXYXY2XYWH: {{}}\n  - NormalizeImage: {{{NORMALIZE}}}\n  - Permute: {{}}\n"
        f"  - {TARGET}, iou_thresh: 1, num_classes: 80}}\n"
        "  batch_size: 8\n  shuffle: true\n  drop_last: true\n  mixup_epoch: 250\n "
        " use_shared_memory: true\n",
    ),
    "weights that are not averaged": (YOLO, "use_ema: true\nema_black_list: ['proj_conv.weight']\n"),
    "the reader of the first PP-YOLOE": (
        PPYOLOE,
        "TrainReader:\n  batch_transforms:\n  - BatchRandomResize: {target_size: [320, 352], random_size:"
        " True, random_interp: True, keep_ratio: False}\n"
        f"  - NormalizeImage: {{{NORMALIZE}}}\n  - Permute: {{}}\n"
        "  - PadGT: {}\n  - FGDMask: {stride: [8, 16, 32]}\n",
    ),
    "steps of warm-up and a rate for larger batches": (
        PPYOLOE,
        "LearningRate:\n  base_lr: 0.03\n  schedulers:\n  - !CosineDecay\n    max_epochs: 360\n"
        "  - !LinearWarmup\n    start_factor: 0.001\n    steps: 3000\n",
    ),
    "every argument of PP-YOLOE": (
        PPYOLOE,
        "PPYOLOE: {for_mot: false, for_distill: false}\n"
        "PPYOLOEHead: {in_channels: [1024, 512, 256], num_classes: 80, act: swish, reg_max: 16, reg_range: ~,"
        " eval_size: ~, trt: false, attn_conv: convbn, exclude_nms: false, exclude_post_process: false,"
        " use_shared_conv: true, for_distill: false}\n"
        "CustomCSPPAN: {in_channels: [256, 512, 1024], stage_fn: CSPStage, block_fn: BasicBlock, drop_block:"
        " false, use_alpha: false, trt: false}\nCSPResNet: {trt: false}\n",
    ),
    "the loss of the YOLO head": (
        YOLO,
        "YOLOv3Loss:\n  ignore_thresh: 0.7\n  downsample: [32, 16, 8]\n  label_smooth: false\n"
        "BBoxPostProcess:\n  decode: {name: YOLOBox, conf_thresh: 0.005, downsample_ratio: 32,"
        " clip_bbox: true}\n"
        "  nms: {name: MultiClassNMS, keep_top_k: 100, score_threshold: 0.01, nms_threshold: 0.45,"
        " nms_top_k: 1000, cpu: True}\n",
    ),
    "YOLO on ResNet50-vd": (
        YOLO,
        "YOLOv3: {backbone: ResNet}\nResNet: {depth: 50, variant: d, return_idx: [1, 2, 3],"
        " dcn_v2_stages: [-1],"
        " freeze_at: -1, freeze_norm: false, norm_decay: 0.}\n",
    ),
    "the reader of RetinaNet": (
        RETINA,
        "TrainReader:\n  sample_transforms:\n  - Decode: {}\n  - RandomFlip: {prob: 0.5}\n"
        "  - Resize: {target_size: [800, 1333], keep_ratio: true, interp: 1}\n"
        f"  - NormalizeImage: {{{NORMALIZE}}}\n  - Permute: {{}}\n"
        "  batch_transforms:\n  - PadBatch: {pad_to_stride: 32}\n  batch_size: 2\n  shuffle: true\n"
        "  drop_last: true\n  use_process: true\n  collate_batch: false\n",
    ),
    "masks": (
        MASK,
        "MaskHead:\n  head: MaskFeat\n  roi_extractor: {resolution: 14, sampling_ratio: 0, aligned: True}\n"
        "  mask_assigner: MaskAssigner\n  share_bbox_feat: False\nMaskFeat: {num_convs: 4,"
        " out_channel: 256}\n"
        "MaskAssigner: {mask_resolution: 28}\nMaskPostProcess: {binary_thresh: 0.5}\n",
    ),
    "readers of 2.0": (
        FASTER,
        "TrainReader:\n  sample_transforms:\n  - Decode: {}\n  - RandomFlip: {}\n"
        f"  - NormalizeImage: {{{NORMALIZE}}}\n  - Permute: {{}}\n"
        "  batch_transforms:\n  - PadBatch: {pad_to_stride: 32, use_padded_im_info: false, pad_gt: true}\n"
        "  batch_size: 1\n  drop_empty: true\n"
        "EvalReader:\n  batch_transforms:\n  - PadBatch: {pad_to_stride: -1, pad_gt: false}\n"
        "  batch_size: 1\n  shuffle: false\n  drop_last: false\n  drop_empty: false\n",
    ),
    "reader of one size": (
        FASTER,
        "TestReader:\n  inputs_def: {image_shape: [1, 3, 640, 640]}\n  sample_transforms:\n  - Decode: {}\n"
        "  - Resize: {interp: 2, target_size: [640, 640], keep_ratio: True}\n  - Pad: {size: 640}\n"
        f"  - NormalizeImage: {{{NORMALIZE}}}\n  - Permute: {{}}\n  batch_size: 1\n  fuse_normalize: true\n",
    ),
}


@pytest.mark.parametrize("what", SPELLINGS)
def test_is_accepted(tmp_path: Path, what: str) -> None:
    name, lines = SPELLINGS[what]
    path = config_of(tmp_path, name, lines)
    assert not [str(problem) for problem in problems_of(path)]
    experiment = load_config(path)
    for key in ("TrainReader", "EvalReader", "TestReader", "LearningRate", "OptimizerBuilder"):
        getattr(experiment, key).build()


@pytest.mark.parametrize(
    ("name", "lines", "missing"),
    [
        (FASTER, "FasterRCNN: {neck: BiFPN}\nBiFPN: {out_channel: 256}\n", "BiFPN"),
        (FASTER, "FasterRCNN: {neck: HRFPN, backbone: HRNet}\nHRFPN: {}\nHRNet: {width: 18}\n", "HRNet"),
        (FASTER, "architecture: FCOS\nFCOS: {backbone: ResNet, neck: FPN, fcos_head: FCOSHead}\n", "FCOS"),
        (YOLO, "architecture: PicoDet\nPicoDet: {backbone: LCNet}\n", "PicoDet"),
        (YOLO, "YOLOv3: {neck: PPYOLOFPN}\nPPYOLOFPN: {coord_conv: true}\n", "PPYOLOFPN"),
        (
            FASTER,
            "FasterRCNN: {backbone: SwinTransformer}\nSwinTransformer: {embed_dim: 96}\n",
            "SwinTransformer",
        ),
        (FASTER, "FasterRCNN: {backbone: VisionTransformer}\n", "VisionTransformer"),
    ],
)
def test_other_families_are_named(tmp_path: Path, name: str, lines: str, missing: str) -> None:
    found = [str(problem) for problem in problems_of(config_of(tmp_path, name, lines))]
    assert any(f"not provided: {missing}" in text for text in found), found


def test_what_the_reader_says_of_anchors_reaches_the_loss(tmp_path: Path) -> None:
    """2.x has it in the reader, where it makes targets; here the loss does."""
    lines = SPELLINGS["further anchors of the original YOLOv3"][1]
    head = load_config(config_of(tmp_path, YOLO, lines)).architecture.arguments["yolo_head"]
    assert head.arguments["loss"].arguments["iou_thresh"] == 0.5
    twice = lines.replace("ignore_thresh: 0.5,", "ignore_thresh: 0.5, iou_thresh: 0.6,")
    (problem,) = problems_of(config_of(tmp_path, YOLO, twice))
    assert "TrainReader.batch_transforms.4.Gt2YoloTarget.iou_thresh" in str(problem)
    assert "is written twice, here and as YOLOv3Loss.iou_thresh" in str(problem)


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("slice_infer: true", "--slice_infer of ppdet eval and infer"),
        ("slice_size: [640, 640]", "--slice_size of ppdet eval and infer, beside --slice_infer"),
        ("overlap_ratio: [0.25, 0.25]", "--overlap_ratio of ppdet eval and infer, beside --slice_infer"),
        ("combine_method: nms", "--combine_method of ppdet eval and infer, beside --slice_infer"),
        ("match_threshold: 0.6", "--match_threshold of ppdet eval and infer, beside --slice_infer"),
        ("save_prediction_only: true", "--save_results of ppdet infer, which needs no annotations"),
        ("profiler_options: batch_range=[1,2]", "--profile of ppdet train"),
        ("output_eval: out", "--save_results of ppdet eval"),
        ("bbox_output_dir: out", "--save_results of ppdet eval"),
        ("classwise: true", "--classwise of ppdet eval"),
    ],
)
def test_keys_that_are_options_here_are_accepted_and_say_so(
    tmp_path: Path, line: str, option: str, caplog: pytest.LogCaptureFixture
) -> None:
    key = line.partition(":")[0]
    load_config(config_of(tmp_path, FASTER, f"{key}: null\n"))
    assert not caplog.records
    path = config_of(tmp_path, FASTER, f"{line}\n")
    load_config(path)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert re.search(rf"yml:\d+: {key}: ", record.getMessage())
    assert record.getMessage().endswith(f" has no effect in a configuration; use {option}")
    verbs = [verb for verb in ("eval", "infer", "train") if verb in option.partition(" of ppdet ")[2]]
    for verb in verbs:
        assert option.split()[0] in option_names(verb)


def option_names(verb: str) -> set[str]:
    parser = argparse.ArgumentParser()
    importlib.import_module(f"ppdet.cli.{verb}").add_arguments(parser)
    return {name for action in parser._actions for name in action.option_strings}
