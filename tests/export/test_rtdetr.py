"""Protects exports without NMS: fixed outputs, an opset that runtimes know, OpenVINO where it is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from ppdet.export.info import describe
from ppdet.export.onnx import export_onnx
from tests.export.small import NAMES, reader, small_model
from tests.support import requires_onnx


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = small_model("rtdetr")
    return export_onnx(model, tmp_path_factory.mktemp("rtdetr"), describe(model, reader(), NAMES))


@requires_onnx
def test_there_is_no_nms(exported: Path) -> None:
    import onnx

    model = onnx.load(str(exported))
    operations = {node.op_type for node in model.graph.node}
    assert "GridSample" in operations
    assert not {"NonMaxSuppression", "NonZero", "Loop", "If"} & operations
    assert min(opset.version for opset in model.opset_import if not opset.domain) >= 16
