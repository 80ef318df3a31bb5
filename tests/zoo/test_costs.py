"""Protects the published sizes of networks in the zoo table, computed here from the configs."""

from __future__ import annotations

import paddle
import pytest
from paddle import Tensor, nn

from ppdet import build_model, load_config
from ppdet.modeling.detectors.ppyoloe import PPYOLOE
from ppdet.modeling.initial_weights import without_random_weights
from ppdet.modeling.reparameterize import for_inference
from ppdet.zoo import ZooEntry, entries

SIZE, MEASURED = 640, 128
ROWS = [entry for entry in entries() if entry.gflops is not None and entry.name.startswith("ppyoloe")]


def cost_of(model: PPYOLOE) -> tuple[float, float]:
    """Millions of parameters and 10^9 operations at `SIZE`, two per multiplication and addition.

    Convolutions are all that counts; they are measured on a smaller image, since their cost follows its area.
    """
    macs = 0

    def count(layer: nn.Conv2D, _: object, output: Tensor) -> None:
        nonlocal macs
        macs += layer.weight.size * output.shape[2] * output.shape[3]

    for layer in model.sublayers():
        if isinstance(layer, nn.Conv2D):
            layer.register_forward_post_hook(count)
    with paddle.no_grad():
        model.raw_outputs(paddle.zeros([1, 3, MEASURED, MEASURED]))
    parameters = sum(
        p.size
        for name, p in model.named_parameters()
        if not name.startswith("aux_") and not name.endswith(("._mean", "._variance"))
    )
    return parameters / 1e6, 2 * macs * (SIZE / MEASURED) ** 2 / 1e9


def test_there_are_rows() -> None:
    assert len(ROWS) == 9


@pytest.mark.slow
@pytest.mark.parametrize("entry", ROWS, ids=lambda entry: entry.name)
def test_published_sizes(entry: ZooEntry) -> None:
    with without_random_weights():  # only sizes are counted
        model = build_model(load_config(str(entry.config).removesuffix(".yml")))
    assert isinstance(model, PPYOLOE)
    model.eval()
    # The figures of t are those of the form that trains, the others' of the form that detects.
    model = model if "auxhead" in entry.name else for_inference(model)
    assert cost_of(model) == pytest.approx((entry.parameters, entry.gflops), rel=0.02)
