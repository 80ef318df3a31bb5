"""An RT-DETR small enough for quick tests."""

from __future__ import annotations

from typing import Any

import paddle

from ppdet.config.spec import Spec
from ppdet.modeling.backbones.resnet import ResNet
from ppdet.modeling.detectors.detr import DETR
from ppdet.modeling.heads.detr import DETRPostProcess
from ppdet.modeling.layers.transformer_layer import TransformerLayer
from ppdet.modeling.necks.hybrid_encoder import HybridEncoder
from ppdet.modeling.transformers.rtdetr import RTDETRTransformer


def small_detr(*, num_classes: int = 3, **transformer: Any) -> DETR:
    """`num_classes` classes, 32 channels, 20 queries, two decoder layers; its predictions are spread."""
    settings = {
        "hidden_dim": 32,
        "num_queries": 20,
        "num_decoder_layers": 2,
        "nhead": 4,
        "dim_feedforward": 64,
        "num_denoising": 10,
    }
    model = DETR(
        num_classes=num_classes,
        backbone=Spec.of(ResNet, depth=18, return_idx=[1, 2, 3], freeze_norm=False, freeze_at=-1),
        neck=Spec.of(
            HybridEncoder,
            hidden_dim=32,
            encoder_layer=Spec.of(TransformerLayer, nhead=4, dim_feedforward=64, activation="gelu"),
            expansion=0.5,
        ),
        transformer=Spec.of(RTDETRTransformer, **{**settings, **transformer}),
        post_process=Spec.of(DETRPostProcess, num_top_queries=30),
    )
    # Fresh heads give every query the same box and nearly the same score, which tells nothing apart.
    for name, parameter in model.named_parameters():
        if "bbox_head" in name and name.endswith("layers.2.weight"):
            parameter.set_value(paddle.randn(parameter.shape) * 0.3)
        elif name.endswith("score_head.weight") or ("score_head." in name and name.endswith(".weight")):
            parameter.set_value(paddle.randn(parameter.shape) * 0.5)
    return model
