"""What TensorRT takes of an ONNX model, as its own documentation lists it; no GPU is needed.

The operators and their element types are in ``tensorrt10.yml``. Restrictions of single operators are below.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import yaml

from ppdet.modeling.interfaces import Detector

#: TopK takes fewer elements than this.
TOP_K = 3840
#: Candidates of an image in exports; NMS sorts one more.
CANDIDATES = 3800
#: Operators whose axes must be known when the engine is built, and the input that they are.
_CONSTANT_INPUTS = {"Squeeze": 1, "Unsqueeze": 1, "CumSum": 1, "ReduceSum": 1, "OneHot": 1}
#: Operators that pass a number on, so that a bound of the first input is one of the output.
_PASSING = {"Cast", "Squeeze", "Unsqueeze", "Reshape", "Identity", "Gather", "Slice"}
_TABLE = Path(__file__).with_name("tensorrt10.yml")


@dataclass(frozen=True)
class Support:
    """What a version of TensorRT takes.

    Attributes:
        version: That version.
        opsets: First and last opset.
        types: Operator -> names of element types, as ONNX spells them.
    """

    version: str
    opsets: tuple[int, int]
    types: Mapping[str, frozenset[str]]


@functools.cache
def support() -> Support:
    """TensorRT 10, as documented."""
    table = yaml.safe_load(_TABLE.read_text("utf-8"))
    types = {name: frozenset(group["types"]) for group in table["operators"] for name in group["names"]}
    return Support(str(table["version"]), tuple(table["opsets"]), types)


def obstacles(path: Path) -> list[str]:
    """What of an ONNX file is beyond the documentation of TensorRT 10.

    Returns:
        A line for each operator and reason, without repetition; empty if TensorRT should take the file.
    """
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(str(path)))
    graph = _Graph(model)
    found: dict[str, int] = {}
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    first, last = support().opsets
    if not first <= opset <= last:
        found[f"opset {opset}: TensorRT {support().version} takes {first} to {last}"] = 1
    for node in model.graph.node:
        for reason in _reasons(node, graph):
            found[reason] = found.get(reason, 0) + 1
    return [f"{reason} ({count} times)" if count > 1 else reason for reason, count in found.items()]


@contextmanager
def fewer_candidates(model: Detector) -> Iterator[None]:
    """Within, so few candidates of an image enter the last NMS that TensorRT can sort them.

    A trained detector has some hundred; see `ppdet.ops.nms.class_wise_nms` for when fewer change anything.
    """
    nms = model.final_nms
    if nms is None:
        yield
        return
    before, nms.max_candidates = nms.max_candidates, min(nms.max_candidates, CANDIDATES)
    try:
        yield
    finally:
        nms.max_candidates = before


def cast_operands(model: Any) -> None:
    """Give `NonZero` and `CumSum` the floating-point numbers that TensorRT documents for them.

    The numbers are flags, and counts of at most some hundred thousand candidates, which float32 holds
    exactly.

    Args:
        model: An ``onnx.ModelProto``; changed in place.
    """
    import onnx

    float32, int64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    types = _Graph(onnx.shape_inference.infer_shapes(model)).types
    nodes: list[Any] = []
    for index, node in enumerate(model.graph.node):
        kind = types.get(node.input[0], "") if node.input else ""
        if (node.op_type, kind) not in (("NonZero", "BOOL"), ("CumSum", "INT64")):
            nodes.append(node)
            continue
        as_float = f"{node.op_type}_{index}_float"
        nodes += [onnx.helper.make_node("Cast", [node.input[0]], [as_float], to=float32), node]
        node.input[0] = as_float
        if node.op_type == "CumSum":
            result, node.output[0] = node.output[0], f"{as_float}_result"
            nodes.append(onnx.helper.make_node("Cast", [node.output[0]], [result], to=int64))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


class _Graph:
    """Types, constants and makers of the tensors of a model.

    Args:
        model: An ``onnx.ModelProto`` with inferred shapes.
    """

    def __init__(self, model: Any) -> None:
        import onnx

        name_of = {number: name for name, number in onnx.TensorProto.DataType.items()}
        graph = model.graph
        values = [*graph.value_info, *graph.input, *graph.output]
        self.types = {value.name: name_of[value.type.tensor_type.elem_type] for value in values}
        self.types.update({tensor.name: name_of[tensor.data_type] for tensor in graph.initializer})
        self.makers = {name: node for node in graph.node for name in node.output}
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                self._constants[node.output[0]] = node.attribute[0].t

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is known without running the model."""
        maker = self.makers.get(name)
        if maker is None or maker.op_type not in _PASSING:
            return name in self._constants
        return all(map(self.is_constant, maker.input))

    def bound(self, name: str) -> Optional[int]:
        """The largest value that an integer tensor can have; None if that does not show."""
        from onnx import numpy_helper

        if name in self._constants:
            return int(numpy_helper.to_array(self._constants[name]).max())
        maker = self.makers.get(name)
        if maker is not None and maker.op_type == "Min":
            return min((b for b in map(self.bound, maker.input) if b is not None), default=None)
        passes = maker is not None and maker.op_type in _PASSING
        return self.bound(maker.input[0]) if maker is not None and passes else None


def _reasons(node: Any, graph: _Graph) -> Iterator[str]:
    """Why TensorRT would not take a node."""
    name = node.op_type
    if name not in support().types:
        yield f"{name}: not supported"
        return
    # Of a choice the condition comes first, of a constant there is no input.
    carriers = {"Where": node.input[1:2], "Constant": node.output[:1]}.get(name, node.input[:1])
    for carrier in carriers:
        kind = graph.types.get(carrier, "")
        if kind not in ("", "DOUBLE") and kind not in support().types[name]:
            yield f"{name} of {kind}: only of {', '.join(sorted(support().types[name]))}"
    options = {attribute.name: attribute for attribute in node.attribute}
    if name == "TopK":
        bound = graph.bound(node.input[1])
        if bound is not None and bound >= TOP_K:  # what is sorted later is a part of what is taken here
            yield f"TopK of {bound}: of fewer than {TOP_K}"
        if "sorted" in options and options["sorted"].i != 1:
            yield "TopK unsorted: only sorted"
    if name == "ScatterND" and options.get("reduction") is not None and options["reduction"].s != b"none":
        yield f"ScatterND with reduction {options['reduction'].s.decode()}: only none"
    if name == "MaxPool" and (len(node.output) > 1 or any(d != 1 for d in _integers(options, "dilations"))):
        yield "MaxPool with indices or dilations: neither is supported"
    slot = _CONSTANT_INPUTS.get(name, len(node.input))
    if any(axes and not graph.is_constant(axes) for axes in node.input[slot : slot + 1]):
        yield f"{name} with computed axes: only with constant ones"


def _integers(options: Mapping[str, Any], name: str) -> list[int]:
    return list(options[name].ints) if name in options else []
