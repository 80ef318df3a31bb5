"""What the benchmarks count by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip(
    "onnx", reason="counting operations runs an ONNX file: pip install 'ppdet[export]'"
)
pytest.importorskip(
    "onnxruntime", reason="counting operations runs an ONNX file: pip install 'ppdet[export]'"
)


@pytest.fixture
def arithmetic(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module beside the benchmarks, which are no package."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "benchmarks")
    import arithmetic

    return arithmetic


def small_network(path: Path) -> None:
    """A convolution of 3 to 8 channels, 3x3; the mean of each; a matrix product of 8 to 5."""
    make, weights = onnx.helper.make_node, np.random.default_rng(0)
    constants = {"kernel": (8, 3, 3, 3), "matrix": (8, 5)}
    graph = onnx.helper.make_graph(
        [
            make("Conv", ["image", "kernel"], ["maps"], pads=[1, 1, 1, 1]),
            make("ReduceMean", ["maps"], ["means"], axes=[2, 3], keepdims=0),
            make("MatMul", ["means", "matrix"], ["scores"]),
        ],
        "small",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 3, "h", "w"])],
        [onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [1, 5])],
        [onnx.numpy_helper.from_array(weights.random(s, np.float32), n) for n, s in constants.items()],
    )
    opset = [onnx.helper.make_opsetid("", 16)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))


def test_operations_are_those_of_convolutions_and_matrix_products(arithmetic: Any, tmp_path: Path) -> None:
    small_network(tmp_path / "small.onnx")
    feeds = [{"image": np.zeros((1, 3, h, w), np.float32)} for h, w in ((6, 4), (12, 8))]
    found = arithmetic.network_flops(tmp_path / "small.onnx", feeds)
    assert found == [2.0 * (24 * 8 * 27 + 8 * 5), 2.0 * (96 * 8 * 27 + 8 * 5)]


def test_speed_of_matrix_products_is_of_the_fastest(arithmetic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 4.0, 10.0, 12.0])
    monkeypatch.setattr(arithmetic, "SIZE", 8)
    monkeypatch.setattr(arithmetic, "TRIES", 2)
    monkeypatch.setattr(arithmetic.time, "perf_counter", lambda: next(ticks))
    assert arithmetic.matrix_product_flops() == 2 * 8**3 / 2.0
