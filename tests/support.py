"""Where shared test material is, and how to skip when it is absent."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests import reference_weights

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("PPDET_REFERENCE", ROOT.parent / "shared"))
GOLDENS = SHARED / "goldens"
#: A part of the goldens that every clone has (`tests/golden/make.py`).
SMALL_GOLDENS = ROOT / "tests" / "golden"
TINY_COCO = SHARED / "data" / "tiny_coco"

#: Marks a test that reads reference material kept beside the checkout, not in it.
requires_shared = pytest.mark.skipif(
    not GOLDENS.is_dir(), reason="reference material (../shared beside the checkout) is absent"
)

#: Whether this machine can export to ONNX; every Python before 3.13 must.
CAN_EXPORT_ONNX = sys.version_info < (3, 13) or importlib.util.find_spec("paddle2onnx") is not None
requires_onnx = pytest.mark.skipif(
    not CAN_EXPORT_ONNX, reason="paddle2onnx has no build for Python 3.13 and newer"
)


requires_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None,
    reason="openvino is not installed: pip install 'ppdet[openvino]'",
)


def skip_where_openvino_reorders_ties(folder: Path) -> None:
    """Skip a test of a detector with random weights, whose many equal scores OpenVINO must keep in order.

    ONNX says that the first of equal numbers comes first. OpenVINO's kernel for processors with AVX-512
    does so,
    that for AVX2 does not. Where scores are equal an export then differs, and its verification says so.
    """
    import onnx
    import openvino

    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 120])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, 60])
    i = onnx.helper.make_tensor_value_info("i", onnx.TensorProto.INT64, [2, 60])
    k = onnx.numpy_helper.from_array(np.array([60]), "k")
    node = onnx.helper.make_node("TopK", ["x", "k"], ["y", "i"])
    graph = onnx.helper.make_graph([node], "g", [x], [y, i], [k])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 16)])
    onnx.save(model, folder / "ties.onnx")
    scores = np.repeat(np.random.default_rng(0).random((2, 12), np.float32), 10, axis=1)
    found = openvino.Core().compile_model(str(folder / "ties.onnx"), "CPU")({"x": scores})["i"]
    if not np.array_equal(found, np.argsort(-scores, axis=1, kind="stable")[:, :60]):
        pytest.skip("on this processor OpenVINO's TopK takes equal scores in another order than ONNX says")


def golden_file(name: str) -> Path:
    """A file of goldens: the full one, or the small one where that is absent."""
    return GOLDENS / name if (GOLDENS / name).is_file() else SMALL_GOLDENS / name


def load_golden(name: str) -> tuple[Any, dict[str, Any]]:
    """Arrays and meta of ``goldens/<name>.npz``."""
    arrays = np.load(golden_file(f"{name}.npz"))
    return arrays, json.loads(str(arrays["meta"])) if "meta" in arrays.files else {}


def reference_module(name: str = "") -> ModuleType:
    """What makes weights from names: `tests.reference_weights`, or another module of the goldens folder."""
    if not name:
        return reference_weights
    found = importlib.util.spec_from_file_location(name, GOLDENS / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def load_reference_weights(model: Any) -> None:
    """Fill every entry of a model's state dict from its name, as the goldens were made."""
    tensor = reference_module().reference_tensor
    missing, unexpected = model.set_state_dict(
        {key: tensor(key, value.shape) for key, value in model.state_dict().items()}
    )
    assert not missing
    assert not unexpected
