"""Protects the published sizes of RT-DETR in the zoo table, computed here from the configs."""

from __future__ import annotations

from typing import Any

import paddle
import pytest
from paddle import Tensor, nn

from ppdet import build_model, load_config
from ppdet.modeling.detectors.detr import DETR
from ppdet.modeling.initial_weights import without_random_weights
from ppdet.modeling.layers.attention import SelfAttention
from ppdet.modeling.reparameterize import for_inference
from ppdet.zoo import ZooEntry, entries

SIZE, MEASURED, QUERIES = 640, 128, 300
GROWTH = (SIZE / MEASURED) ** 2
ROWS = [entry for entry in entries() if entry.gflops is not None and entry.name.startswith("rtdetr")]


def operations_of(model: DETR) -> float:
    """10^9 operations at `SIZE`, two per multiplication and addition: convolutions, linear layers, attention.

    Measured on a smaller image: the cost of maps and of their tokens follows the area, that of queries does
    not.
    """
    macs = 0.0

    def count(layer: nn.Layer, _: Any, output: Tensor) -> None:
        nonlocal macs
        if isinstance(layer, nn.Conv2D):
            macs += GROWTH * layer.weight.size * output.shape[2] * output.shape[3]
            return
        tokens = output.shape[1] * (1 if output.shape[1] == QUERIES else GROWTH)
        if isinstance(layer, nn.Linear):
            macs += tokens * layer.weight.size
        else:
            macs += tokens * layer.in_proj_weight.size + 2 * tokens**2 * output.shape[2]

    for layer in model.sublayers():
        if isinstance(layer, (nn.Conv2D, nn.Linear, SelfAttention)):
            layer.register_forward_post_hook(count)
    with paddle.no_grad():
        model.transformer(model.neck(model.backbone(paddle.zeros([1, 3, MEASURED, MEASURED]))))
    return 2 * macs / 1e9


def test_there_are_rows() -> None:
    assert len(ROWS) == 8


@pytest.mark.slow
@pytest.mark.parametrize("entry", ROWS, ids=lambda entry: entry.name)
def test_published_sizes(entry: ZooEntry) -> None:
    with without_random_weights():  # only sizes are counted
        model = build_model(load_config(str(entry.config).removesuffix(".yml")))
    assert isinstance(model, DETR)
    parameters = sum(p.size for name, p in model.named_parameters() if "._" not in name)
    # Published in whole millions, some cut and some rounded; both figures count the form that trains, and the
    # parameters of H the form that detects.
    if "_h_" in entry.name:
        fast = for_inference(model)
        parameters = sum(p.size for name, p in fast.named_parameters() if "._" not in name)
    assert parameters / 1e6 == pytest.approx(entry.parameters, abs=1)
    model.eval()
    assert operations_of(model) == pytest.approx(entry.gflops, rel=0.02)
