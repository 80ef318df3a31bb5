"""Export to OpenVINO's own format.

A model is made from the ONNX file of the detector, so that the repairs of `ppdet.export.onnx` serve both.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ppdet.export.info import KEY, ExportInfo
from ppdet.export.onnx import export_onnx
from ppdet.export.sessions import INPUTS, OPENVINO_MODEL
from ppdet.modeling.interfaces import Detector
from ppdet.utils.packages import require_packages

#: Operations that stay in float32 when a model is quantised. They join branches, and decode boxes, for which
#: 8 bits are 256 positions. Quantised too, they cost the quickstart's detector 4.5 AP in place of 0.6.
_EXACT = (
    "Add",
    "Clamp",
    "Concat",
    "Divide",
    "Gather",
    "Interpolate",
    "MVN",
    "MaxPool",
    "Maximum",
    "Minimum",
    "Multiply",
    "Power",
    "ReduceMean",
    "ReduceSum",
    "Sigmoid",
    "Softmax",
    "Subtract",
    "Swish",
)


def export_openvino(model: Detector, folder: Path, info: ExportInfo) -> Path:
    """Write ``model.xml`` and ``model.bin``, float32, with the description inside.

    Returns:
        The first of them.

    Raises:
        ExportError: If the model cannot be converted.
        MissingPackageError: If OpenVINO is not installed.
    """
    require_packages("openvino")
    with tempfile.TemporaryDirectory() as scratch:
        return convert(export_onnx(model, Path(scratch), info), folder, info)


def convert(source: Path, folder: Path, info: ExportInfo) -> Path:
    """Write ``model.xml`` and ``model.bin`` of an ONNX file that `export_onnx` made.

    Returns:
        The first of them.

    Raises:
        MissingPackageError: If OpenVINO is not installed.
    """
    require_packages("openvino")
    import openvino

    target = folder / OPENVINO_MODEL
    converted = openvino.convert_model(source)
    keep_ties_in_order(converted)
    converted.set_rt_info(info.to_json(), KEY)
    openvino.save_model(converted, target, compress_to_fp16=False)
    return target


def keep_ties_in_order(model: Any) -> None:
    """Let the first of equal numbers come first in every sort, as ONNX says.

    The converter leaves that open, and OpenVINO's kernel for AVX2 then orders them otherwise than that for
    AVX-512.

    Args:
        model: An ``openvino.Model``; changed in place.
    """
    from openvino import opset11

    for node in model.get_ordered_ops():
        if node.get_type_name() == "TopK":
            options = {**node.get_attributes(), "stable": True}
            stable = opset11.topk(node.input_value(0), node.input_value(1), **options)
            for before, after in zip(node.outputs(), stable.outputs()):
                after.get_tensor().set_names(before.get_tensor().get_names())
                before.replace(after)
    model.validate_nodes_and_infer_types()


def write_half(source: Path, target: Path) -> None:
    """Write a model with weights in float16, half the size; it computes in float32.

    Args:
        source: Folder of the float32 model.
        target: Folder of the new one.
    """
    import openvino

    openvino.save_model(
        openvino.Core().read_model(source / OPENVINO_MODEL), target / OPENVINO_MODEL, compress_to_fp16=True
    )


def write_int8(source: Path, target: Path, images: Sequence[tuple[np.ndarray, ...]]) -> None:
    """Write a model whose convolutions and matrix products are in int8 (NNCF, after training).

    Args:
        source: Folder of the float32 model.
        target: Folder of the new one.
        images: image, im_shape and scale_factor of each image of calibration.

    Raises:
        MissingPackageError: If NNCF is not installed.
    """
    require_packages("openvino", "nncf")
    import nncf
    import openvino

    model = openvino.Core().read_model(source / OPENVINO_MODEL)
    names = {node.get_any_name() for node in model.inputs}
    rows = [{key: value for key, value in zip(INPUTS, image) if key in names} for image in images]
    scope = nncf.IgnoredScope(types=list(_EXACT), validate=False)
    quantised = nncf.quantize(model, nncf.Dataset(rows), subset_size=len(rows), ignored_scope=scope)
    openvino.save_model(quantised, target / OPENVINO_MODEL, compress_to_fp16=False)
