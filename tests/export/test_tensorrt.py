"""Protects what is said of TensorRT: what it does not document is told (exports: `test_families`)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ppdet import load_config
from ppdet.cli.export import _tensorrt
from ppdet.export.sessions import INPUTS
from ppdet.export.tensorrt import CANDIDATES, TOP_K, cast_operands, obstacles, support
from tests.support import ROOT, requires_onnx

pytestmark = requires_onnx


def test_sorts_of_one_image_are_short_enough() -> None:
    # Class-wise NMS sorts its candidates and a spare one; proposals are sorted by level, then all that are
    # left.
    assert CANDIDATES + 1 < TOP_K
    for config in ("faster_rcnn_r50_fpn_1x_coco", "mask_rcnn_r50_fpn_1x_coco"):
        found = re.search(r"test_proposal:.*?pre_nms_top_n: (\d+)", load_config(config).to_yaml(), re.DOTALL)
        assert found is not None
        assert int(found[1]) < TOP_K


def node(op: str, inputs: list[str], outputs: list[str], **options: Any) -> Any:
    import onnx

    return onnx.helper.make_node(op, inputs, outputs, **options)


def saved(path: Path, nodes: list[Any], *, kind: str = "FLOAT", opset: int = 16, **constants: Any) -> Path:
    """A model of some nodes from ``x`` to ``y``."""
    import onnx

    made = onnx.helper.make_tensor_value_info("x", getattr(onnx.TensorProto, kind), ["n", 4])
    end = onnx.ValueInfoProto()
    end.name = "y"
    tensors = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = onnx.helper.make_graph(nodes, "g", [made], [end], tensors)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)]), str(path))
    return path


@pytest.mark.parametrize(
    ("nodes", "options", "expected"),
    [
        ([("Unique", ["x"], ["y"], {})], {}, "Unique: not supported"),
        ([("NonZero", ["x"], ["y"], {})], {"kind": "BOOL"}, "NonZero of BOOL: only of FLOAT, FLOAT16"),
        ([("MaxPool", ["x"], ["y", "i"], {"kernel_shape": [1]})], {}, "MaxPool with indices or dilations"),
        ([("TopK", ["x", "k"], ["y", "i"], {})], {"k": [3840]}, "TopK of 3840: of fewer than 3840"),
        ([("TopK", ["x", "k"], ["y", "i"], {"sorted": 0})], {"k": [2]}, "TopK unsorted: only sorted"),
        (
            [("ScatterND", ["x", "i", "u"], ["y"], {"reduction": "add"})],
            {"i": [[0]], "u": np.zeros((1, 4), np.float32)},
            "ScatterND with reduction add: only none",
        ),
        (
            [("Shape", ["x"], ["s"], {}), ("Squeeze", ["x", "s"], ["y"], {})],
            {},
            "Squeeze with computed axes: only with constant ones",
        ),
        ([("Relu", ["x"], ["y"], {})], {"opset": 8}, "opset 8: TensorRT 10.15 takes 9 to 24"),
        ([("Relu", ["x"], ["y"], {})], {}, ""),
        ([("TopK", ["x", "k"], ["y", "i"], {})], {"k": [3839]}, ""),
    ],
)
def test_what_is_beyond_the_documentation_is_told(
    tmp_path: Path, nodes: list[Any], options: dict[str, Any], expected: str
) -> None:
    made = [node(op, inputs, outputs, **settings) for op, inputs, outputs, settings in nodes]
    found = obstacles(saved(tmp_path / "m.onnx", made, **options))
    assert [text.startswith(expected) for text in found] == [True] if expected else found == []
    told = _tensorrt(tmp_path / "m.onnx")
    assert ("does not document all of m.onnx" in told) == bool(expected)


def test_a_bound_shows_through_a_minimum(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Min", ["s", "most"], ["k2"]),
        node("Gather", ["k2", "first"], ["k"]),
        node("TopK", ["x", "k"], ["y", "i"]),
    ]
    path = saved(tmp_path / "m.onnx", nodes, most=np.array([5000, 5000]), first=np.array([0]))
    assert obstacles(path) == ["TopK of 5000: of fewer than 3840"]


def test_casts_change_no_result(tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    nodes = [
        node("Cast", ["x"], ["b"], to=onnx.TensorProto.BOOL),
        node("Cast", ["b"], ["l"], to=onnx.TensorProto.INT64),
        node("CumSum", ["l", "axis"], ["c"]),
        node("NonZero", ["b"], ["z"]),
        node("Transpose", ["z"], ["zt"], perm=[1, 0]),
        node("GatherND", ["c", "zt"], ["y"]),
    ]
    path = saved(tmp_path / "m.onnx", nodes, axis=np.array(0))
    model = onnx.load(str(path))
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    onnx.save(model, str(path))
    assert obstacles(path) != []
    x = (np.random.default_rng(0).random((50, 4)) > 0.5).astype(np.float32)
    before = onnxruntime.InferenceSession(path).run(None, {"x": x})[0]
    cast_operands(model)
    onnx.save(model, str(path))
    assert obstacles(path) == []
    after = onnxruntime.InferenceSession(path).run(None, {"x": x})[0]
    np.testing.assert_array_equal(after, before)
    assert before.dtype == after.dtype == np.int64


def test_the_documented_command_names_the_inputs() -> None:
    page = (ROOT / "docs/export.md").read_text("utf-8")
    for option in ("minShapes", "optShapes", "maxShapes"):
        line = next(line for line in page.splitlines() if f"--{option}=" in line)
        names = [part.partition(":")[0] for part in line.partition("=")[2].split()[0].split(",")]
        assert tuple(names) == INPUTS


def test_the_table_is_whole() -> None:
    assert support().opsets == (9, 24)
    assert len(support().types) > 140
    assert "INT8" not in support().types["Conv"]
