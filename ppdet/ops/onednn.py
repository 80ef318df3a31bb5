"""Convolutions on a processor through oneDNN, which Paddle ships and does not use for training.

Paddle's own convolution copies every window of the image into a matrix (im2col) and multiplies that. oneDNN
convolves directly. Its C interface (version 3, uxlfoundation.github.io/oneDNN) is called through ctypes on
the memory of Paddle's tensors. `benchmarks/convolutions.py` compares whole training steps.

oneDNN has a layout of its own for images and weights, so what goes in and out is reordered. For kernels of
one pixel that costs more than it gains, since Paddle multiplies those without a copy (`worthwhile`).

It is off unless the environment says ``PPDET_CONVOLUTIONS=onednn``. Results are equal to rounding, but sums
in another order move single gradients by more than the goldens of `tests/parity` allow. And Paddle 3.3.1
ends in a segmentation fault where it goes twice through a graph with any `PyLayer` (``retain_graph=True``),
which ppdet never does.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import c_int, c_void_p
from typing import Any, NamedTuple, Optional

import numpy as np
import paddle
from paddle import Tensor
from paddle.autograd import PyLayer

from ppdet.ops.onednn_library import (
    SWITCH,
    Handle,
    check,
    new_layout,
    new_memory,
    numbers,
    the_attributes,
    the_engine,
    the_library,
    the_openmp,
    the_stream,
)
from ppdet.utils.cpu import product_threads

#: Geometries whose primitives are kept. One takes about 0.1 MB and a millisecond to make.
KEPT = 1024

# Numbers of the C interface (dnnl_types.h of version 3).
_DIRECT, _FORWARD_TRAINING = 1, 64
#: What a description of a primitive is asked for the layout of an operand.
_LAYOUT = {"x": 129, "gx": 130, "w": 131, "gw": 132, "y": 133, "g": 134}
_ARGUMENT = {"x": 1, "gx": 129, "w": 33, "gw": 161, "y": 17, "g": 145, "b": 41, "gb": 169}
_FROM, _TO, _SCRATCHPAD, _SCRATCHPAD_LAYOUT = 1, 17, 80, 136


class Geometry(NamedTuple):
    """What a convolution is apart from its values: NCHW shapes, and (vertical, horizontal) pairs."""

    image: tuple[int, ...]
    weight: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    bias: bool

    @property
    def output(self) -> tuple[int, ...]:
        """NCHW shape of the result."""
        sizes = [
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, padding, dilation in zip(
                self.image[2:], self.weight[2:], self.stride, self.padding, self.dilation
            )
        ]
        return (self.image[0], self.weight[0], *sizes)


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Optional[Tensor],
    *,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Tensor:
    """Convolution as `paddle.nn.functional.conv2d`, differentiable once.

    Args:
        x: float32 ``[N, C, H, W]`` in the memory of the processor, not empty.
        weight: float32 ``[C_out, C / groups, K_h, K_w]``.
        bias: float32 ``[C_out]``.
    """
    geometry = Geometry(
        tuple(x.shape), tuple(weight.shape), stride, padding, dilation, groups, bias is not None
    )
    given = [x, weight] if bias is None else [x, weight, bias]
    result: Tensor = _Convolve.apply(geometry, *given)
    return result


def worthwhile(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN can convolve these, and is faster at it."""
    return (
        tuple(weight.shape[2:]) != (1, 1)
        and paddle.in_dynamic_mode()
        and x.place.is_cpu_place()
        and x.dtype == weight.dtype == paddle.float32
        and 0 not in x.shape
        and available()
    )


def available() -> bool:
    """Whether oneDNN is switched on, and Paddle brings one whose interface this module knows."""
    return os.environ.get(SWITCH) == "onednn" and the_library() is not None


@contextmanager
def convolutions_by(library: str) -> Iterator[None]:
    """Within, ``onednn`` or ``paddle`` convolves."""
    before = os.environ.get(SWITCH, "paddle")
    os.environ[SWITCH] = library
    try:
        yield
    finally:
        os.environ[SWITCH] = before


class _Convolve(PyLayer):
    @staticmethod
    def forward(ctx: Any, geometry: Geometry, x: Tensor, w: Tensor, b: Optional[Tensor] = None) -> Tensor:
        x, w = x.contiguous(), w.contiguous()
        y = paddle.empty(geometry.output)
        _run(geometry, "forward", {"x": x, "w": w, "y": y, "b": b})
        ctx.save_for_backward(x, w)
        ctx.geometry = geometry
        ctx.wants = tuple(not tensor.stop_gradient for tensor in (x, w, b) if tensor is not None)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, w = ctx.saved_tensor()
        wants_image, *parameters = ctx.wants
        given: dict[str, Optional[Tensor]] = {"g": g.contiguous(), "x": x, "w": w}
        if wants_image:
            given["gx"] = paddle.empty(x.shape)
        if any(parameters):
            given["gw"] = paddle.empty(w.shape)
            given["gb"] = paddle.empty(w.shape[:1]) if ctx.geometry.bias else None
        kind = "image" if not any(parameters) else "both" if wants_image else "weight"
        _run(ctx.geometry, kind, given)
        return tuple(given[name] if wanted else None for name, wanted in zip(("gx", "gw", "gb"), ctx.wants))


