"""Export to OpenVINO's own format.

A model is made from the ONNX file of the detector, so that the repairs of `ppdet.export.onnx` serve both.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ppdet.export.errors import ExportError
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

#: Numbers that a sort may take: their square has to be an int32.
_MOST = 46_340


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
        ExportError: If a sort takes too many numbers.
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

    The converter leaves that open, and kernels differ. OpenVINO can be told (``stable``), but then it uses a
    bubble sort (`benchmarks/openvino_sorts.py`). So each sort becomes several whose numbers are distinct, or
    whose ties do not matter. Sorts of whole numbers stay: ours are of places, which are distinct.

    Args:
        model: An ``openvino.Model``; changed in place.

    Raises:
        ExportError: If a sort takes more numbers than can be put in order so.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() == "TopK" and node.get_input_element_type(0).is_real():
            for before, after in zip(node.outputs(), _best_in_order(node)):
                after.get_tensor().set_names(before.get_tensor().get_names())
                before.replace(after)
    model.validate_nodes_and_infer_types()


def _best_in_order(node: Any) -> tuple[Any, Any]:
    """What replaces the values and the places of a sort of the largest numbers."""
    from openvino import opset13 as ops

    axis = node.get_attributes()["axis"]
    count = node.get_output_partial_shape(0)[axis]
    if count.is_static and count.get_length() > _MOST:
        raise ExportError(
            f"a sort that takes the best {count.get_length()} scores is too long for OpenVINO: lower "
            f"pre_nms_top_n or nms_top_k to {_MOST}, or export the format onnx"
        )
    zero, one, last = (ops.constant(value, np.int32) for value in (0, 1, axis))
    numbers, k = node.input_value(0), ops.convert(node.input_value(1), "i32")

    def best(values: Any, mode: str = "max") -> Any:
        return ops.topk(values, k, axis, mode, "value", index_element_type="i32")

    # Which are taken: those above the smallest taken number, and of those equal to it the first.
    least = ops.reduce_min(best(numbers).output(0), last, keep_dims=True)
    above, equal = ops.greater(numbers, least), ops.equal(numbers, least)
    left = ops.subtract(k, ops.reduce_sum(ops.convert(above, "i32"), last, keep_dims=True))
    first = ops.less_equal(ops.cum_sum(ops.convert(equal, "i32"), last), left)
    taken = ops.logical_or(above, ops.logical_and(equal, first))
    # Their places, rising.
    size = ops.gather(ops.shape_of(numbers, "i32"), last, zero)
    from_end = ops.subtract(size, ops.range(zero, size, one, "i32"))
    places = ops.subtract(size, best(ops.select(taken, from_end, zero)).output(0))
    # Sorted by number, and where these are equal by place.
    found = best(ops.gather_elements(numbers, places, axis))
    values, rows = found.output(0), found.output(1)
    before = ops.maximum(ops.subtract(ops.range(zero, k, one, "i32"), one), zero)
    previous = ops.gather(values, before, last)
    group = ops.cum_sum(ops.convert(ops.not_equal(values, previous), "i32"), last)
    order = best(ops.add(ops.multiply(group, k), rows), "min").output(1)
    sorted_places = ops.gather_elements(places, ops.gather_elements(rows, order, axis), axis)
    return values, ops.convert(sorted_places, node.get_output_element_type(1)).output(0)


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
