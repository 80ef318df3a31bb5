"""The C interface of oneDNN through ctypes: handles that destroy themselves, layouts, memory (version 3)."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from ctypes import c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import paddle

#: ``onednn`` switches it on.
SWITCH = "PPDET_CONVOLUTIONS"

# Numbers of the C interface (dnnl_types.h of version 3).
_CPU, _IN_ORDER, _FLOAT32, _ANY_LAYOUT, _OURS = 1, 1, 3, 1, 1


class Handle:
    """An object of the library, which is destroyed with this one. ctypes takes it as an argument."""

    def __init__(self, kind: str, creator: str, *arguments: Any) -> None:
        library = the_library()
        self._as_parameter_ = c_void_p()
        self._destroy = getattr(library, f"dnnl_{kind}_destroy")
        status = getattr(library, f"dnnl_{creator}")(ctypes.byref(self._as_parameter_), *arguments)
        check(status, creator)

    def __del__(self) -> None:
        self._destroy(self._as_parameter_)


@functools.cache
def the_openmp() -> Any:
    """The OpenMP whose threads oneDNN uses: Intel's, which Paddle loads first, or the one it is linked to."""
    intel = Path(paddle.__file__).parent / "libs" / "libiomp5.so"
    return ctypes.CDLL(str(intel)) if intel.is_file() else the_library()


@functools.cache
def the_library() -> Any:
    """The library that Paddle has loaded; None if there is none, or it has another interface."""
    found = sorted((Path(paddle.__file__).parent / "libs").glob("libdnnl.so.3*"))
    if not found:
        return None
    try:
        library = ctypes.CDLL(str(found[0]))
    except OSError:  # built for another processor or system
        return None
    library.dnnl_primitive_desc_query_md.restype = c_void_p
    library.dnnl_memory_desc_get_size.restype = c_size_t
    wanted = ("dnnl_memory_desc_create_with_strides", "omp_set_num_threads")
    return library if all(hasattr(library, name) for name in wanted) else None


@functools.cache
def the_engine() -> Handle:
    """The processor."""
    return Handle("engine", "engine_create", _CPU, c_size_t(0))


@functools.cache
def the_attributes() -> Handle:
    """Primitives take their scratchpad from us: the library's own belongs to the thread that made them."""
    made = Handle("primitive_attr", "primitive_attr_create")
    check(the_library().dnnl_primitive_attr_set_scratchpad_mode(made, _OURS), "scratchpad_mode")
    return made


@functools.cache
def the_stream() -> Handle:
    """Primitives run one after the other."""
    return Handle("stream", "stream_create", the_engine(), _IN_ORDER)


def new_memory(layout: Any) -> Handle:
    """A memory object whose address is set when it is used."""
    return Handle("memory", "memory_create", layout, the_engine(), None)


def new_layout(shape: Sequence[int], *, chosen: bool = False) -> Handle:
    """As Paddle stores a contiguous tensor, or `chosen` by oneDNN."""
    if chosen:
        with_tag = (len(shape), numbers(shape), _FLOAT32, _ANY_LAYOUT)
        return Handle("memory_desc", "memory_desc_create_with_tag", *with_tag)
    steps = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    with_steps = (len(shape), numbers(shape), _FLOAT32, numbers(steps))
    return Handle("memory_desc", "memory_desc_create_with_strides", *with_steps)


def numbers(values: Sequence[int]) -> Any:
    """Sizes as the library takes them."""
    return (c_int64 * 12)(*values)


def check(status: int, what: str = "primitive_execute") -> None:
    """Raise what the library says.

    Raises:
        RuntimeError: If the status is not success.
    """
    if status:
        raise RuntimeError(f"oneDNN: {what} failed with status {status}; unset {SWITCH} to do without oneDNN")
