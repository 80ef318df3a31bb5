"""Protects that what a detector computes with has kernels for GPUs, as far as that shows without one."""

from __future__ import annotations

import json

import pytest

from benchmarks.gpu_kernels import CONFIGS, STORED, launches_of, missing


@pytest.fixture(scope="module")
def kernels() -> dict[str, list[str]]:
    stored: dict[str, list[str]] = json.loads(STORED.read_text("utf-8"))
    return stored


@pytest.mark.parametrize("config", CONFIGS)
def test_every_kernel_exists_for_gpus(config: str, kernels: dict[str, list[str]]) -> None:
    for name, launches in launches_of(config).items():
        assert launches["conv2d"]["float32"] > 0
        assert missing(launches, kernels, train=name == "train") == []


def test_a_kernel_of_the_cpu_alone_is_reported(kernels: dict[str, list[str]]) -> None:
    once = {"float16": 0, "bfloat16": 0, "float32": 1, "other": 0}
    assert missing({"matrix_nms": once, "conv2d": once}, kernels, train=True) == ["matrix_nms"]
    assert missing({"nms": {**once, "float16": 1}}, kernels, train=False) == ["nms float16"]
