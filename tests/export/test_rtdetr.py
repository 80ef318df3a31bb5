"""Protects exports without NMS: fixed outputs, an opset that runtimes know, OpenVINO where it is there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ppdet.export.info import describe
from ppdet.export.onnx import export_onnx
from ppdet.export.verify import generated_images, prepare
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


@requires_onnx
def test_openvino_detects_the_same(exported: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="openvino is not installed: pip install openvino")
    # On processors with bfloat16 OpenVINO computes in it unless it is told not to.
    precision = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(exported), "CPU", precision)
    model = small_model("rtdetr")
    for batch in prepare(reader(), generated_images()):
        inputs = (batch.images, batch.image_sizes, batch.scale_factors)
        expected = model.detect(*inputs)
        names = ("image", "im_shape", "scale_factor")
        results = compiled({name: value.numpy() for name, value in zip(names, inputs)})
        boxes, scores, labels = (results[output] for output in compiled.outputs)
        assert boxes.shape == (len(batch), 30, 4)
        np.testing.assert_allclose(scores, expected.scores.numpy(), atol=1e-4)
        np.testing.assert_array_equal(labels, expected.labels.numpy())
        np.testing.assert_allclose(boxes, expected.boxes.numpy(), atol=0.05)
