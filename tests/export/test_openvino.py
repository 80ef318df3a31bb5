"""Protects that OpenVINO runs the ONNX files of detectors with NMS; RT-DETR is in `test_rtdetr`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ppdet.export.info import describe
from ppdet.export.onnx import OnnxSession, export_onnx
from ppdet.export.runtime import arrays_of
from ppdet.export.verify import generated_images, prepare
from tests.export.small import NAMES, reader, small_model
from tests.support import requires_onnx


@requires_onnx
@pytest.mark.slow
@pytest.mark.parametrize("family", ["cascade_mask_fpn", "retinanet", "yolov3", "ppyoloe"])
def test_openvino_detects_what_onnx_runtime_detects(family: str, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino", reason="openvino is not installed: pip install openvino")
    path = export_onnx(small_model(family), tmp_path, describe(small_model(family), reader(), NAMES))
    session = OnnxSession(tmp_path, threads=1)
    # On processors with bfloat16 OpenVINO computes in it unless it is told not to.
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    arrays = arrays_of(prepare(reader(), generated_images())[0])
    inputs = dict(zip(("image", "im_shape", "scale_factor"), arrays))
    names = [node.get_any_name() for node in compiled.inputs]
    found = compiled({name: inputs[name] for name in names})
    expected = session(*arrays)
    assert len(expected) == len(compiled.outputs)
    assert (expected[2] >= 0).any()
    for output, value, tolerance in zip(compiled.outputs, expected, (0.05, 1e-4, 0, 0.01)):
        np.testing.assert_allclose(found[output], value, rtol=0, atol=tolerance)