class _Argument(ctypes.Structure):
    _fields_ = (("name", c_int), ("memory", c_void_p))


class _Step(NamedTuple):
    """A primitive to be: its description, the operands that it reads, and those that it writes."""

    description: Handle
    reads: Sequence[str]
    writes: Sequence[str]


class _Program:
    """Primitives in their order, with the reorders before and after them.

    Args:
        layouts: Layout of each operand in its tensor.
        steps: The primitives.
    """

    def __init__(self, layouts: dict[str, Handle], steps: Sequence[_Step]) -> None:
        self._layouts = layouts
        self._descriptions = [
            step.description for step in steps
        ]  # which own the layouts that are asked of them
        self._tensors: dict[str, Handle] = {}
        self._inner: list[_Inner] = []
        self._calls: list[tuple[Handle, Any]] = []
        for step in steps:
            operands = {name: self._read(name, step.description) for name in step.reads}
            results = {name: self._inner_for(name, step.description) for name in step.writes}
            for name, inner in results.items():
                operands[name] = self._tensor(name) if inner is None else inner.memory
            self._call(step.description, {_ARGUMENT[name]: memory for name, memory in operands.items()})
            for name, inner in results.items():
                if inner is not None:
                    self._reorder(inner.layout, inner.memory, layouts[name], self._tensor(name))

    def run(self, tensors: dict[str, Optional[Tensor]]) -> None:
        """Execute on the memory of tensors, each contiguous and of the operand's shape."""
        library = the_library()
        for name, memory in self._tensors.items():
            tensor = tensors[name]
            assert tensor is not None, name
            check(library.dnnl_memory_set_data_handle(memory, c_void_p(tensor.data_ptr())))
        for number, inner in enumerate(self._inner):
            check(library.dnnl_memory_set_data_handle(inner.memory, c_void_p(_buffer(number, inner.size))))
        for primitive, arguments in self._calls:
            check(library.dnnl_primitive_execute(primitive, the_stream(), len(arguments), arguments))
        check(library.dnnl_stream_wait(the_stream()))

    def _read(self, name: str, description: Handle) -> Handle:
        """Memory of an operand as a primitive reads it; reordered once for all that want the same layout."""
        there = len(self._inner)
        inner = self._inner_for(name, description)
        if inner is None:
            return self._tensor(name)
        if len(self._inner) > there:
            self._reorder(self._layouts[name], self._tensor(name), inner.layout, inner.memory)
        return inner.memory

    def _tensor(self, name: str) -> Handle:
        if name not in self._tensors:
            self._tensors[name] = new_memory(self._layouts[name])
        return self._tensors[name]

    def _inner_for(self, name: str, description: Handle) -> Optional[_Inner]:
        """Memory for an operand in the layout of a primitive; None if that is the tensor's."""
        if name not in _LAYOUT:
            return None
        library = the_library()
        layout = library.dnnl_primitive_desc_query_md(description, _LAYOUT[name], 0)
        if library.dnnl_memory_desc_equal(c_void_p(layout), self._layouts[name]):
            return None
        for inner in self._inner:
            if inner.name == name and library.dnnl_memory_desc_equal(c_void_p(layout), inner.layout):
                return inner
        return self._inner_memory(name, layout)

    def _inner_memory(self, name: str, layout: Optional[int]) -> Optional[_Inner]:
        """Memory in a layout, whose address is set for each run; None for none."""
        size = the_library().dnnl_memory_desc_get_size(c_void_p(layout)) if layout else 0
        if not size:
            return None
        self._inner.append(_Inner(name, c_void_p(layout), new_memory(c_void_p(layout)), size))
        return self._inner[-1]

    def _reorder(self, layout: Any, source: Handle, other: Any, target: Handle) -> None:
        pair = (layout, the_engine(), other, the_engine(), the_attributes())
        made = Handle("primitive_desc", "reorder_primitive_desc_create", *pair)
        self._call(made, {_FROM: source, _TO: target})

    def _call(self, description: Handle, operands: dict[int, Handle]) -> None:
        scratchpad = self._inner_memory(
            "scratchpad", the_library().dnnl_primitive_desc_query_md(description, _SCRATCHPAD_LAYOUT, 0)
        )
        if scratchpad is not None:
            operands = {**operands, _SCRATCHPAD: scratchpad.memory}
        packed = (_Argument * len(operands))(
            *(_Argument(name, memory._as_parameter_) for name, memory in operands.items())
        )
        self._descriptions.append(description)
        self._calls.append((Handle("primitive", "primitive_create", description), packed))


