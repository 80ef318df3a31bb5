"""Export to OpenVINO's own format, and running it.

A model is made from the ONNX file of the detector, so that the repairs of `ppdet.export.onnx` serve both.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from ppdet.export.info import KEY, ExportInfo
from ppdet.export.onnx import export_onnx
from ppdet.export.program import INPUTS
from ppdet.modeling.interfaces import Detector
from ppdet.utils.packages import require_packages

#: Files of a model: the network and its weights.
MODEL, WEIGHTS = "model.xml", "model.bin"


def export_openvino(model: Detector, folder: Path, info: ExportInfo) -> Path:
    """Write ``model.xml`` and ``model.bin``, float32, with the description inside.

    Returns:
        The first of them.

    Raises:
        ExportError: If the model cannot be converted.
        MissingPackageError: If OpenVINO is not installed.
    """
    require_packages("openvino")
    import openvino

    target = folder / MODEL
    with tempfile.TemporaryDirectory() as scratch:
        converted = openvino.convert_model(export_onnx(model, Path(scratch), info))
        converted.set_rt_info(info.to_json(), KEY)
        openvino.save_model(converted, target, compress_to_fp16=False)
    return target


class OpenVinoSession:
    """A model compiled for the CPU.

    Args:
        folder: Where ``model.xml`` is.
        threads: Threads of the CPU that it may use.
    """

    def __init__(self, folder: Path, *, threads: int) -> None:
        require_packages("openvino")
        import openvino

        # By itself OpenVINO computes in bfloat16 where the processor can, which changes labels of RT-DETR.
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        self._model = openvino.Core().compile_model(folder / MODEL, "CPU", settings)
        self._names = [node.get_any_name() for node in self._model.inputs]

    def __call__(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """Run on image, im_shape, scale_factor; returns the outputs in their order."""
        given = dict(zip(INPUTS, arrays))
        found = self._model({name: given[name] for name in self._names})  # a graph may not need all three
        return [np.array(found[node]) for node in self._model.outputs]
