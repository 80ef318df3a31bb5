"""Protects what docs/training.md says about mixed precision on CPUs: Paddle has none there.

If a test fails, a newer Paddle has it, and `ppdet.engine.amp` may then offer bfloat16 on CPUs too.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import paddle
import pytest
from paddle import Tensor, nn

on_cpu = pytest.mark.skipif(paddle.get_device() != "cpu", reason="says something about CPUs")


@on_cpu
@pytest.mark.filterwarnings("ignore:amp_guard")
@pytest.mark.parametrize("level", ["O1", "O2"])
@pytest.mark.parametrize("operators", [None, ["conv2d", "matmul_v2", "linear"]])
def test_autocast_of_paddle_leaves_cpus_in_float32(
    level: Literal["O1", "O2"], operators: list[str] | None
) -> None:
    paddle.seed(0)
    conv, linear = nn.Conv2D(3, 4, 3), nn.Linear(4, 2)
    image = paddle.randn([1, 3, 8, 8])
    plain = linear(conv(image).mean([2, 3]))
    with paddle.amp.auto_cast(level=level, dtype="bfloat16", custom_white_list=operators):
        features = conv(image)
        mixed = linear(features.mean([2, 3]))
    assert features.dtype == mixed.dtype == paddle.float32
    np.testing.assert_array_equal(mixed.numpy(), plain.numpy())


@on_cpu
@pytest.mark.parametrize("name", ["matmul", "conv2d", "batch_norm", "relu", "add", "roi_align"])
def test_operators_of_a_detector_have_no_bfloat16_on_cpus(name: str) -> None:
    def half(*shape: int) -> Tensor:
        return paddle.ones(shape).astype("bfloat16")

    operators = {
        "matmul": lambda: paddle.matmul(half(2, 2), half(2, 2)),
        "conv2d": lambda: nn.functional.conv2d(half(1, 2, 4, 4), half(2, 2, 3, 3)),
        "batch_norm": lambda: nn.BatchNorm2D(2).eval()(half(1, 2, 4, 4)),
        "relu": lambda: nn.functional.relu(half(2, 2)),
        "add": lambda: half(2) + half(2),
        "roi_align": lambda: paddle.vision.ops.roi_align(
            half(1, 2, 4, 4), half(1, 4), paddle.ones([1], "int32"), 2
        ),
    }
    with pytest.raises(RuntimeError, match="kernel"):
        operators[name]()
