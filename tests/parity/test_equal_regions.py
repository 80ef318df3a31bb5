"""Protects goldens that share a computation: outputs are taken over only where they would be the same."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import Tensor

from tests.export.small import small_model
from tests.parity import equal_regions


@paddle.no_grad()
def test_outputs_are_taken_over_for_equal_weights_and_regions_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = small_model("faster_c4"), small_model("mask_c4")
    second.bbox_head.set_state_dict(first.bbox_head.state_dict())
    runs: list[str] = []
    for name, model in (("first", first), ("second", second)):
        compute = model.bbox_head._outputs_of

        def counted(regions: Tensor, stage: int, compute=compute, name=name):  # type: ignore[no-untyped-def]
            runs.append(name)
            return compute(regions, stage)

        monkeypatch.setattr(model.bbox_head, "_outputs_of", counted)
        equal_regions.computes_once(model, features=True)
    regions = paddle.randn([2, 256, 14, 14])
    expected, taken = (model.bbox_head._outputs_of(regions, 0) for model in (first, second))
    assert runs == ["first"]
    np.testing.assert_array_equal(taken.class_logits.numpy(), expected.class_logits.numpy())

    moved = regions.clone()
    moved[1, 7, 3, 3] += 1e-6
    second.bbox_head._outputs_of(moved, 0)
    assert runs == ["first", "second"]
    statistics = dict(second.bbox_head.named_buffers()) | dict(second.bbox_head.named_parameters())
    for key in ("_variance", "branch2a.conv.weight", "bbox_score.bias"):
        value = next(value for name, value in statistics.items() if name.endswith(key))
        value.set_value(value * 1.001 + 1e-3)
        second.bbox_head._outputs_of(regions, 0)
        assert runs.pop() == "second"
        assert runs == ["first", "second"]
    second.bbox_head.with_pool = False
    with pytest.raises(ValueError):
        second.bbox_head._outputs_of(regions, 0)  # the layers after it cannot take maps
