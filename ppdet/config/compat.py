"""What PaddleDetection 2.x writes into a YAML and this project does not take, as data.

A key that is listed here is accepted where its rule allows; anything else that is unknown is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Union


@dataclass(frozen=True)
class Ignored:
    """Accepted with any value, without effect."""

    reason: str


@dataclass(frozen=True)
class Only:
    """Accepted with some values only: what they ask for is what happens anyway."""

    values: tuple[Any, ...]
    reason: str


@dataclass(frozen=True)
class Option:
    """Accepted with any value; a warning says which option of the command line does what the key did.

    Attributes:
        option: The option.
        off: Values that ask for nothing, so that no warning is due.
    """

    option: str
    off: tuple[Any, ...] = (False, None)


@dataclass(frozen=True)
class Agrees:
    """Accepted if it equals what the configuration says elsewhere.

    Attributes:
        places: Dotted ``Component.argument`` or top-level keys that are compared, where they are used.
    """

    places: tuple[str, ...]


@dataclass(frozen=True)
class Keys:
    """A mapping, each of whose keys has a rule of its own.

    Attributes:
        rules: By key; another key is an error.
    """

    rules: Mapping[str, Union[Ignored, Only]]


Rule = Union[Ignored, Only, Option, Agrees, Keys]


_FOLLOWS = Ignored("follows from the part before")
_DEVICE = Ignored("every part computes on the model's device")
_EXPORT = Ignored("export wraps the model from outside")
_NCHW = Only(("NCHW",), "images are laid out NCHW")

#: Keys that any component may have.
ANY_COMPONENT: Mapping[str, Rule] = {
    "data_format": _NCHW,
    "export_onnx": _EXPORT,
    "export_eb": _EXPORT,
    "trt": _EXPORT,
    "assign_on_cpu": _DEVICE,
}

_READER: Mapping[str, Rule] = {
    "collate_batch": Ignored("batches hold padded tensors; what cannot be stacked stays a list"),
    "use_shared_memory": Ignored("used where the system has enough of it"),
    "use_process": Ignored("workers are processes"),
    "fuse_normalize": Ignored("a matter of export"),
    "num_classes": Agrees(("num_classes",)),
    "inputs_def": Ignored("sizes come from the transforms"),
    "drop_empty": Ignored("allow_empty of the dataset says whether images without objects stay"),
}

_MASKS_CUT = Ignored("masks are always cut with the image")
_MIXING = ("mixup_epoch", "mosaic_epoch")
_GRIDS = Ignored("grids follow from the features, whatever their size")
_SIGMOIDS = Only((True,), "classification uses sigmoids, as published for RT-DETR")
_NO_DROPOUT = {
    name: Only((0.0, 0, None), "dropout is not provided")
    for name in ("dropout", "attn_dropout", "act_dropout")
}
_NO_QUERY_MASKS = Only((False,), "query detectors have no masks here")
_EXPORT_WHOLE = Only((False,), "an export gives detections")
_NO_DISTILLATION = Only((False,), "distillation is not provided")
_PPYOLOE: Mapping[str, Rule] = {
    "post_process": Only((None,), "the head decodes its own outputs"),
    "for_mot": Only((False,), "tracking is not provided"),
    "for_distill": _NO_DISTILLATION,
    "feat_distill_place": Ignored("distillation is not provided"),
}
_ONE_STAGE = "other stages and blocks are not provided"
_NO_OTHER_BLOCKS = "this kind of residual block is not provided"
_STRIDES_FOLLOW = "strides follow from the neck"
_NO_BOX_LOSS = "another box loss is not provided for this head"

#: Component -> key -> rule. Of a key that the constructor takes, only `Agrees` has a meaning.
COMPONENT_KEYS: Mapping[str, Mapping[str, Rule]] = {
    "TrainReader": {**_READER},
    "EvalReader": {**_READER, **dict.fromkeys(_MIXING, Ignored("evaluation mixes nothing"))},
    "TestReader": {**_READER, **dict.fromkeys(_MIXING, Ignored("inference mixes nothing"))},
    "ResNet": {
        "ch_in": Ignored("the stem's width follows from the variant"),
        "groups": Only((1,), _NO_OTHER_BLOCKS),
        "base_width": Only((4, 64), _NO_OTHER_BLOCKS),
        "dcn_v2_stages": Only(([-1], [], None), "deformable convolution is not provided"),
        "std_senet": Only((False,), _NO_OTHER_BLOCKS),
    },
    "FPN": {
        "in_channels": _FOLLOWS,
        "norm_type": Only((None,), "the pyramid has no normalisation here"),
        "norm_decay": Ignored("the pyramid has no normalisation here"),
        "freeze_norm": Ignored("the pyramid has no normalisation here"),
        "min_level": _FOLLOWS,
        "max_level": _FOLLOWS,
        "spatial_scale": _FOLLOWS,
    },
    "YOLOv3FPN": {"in_channels": _FOLLOWS},
    "YOLOv3TinyFPN": {"in_channels": _FOLLOWS},
    "YOLOv3": {"for_mot": Only((False,), "tracking is not provided")},
    "YOLOv3Head": {"in_channels": _FOLLOWS},
    "YOLOBox": {
        "num_classes": Agrees(("num_classes",)),
        "downsample_ratio": Only((32,), _STRIDES_FOLLOW),
    },
    "YOLOv3Loss": {
        "num_classes": Agrees(("num_classes",)),
        "downsample": Only(([32, 16, 8], [32, 16]), _STRIDES_FOLLOW),
    },
    "BBoxPostProcess": {"num_classes": Agrees(("num_classes",))},
    "AnchorGenerator": {
        "variance": Only(([1.0, 1.0, 1.0, 1.0],), "anchors carry no variance; deltas have their weights"),
    },
    "RPNHead": {
        "in_channel": _FOLLOWS,
        "loss_rpn_bbox": Only((None,), _NO_BOX_LOSS),
    },
    "ProposalGenerator": {
        "eta": Only((1.0, 1), "adaptive NMS is not provided"),
        "topk_after_collect": Ignored("the best proposals of each image are taken over all levels"),
    },
    "RoIAlign": {
        "spatial_scale": _FOLLOWS,
        "canconical_level": Only((4,), "RoIs of canonical size belong to level 4"),
        "canonical_size": Only((224,), "the canonical size is 224 pixels"),
    },
    "BBoxHead": {
        "in_channel": _FOLLOWS,
        "bbox_loss": Only((None,), _NO_BOX_LOSS),
        "loss_normalize_pos": Only((False,), "losses are divided by all sampled RoIs"),
        "loss_cls": Only((None,), "another classification loss is not provided for this head"),
        "use_cot": Only((False,), "co-tuning is not provided"),
        "cot_classes": Only((None,), "co-tuning is not provided"),
        "loss_cot": Only((None, "COTLoss"), "co-tuning is not provided"),
    },
    "CascadeHead": {
        "in_channel": _FOLLOWS,
        "num_cascade_stages": Only((3,), "the cascade has three stages"),
        "bbox_loss": Only((None,), _NO_BOX_LOSS),
        "reg_class_agnostic": Only((True,), "the cascade refines one box for all classes"),
        "stage_loss_weights": Only((None,), "each stage's weight follows from their number"),
        "loss_normalize_pos": Only((False,), "losses are divided by all sampled RoIs"),
        "add_gt_as_proposals": Only(([True, False, False],), "objects are proposals of the first stage"),
    },
    "CascadeTwoFCHead": {"num_cascade_stage": Only((3,), "the cascade has three stages")},
    "Res5Head": {"feat_in": _FOLLOWS, "feat_out": _FOLLOWS},
    "MaskHead": {"in_channel": _FOLLOWS},
    "MaskFeat": {"norm_type": Only((None,), "the mask branch has no normalisation here")},
    "MaskAssigner": {"num_classes": Agrees(("num_classes",))},
    "RetinaHead": {"in_channels": _FOLLOWS, "decode_reg_out": Only((False,), _NO_BOX_LOSS)},
    "RetinaFeat": {
        "use_dcn": Only((False,), "deformable convolution is not provided"),
        "share_cls_reg": Only((False,), "the two branches have their own weights"),
    },
    "PPYOLOE": {**_PPYOLOE},
    "PPYOLOEWithAuxHead": {**_PPYOLOE},
    "CSPResNet": {"data_format": _NCHW},
    "CustomCSPPAN": {
        "in_channels": _FOLLOWS,
        "stage_fn": Only(("CSPStage",), _ONE_STAGE),
        "block_fn": Only(("BasicBlock",), _ONE_STAGE),
        "drop_block": Ignored("the regularisation of feature maps is not provided, and off in every config"),
        "use_trans": Only((False,), "a transformer in the neck is not provided"),
        "eval_size": _GRIDS,
    },
    "PPYOLOEHead": {
        "in_channels": _FOLLOWS,
        "eval_size": _GRIDS,
        "eval_input_size": _GRIDS,
        "reg_range": Only((None,), "distances go from 0 to reg_max"),
        "use_shared_conv": Only((True,), "the head has one tower per branch and level"),
        "for_distill": _NO_DISTILLATION,
        "exclude_nms": _EXPORT_WHOLE,
        "exclude_post_process": _EXPORT_WHOLE,
    },
    "SimpleConvHead": {
        "feat_in": _FOLLOWS,
        "fpn_strides": _FOLLOWS,
        "norm_type": Only(("gn",), "the auxiliary head normalises groups of channels"),
        "act": Only(("LeakyReLU",), "the activation of the auxiliary head is a leaky rectifier"),
    },
    "ATSSAssigner": {
        "num_classes": Agrees(("num_classes",)),
        "force_gt_matching": Only((False,), "objects may end up without an anchor"),
        "sm_use": Only((False,), "the assigner of rotated and small objects is not provided"),
    },
    "TaskAlignedAssigner": {"num_classes": Agrees(("num_classes",))},
    "FocalLoss": {"use_sigmoid": Only((True,), "focal loss is one of sigmoids")},
    "PPHGNetV2": {"use_lab": Only((False,), "learnable affine blocks are not provided")},
    "HybridEncoder": {
        "in_channels": _FOLLOWS,
        "feat_strides": _FOLLOWS,
        "act": Only(("silu",), "the encoder's activation is SiLU"),
        "eval_size": _GRIDS,
    },
    "TransformerLayer": {
        **_NO_DROPOUT,
        "normalize_before": Only((False,), "layers normalise after their sums"),
    },
    "RTDETRTransformer": {
        **_NO_DROPOUT,
        "backbone_feat_channels": _FOLLOWS,
        "feat_strides": _FOLLOWS,
        "position_embed_type": Ignored("queries take their position from their boxes"),
        "learnt_init_query": Only((False,), "queries start from the tokens that were selected"),
        "query_pos_head_inv_sig": Only((False,), "positions are made of boxes, not of their logits"),
        "eval_size": _GRIDS,
    },
    "DINOHead": {"eval_idx": Only((-1,), "write eval_idx of the transformer")},
    "DINOLoss": {
        "num_classes": Agrees(("num_classes",)),
        "aux_loss": Only((True,), "every layer of the decoder has its losses"),
        "use_focal_loss": _SIGMOIDS,
        "use_vfl": Only((True,), "the loss of RT-DETR is varifocal"),
        "use_uni_match": Only((False,), "every layer is matched on its own"),
        "uni_match_ind": Ignored("every layer is matched on its own"),
    },
    "HungarianMatcher": {
        "use_focal_loss": _SIGMOIDS,
        "with_mask": _NO_QUERY_MASKS,
        "num_sample_points": Ignored("there are no masks to sample"),
    },
    "DETRPostProcess": {
        "num_classes": Agrees(("num_classes",)),
        "dual_queries": Only((False,), "there is one set of queries"),
        "dual_groups": Only((0,), "there is one set of queries"),
        "use_focal_loss": _SIGMOIDS,
        "with_mask": _NO_QUERY_MASKS,
        "bbox_decode_type": Only(("origin",), "images are not padded before they are resized"),
    },
    "DETR": {
        "exclude_post_process": Only((False,), "an export gives detections"),
        "with_mask": _NO_QUERY_MASKS,
    },
    "MultiClassNMS": {
        "cpu": _DEVICE,
        "normalized": Ignored('boxes are continuous, without "+1"'),
        "background_label": Only((-1, 80), "scores have no background column"),
        "nms_eta": Only((1.0, 1), "adaptive NMS is not provided"),
        "return_index": Ignored("what NMS returns is its own matter"),
        "return_rois_num": Ignored("what NMS returns is its own matter"),
    },
    "MaskPostProcess": {"mask_resolution": _FOLLOWS},
    "COCODataSet": {"use_default_label": Ignored("class names come from the annotations or the weights")},
    "Pad": {
        "pad_mode": Only((0,), "the image stays at the top left"),
        "offsets": Only((None,), "the image stays at the top left"),
    },
    "PadBatch": {
        "pad_gt": Ignored("objects of a batch are always padded"),
        "use_padded_im_info": Ignored("sizes are those before padding, as the published models have it"),
    },
    "RandomCrop": {"is_mask_crop": _MASKS_CUT},
    "RandomResizeCrop": {
        "is_mask_crop": _MASKS_CUT,
        "ioumode": Only(("iou",), "overlap is measured as IoU"),
    },
    # Targets are made in the model, from the head's own anchors.
    "Gt2YoloTarget": {
        "anchors": Agrees(("YOLOv3Head.anchors",)),
        "anchor_masks": Agrees(("YOLOv3Head.anchor_masks",)),
        "num_classes": Agrees(("num_classes",)),
        "downsample_ratios": Only(([32, 16, 8], [32, 16]), _STRIDES_FOLLOW),
    },
}

#: Steps of a reader that are done elsewhere here: the name is accepted, its arguments by these rules.
DROPPED_COMPONENTS: Mapping[str, Mapping[str, Rule]] = {
    "FGDMask": {"stride": Ignored("distillation, which reads its masks, is not provided")},
    "Poly2Mask": {"del_poly": Ignored("masks are rasterised in the model")},
}


#: Top-level keys of 2.x that are no fields of an experiment.
TOP_LEVEL_KEYS: Mapping[str, Rule] = {
    "use_xpu": Only((False,), "Kunlun devices are not served"),
    "use_mlu": Only((False,), "Cambricon devices are not served"),
    "use_npu": Only((False,), "Ascend devices are not served"),
    "use_gcu": Only((False,), "Enflame devices are not served"),
    "use_ipu": Only((False,), "Graphcore devices are not served"),
    "use_sdaa": Only((False,), "Tecorigin devices are not served"),
    "print_flops": Ignored("--dry-run prints the size of the model"),
    "print_params": Ignored("--dry-run prints the number of parameters"),
    "load_static_weights": Ignored("the layout of a weight file is recognised from the file"),
    "save_prediction_only": Option("--save_results of ppdet infer, which needs no annotations"),
    "profiler_options": Option("--profile of ppdet train"),
    "sync_bn": Only((False,), "write norm_type: sync_bn"),
    "use_fused_allreduce_gradients": Ignored("gradients are fused where that is faster"),
    "fleet": Only((False,), "start with `ppdet launch`; DataParallel does the rest"),
    "to_static": Only((False,), "training runs in dynamic graph mode"),
    "use_cinn": Only((False,), "training runs in dynamic graph mode"),
    "init_mode": Ignored("parameters have their own initialisers"),
    "slice_infer": Option("--slice_infer of ppdet eval and infer"),
    "slice_size": Option("--slice_size of ppdet eval and infer, beside --slice_infer"),
    "overlap_ratio": Option("--overlap_ratio of ppdet eval and infer, beside --slice_infer"),
    "combine_method": Option("--combine_method of ppdet eval and infer, beside --slice_infer"),
    "match_threshold": Option("--match_threshold of ppdet eval and infer, beside --slice_infer"),
    "match_metric": Ignored("pieces of an object are compared by their IoU"),
    "early_stop": Only(
        (False, None), "not provided by this name; `patience` stops early, see docs/training.md"
    ),
    "slim": Only((None,), "model compression is not provided"),
    "ssod_method": Only((None,), "semi-supervised training is not provided"),
    "data_format": _NCHW,
    "eval_height": _GRIDS,
    "eval_width": _GRIDS,
    "eval_size": _GRIDS,
    "use_focal_loss": _SIGMOIDS,
    "trt": _EXPORT,
    "export_onnx": _EXPORT,
    "export": Keys(
        {
            "post_process": Only((True,), "an export includes decoding and NMS"),
            "nms": Only((True,), "an export includes decoding and NMS"),
            "benchmark": Only((False,), "an export includes decoding and NMS"),
            "fuse_conv_bn": Ignored("runtimes fold normalisation into convolutions when they load an export"),
        }
    ),
    "output_eval": Option("--save_results of ppdet eval"),
    "bbox_output_dir": Option("--save_results of ppdet eval"),
    "classwise": Option("--classwise of ppdet eval"),
}

#: Keys that 2.x has in another block: from where to where. In a list the item of that name is meant.
MOVED_KEYS: Mapping[tuple[str, ...], tuple[str, str]] = {
    **{
        ("OptimizerBuilder", "optimizer", key): ("OptimizerBuilder", key)
        for key in ("param_groups", "without_weight_decay_params")
    },
    ("TrainReader", "batch_transforms", "Gt2YoloTarget", "iou_thresh"): ("YOLOv3Loss", "iou_thresh"),
}