class _Inner(NamedTuple):
    """Memory of an operand in oneDNN's own layout; `size` in bytes."""

    name: str
    layout: c_void_p
    memory: Handle
    size: int


class _Convolution:
    """The programs of one geometry, made when they are first wanted."""

    def __init__(self, geometry: Geometry) -> None:
        groups, shape = geometry.groups, geometry.weight
        weight = shape if groups == 1 else (groups, shape[0] // groups, *shape[1:])
        shapes = {"x": geometry.image, "w": weight, "y": geometry.output, "b": shape[:1]}
        self._tensors = {name: new_layout(shape) for name, shape in shapes.items()}
        for name, other in (("gx", "x"), ("gw", "w"), ("g", "y"), ("gb", "b")):
            self._tensors[name] = self._tensors[other]
        # oneDNN convolves images of few channels as they are.
        few = geometry.image[1] <= 4
        self._x = self._tensors["x"] if few else new_layout(geometry.image, chosen=True)
        self._w, self._y = new_layout(weight, chosen=True), new_layout(geometry.output, chosen=True)
        self._b = self._tensors["b"] if geometry.bias else None
        steps = [step - 1 for step in geometry.dilation]
        self._sizes = [numbers(pair) for pair in (geometry.stride, steps, geometry.padding, geometry.padding)]
        layouts = (self._x, self._w, self._b, self._y)
        self._forward = self._describe("forward", _FORWARD_TRAINING, _DIRECT, *layouts, hint=())
        self._programs: dict[str, _Program] = {}

    def run(self, kind: str, tensors: dict[str, Optional[Tensor]]) -> None:
        """Compute what `kind` names, ``forward``, ``image``, ``weight`` or ``both``, into tensors."""
        if kind not in self._programs:
            self._programs[kind] = _Program(self._tensors, self._steps(kind))
        self._programs[kind].run(tensors)

    def _steps(self, kind: str) -> list[_Step]:
        bias = self._b is not None
        if kind == "forward":
            return [_Step(self._forward, ["x", "w", "b"] if bias else ["x", "w"], ["y"])]
        steps = []
        if kind != "weight":
            layouts = (self._x, self._w, self._y)
            made = self._describe("backward_data", _DIRECT, *layouts, hint=(self._forward,))
            steps.append(_Step(made, ["g", "w"], ["gx"]))
        if kind != "image":
            layouts_of_all = (self._x, self._w, self._b, self._y)
            made = self._describe("backward_weights", _DIRECT, *layouts_of_all, hint=(self._forward,))
            steps.append(_Step(made, ["g", "x"], ["gw", "gb"] if bias else ["gw"]))
        return steps

    def _describe(self, kind: str, *arguments: Any, hint: tuple[Handle, ...]) -> Handle:
        creator = f"convolution_{kind}_primitive_desc_create"
        return Handle(
            "primitive_desc", creator, the_engine(), *arguments, *self._sizes, *hint, the_attributes()
        )


#: Memory and the stream are shared, so one convolution runs at a time; each uses all threads.
_LOCK = threading.Lock()
_BUFFERS: dict[int, Any] = {}


def _buffer(number: int, size: int) -> int:
    """Address of one of the memories of a program, aligned to a cache line; it grows and is kept."""
    if number not in _BUFFERS or _BUFFERS[number].nbytes < size + 63:
        _BUFFERS[number] = np.empty(size + 63, np.uint8)
    return int((_BUFFERS[number].ctypes.data + 63) // 64 * 64)


def _run(geometry: Geometry, kind: str, tensors: dict[str, Optional[Tensor]]) -> None:
    """Run a program of `_Convolution` with the threads that products have.

    Primitives are made for the number of threads at that moment. Paddle leaves OpenMP one; its own operators
    find it as it was.
    """
    openmp = the_openmp()
    with _LOCK:
        before = openmp.omp_get_max_threads()
        openmp.omp_set_num_threads(product_threads())
        try:
            _convolution(geometry).run(kind, tensors)
        finally:
            openmp.omp_set_num_threads(before)


@functools.lru_cache(maxsize=KEPT)
def _convolution(geometry: Geometry) -> _Convolution:
    return _Convolution(geometry)
