"""Export to ONNX."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Optional

import numpy as np

from ppdet.export.errors import ExportError
from ppdet.export.info import KEY, ExportInfo
from ppdet.export.program import DetectionProgram, portable_kernels, save_program
from ppdet.export.sessions import ONNX_MODEL, OUTPUTS
from ppdet.export.tensorrt import cast_operands, fewer_candidates
from ppdet.modeling.interfaces import Detector

#: The first opset whose RoiAlign has half-pixel centres.
OPSET = 16
#: Packages that exporting needs; running needs the second one only.
PACKAGES = ("paddle2onnx", "onnxruntime", "onnx")

#: Run in a process of its own: paddle2onnx ends the process at an operation that it does not support.
_CONVERT = """\
import sys, paddle2onnx
paddle2onnx.export(sys.argv[1], sys.argv[2], sys.argv[3], opset_version=int(sys.argv[4]),
                   auto_upgrade_opset=True, enable_onnx_checker=True, optimize_tool=None)
"""


def obstacle() -> Optional[str]:
    """Why ONNX cannot be written here, and the cure; None if it can."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if "paddle2onnx" in missing and sys.version_info >= (3, 13):
        return "ONNX needs paddle2onnx, which has no build for Python 3.13 and newer: use 3.9 to 3.12"
    return f"ONNX needs {', '.join(missing)}: pip install 'ppdet[export]'" if missing else None


def export_onnx(model: Detector, folder: Path, info: ExportInfo) -> Path:
    """Write ``model.onnx``, with the description inside.

    Returns:
        The file.

    Raises:
        ExportError: If a package is missing, or the converter fails.
    """
    reason = obstacle()
    if reason:
        raise ExportError(f"{reason}. Or export the format paddle alone")
    target = folder / ONNX_MODEL
    with tempfile.TemporaryDirectory() as scratch:
        prefix = Path(scratch) / "model"
        normalize = info.preprocess if info.uint8_input else None
        with portable_kernels() as traced, fewer_candidates(model):
            save_program(DetectionProgram(model, normalize), prefix, uint8_input=info.uint8_input)
        converted = Path(scratch) / ONNX_MODEL
        _convert(prefix, converted)
        finish_model(converted, target, info, slopes=traced.slopes)
    return target


def _convert(prefix: Path, target: Path) -> None:
    words = [f"{prefix}.json", f"{prefix}.pdiparams", str(target), str(OPSET)]
    done = subprocess.run(
        [sys.executable, "-c", _CONVERT, *words], capture_output=True, text=True, errors="replace"
    )
    if done.returncode or not target.is_file():
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        errors = [line for line in lines if "ERROR" in line or "Error" in line or "not support" in line]
        raise ExportError(
            f"paddle2onnx could not convert the model (exit status {done.returncode}):\n"
            + "\n".join((errors or lines)[-5:])
        )


def finish_model(source: Path, target: Path, info: ExportInfo, *, slopes: set[float]) -> None:
    """Repair what the converter got wrong, name inputs and outputs, add the description, check, write.

    Args:
        source: What the converter wrote.
        target: The file to write.
        info: The description.
        slopes: Slopes of the leaky rectifiers.

    Raises:
        ExportError: If something cannot be repaired.
    """
    import onnx

    model = onnx.load(str(source))
    repair_roi_align(model.graph)
    repair_leaky_relu(model.graph, slopes)
    repair_floor_division(model.graph)
    name_outputs(model.graph, OUTPUTS[: 4 if info.has_masks else 3])
    cast_operands(model)
    drop_unused(model.graph)
    onnx.checker.check_model(model)
    onnx.save(model, str(target))
    embed_info(target, info)


def embed_info(path: Path, info: ExportInfo) -> None:
    """Write the description into an ONNX file, in the place of an earlier one."""
    import onnx

    model = onnx.load(str(path))
    names = json.dumps(dict(enumerate(info.class_names)), ensure_ascii=False)
    properties = {KEY: info.to_json(), "names": names, "producer": f"ppdet {info.version}"}
    onnx.helper.set_model_props(model, properties)
    onnx.save(model, str(path))


def repair_roi_align(graph: Any) -> int:
    """Give every RoiAlign the image of each region, and the convention it was traced with.

    See `PortableKernels.roi_align`, which leaves both in front of the boxes.

    Args:
        graph: An ``onnx.GraphProto``; changed in place.

    Returns:
        How many there were.

    Raises:
        ExportError: If one has another form than expected, so that no wrong graph is ever written.
    """
    makers = {output: node for node in graph.node for output in node.output}
    constants = _Constants(graph)
    nodes: list[Any] = []
    count = 0
    for node in graph.node:
        if node.op_type == "RoiAlign":
            slicer: Any = makers.get(node.input[1])
            while slicer is not None and slicer.op_type == "Identity":
                slicer = makers.get(slicer.input[0])
            first = _first_column(slicer, constants)
            nodes += _image_of_regions(slicer.input[0], f"ppdet_region_image_{count}", graph)
            node.input[2] = f"ppdet_region_image_{count}"
            _set_convention(node, aligned=first == 1)
            count += 1
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return count


class _Constants:
    """Constant values of a graph."""

    def __init__(self, graph: Any) -> None:
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._copies: dict[str, str] = {}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self._tensors[node.output[0]] = node.attribute[0].t
            elif node.op_type == "Identity":
                self._copies[node.output[0]] = node.input[0]

    def integer(self, name: str) -> Optional[int]:
        """The value of a tensor of one integer; None if it is something else."""
        import onnx

        while name in self._copies:
            name = self._copies[name]
        value = onnx.numpy_helper.to_array(self._tensors[name]) if name in self._tensors else np.zeros(0)
        return int(value.item()) if value.size == 1 else None


