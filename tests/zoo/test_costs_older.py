"""Protects the sizes in the zoo table of the detectors that publish none: counted here from the configs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import paddle
import pytest
from paddle import Tensor, nn

from ppdet import build_model, load_config
from ppdet.modeling.detectors.single_stage import SingleStageDetector
from ppdet.modeling.detectors.two_stage import TwoStageDetector
from ppdet.modeling.initial_weights import without_random_weights
from ppdet.zoo import entries

MEASURED = 256
#: Detections whose masks are made, as many as an image may have.
DETECTIONS = 100
FAMILIES = ("faster", "mask", "cascade", "retinanet", "yolov3")
ROWS = [entry for entry in entries() if entry.gflops is not None and entry.name.startswith(FAMILIES)]
#: Networks by their size: schedules of 1x and 2x train the same ones.
CONFIGS = {(entry.parameters, entry.gflops): str(entry.config) for entry in ROWS}


def image_area(config: str) -> float:
    """Pixels of an image of the published cost: 800 x 1333 for R-CNN and RetinaNet, 608 x 608 for YOLOv3."""
    return 608 * 608 if config.startswith("yolov3") else 800 * 1333


def operations_of(model: TwoStageDetector | SingleStageDetector, area: float) -> float:
    """10^9 operations of an image, two per multiplication and addition, of convolutions and linear layers.

    Maps are measured on a smaller image, since their cost follows its area. Layers after RoIAlign cost the
    same for each region: they run for few, and are counted for all proposals that the RPN may give and, in
    their mask part, for `DETECTIONS`.
    """
    growth = area / MEASURED**2
    of_regions: dict[int, str] = {}
    calls: Counter[int] = Counter()
    proposals = 0
    if isinstance(model, TwoStageDetector):
        proposals = model.rpn_head.test_proposal.post_nms_top_n
        model.rpn_head.test_proposal.post_nms_top_n = 2
        for part in ("bbox_head", "mask_head"):
            head = getattr(model, part)
            of_regions |= {id(layer): part for layer in (head.sublayers() if head is not None else [])}
    operations = 0.0

    def count(layer: nn.Layer, _: Any, output: Tensor) -> None:
        nonlocal operations
        macs = layer.weight.size
        if not isinstance(layer, nn.Linear):
            macs *= output.shape[2] * output.shape[3]
        if isinstance(layer, nn.Conv2DTranspose):
            macs //= (
                layer.weight.shape[2] * layer.weight.shape[3]
            )  # each output has one tap: kernel equals stride
        if id(layer) in of_regions:
            # What masks share with boxes runs a second time, for the detections.
            again = of_regions[id(layer)] == "mask_head" or calls[id(layer)]
            operations += 2 * macs * (DETECTIONS if again else proposals)
        else:
            operations += 2 * macs * growth
        calls[id(layer)] += 1

    for layer in model.sublayers():
        if isinstance(layer, (nn.Conv2D, nn.Conv2DTranspose, nn.Linear)):
            layer.register_forward_post_hook(count)
    with paddle.no_grad():
        images = paddle.zeros([1, 3, MEASURED, MEASURED])
        if isinstance(model, SingleStageDetector):
            model.raw_outputs(images)
        else:
            model.detect(images, paddle.full([1, 2], float(MEASURED)), paddle.ones([1, 2]))
    return operations / 1e9


def test_every_older_detector_with_an_ap_has_its_size() -> None:
    without = [
        entry.name
        for entry in entries()
        if entry.box_ap is not None
        and entry.config
        and entry.name.startswith(FAMILIES)
        and entry.gflops is None
    ]
    assert without == []
    assert len(ROWS) == 26


@pytest.mark.slow
@pytest.mark.parametrize(("sizes", "config"), CONFIGS.items(), ids=CONFIGS.values())
def test_sizes(sizes: tuple[float, float], config: str) -> None:
    with without_random_weights():  # only sizes are counted
        model = build_model(load_config(config.removesuffix(".yml")))
    model.eval()
    parameters = sum(
        p.size for name, p in model.named_parameters() if not name.endswith(("._mean", "._variance"))
    )
    found = (parameters / 1e6, operations_of(model, image_area(config)))
    assert found == pytest.approx(sizes, rel=0.005)