def _first_column(slicer: Any, constants: _Constants) -> int:
    """Where the boxes begin in what they are sliced from."""
    if slicer is not None and slicer.op_type == "Slice":
        first, end = (constants.integer(name) for name in slicer.input[1:3])
        if first in (1, 2) and end is not None and end >= first + 4:  # to the last column
            return first
    raise ExportError("a RoiAlign of the converted model has boxes of unknown origin; its images are lost")


def _image_of_regions(tagged: str, name: str, graph: Any) -> list[Any]:
    """Nodes from ``[T, 5 or 6]`` to its first column as int64 ``[T]``."""
    import onnx

    column = onnx.numpy_helper.from_array(np.array(0, np.int64), f"{name}_column")
    graph.initializer.append(column)
    return [
        onnx.helper.make_node("Gather", [tagged, column.name], [f"{name}_float"], axis=1),
        onnx.helper.make_node("Cast", [f"{name}_float"], [name], to=onnx.TensorProto.INT64),
    ]


def _set_convention(node: Any, *, aligned: bool) -> None:
    import onnx

    ratio = max([0, *(a.i for a in node.attribute if a.name == "sampling_ratio")])
    kept = [a for a in node.attribute if a.name not in ("coordinate_transformation_mode", "sampling_ratio")]
    del node.attribute[:]
    mode = "half_pixel" if aligned else "output_half_pixel"
    node.attribute.extend(kept)
    node.attribute.append(onnx.helper.make_attribute("coordinate_transformation_mode", mode))
    node.attribute.append(onnx.helper.make_attribute("sampling_ratio", ratio))


def repair_leaky_relu(graph: Any, slopes: set[float]) -> None:
    """Set the slope of every LeakyRelu: paddle2onnx 2.1 writes memory that was never set.

    Args:
        graph: An ``onnx.GraphProto``; changed in place.
        slopes: Slopes in the program that was converted.

    Raises:
        ExportError: If there are several, since the converted nodes no longer say which is which.
    """
    nodes = [node for node in graph.node if node.op_type == "LeakyRelu"]
    if nodes and len(slopes) != 1:
        raise ExportError(
            f"leaky rectifiers of different slopes ({sorted(slopes)}) cannot go into one ONNX file"
        )
    for node in nodes:
        node.attribute[0].f = next(iter(slopes))


def repair_floor_division(graph: Any) -> None:
    """Let whole numbers be divided as whole numbers.

    The converter casts them to floats, divides and rounds down. Where a runtime's division of floats is not
    exact (OpenVINO's for AVX2), 6 / 3 comes out a little below 2, and an index one too low. ONNX rounds
    quotients of integers towards zero: the same, since indices are never negative.

    Args:
        graph: An ``onnx.GraphProto``; changed in place.
    """
    import onnx

    to_node = onnx.helper.make_node
    makers = {name: node for node in graph.node for name in node.output}
    nodes: list[Any] = []
    for node in graph.node:
        operands = _divided_integers(node, makers)
        if operands is None:
            nodes.append(node)
            continue
        floor = node.output[0]
        names = [f"{floor}_dividend", f"{floor}_divisor"]
        for source, name in zip(operands, names):
            nodes.append(to_node("Cast", [source], [name], to=onnx.TensorProto.INT64))
        nodes.append(to_node("Div", names, [f"{floor}_quotient"]))
        nodes.append(to_node("Cast", [f"{floor}_quotient"], [floor], to=onnx.TensorProto.FLOAT))
    del graph.node[:]
    graph.node.extend(nodes)


def _divided_integers(node: Any, makers: dict[str, Any]) -> list[str] | None:
    """The names of the two integers whose quotient, as floats, this node rounds down; ``None`` for others."""
    quotient = makers.get(node.input[0]) if node.op_type == "Floor" else None
    if quotient is None or quotient.op_type != "Div":
        return None
    casts = [makers.get(name) for name in quotient.input]
    if not all(cast is not None and cast.op_type == "Cast" for cast in casts):
        return None
    return [cast.input[0] for cast in casts if cast is not None]


def name_outputs(graph: Any, names: tuple[str, ...]) -> None:
    """Rename the outputs of a graph, in their order."""
    new = {output.name: name for output, name in zip(graph.output, names)}
    for node in graph.node:
        for slots in (node.input, node.output):
            for index, name in enumerate(slots):
                slots[index] = new.get(name, name)
    for output in graph.output:
        output.name = new[output.name]


def drop_unused(graph: Any) -> None:
    """Remove constants that nothing reads, of which ONNX Runtime warns one by one.

    Args:
        graph: An ``onnx.GraphProto``; changed in place, with the graphs inside of its nodes.
    """
    read = {output.name for output in graph.output}
    nodes: list[Any] = []
    for node in reversed(graph.node):  # so that what feeds a removed node goes too
        if read.isdisjoint(node.output):
            continue
        nodes.append(node)
        read.update(node.input)
        for inner in _inner_graphs(node):
            drop_unused(inner)
            read.update(name for one in inner.node for name in one.input)
            read.update(output.name for output in inner.output)
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(nodes))
    graph.initializer.extend(kept)


def _inner_graphs(node: Any) -> list[Any]:
    """The bodies of ``If`` and ``Loop``."""
    return [graph for a in node.attribute for graph in ([a.g] if a.HasField("g") else []) + list(a.graphs)]
