"""What a weight file's pickle is made of, before it becomes NumPy: inert records, nothing callable."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

DTYPES = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})
_MAX_NDIM = 32
_MAX_SIDE = 2**40


def brief(value: Any) -> str:
    """A value of the file for an error message: short, and never by walking into a container."""
    return repr(value)[:80] if isinstance(value, (str, int, float)) else f"a {type(value).__name__}"


class RefusedError(Exception):
    """Why a file is refused; becomes a `WeightsError` that names the file."""


# What the interpreter builds. None of these has a method that a file could call.


@dataclass(frozen=True)
class Name:
    """A global that the file names. Never resolved."""

    text: str


class Dtype:
    """``numpy.dtype`` before and after its BUILD."""

    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "<"

    def build(self, state: Any) -> None:
        if not (isinstance(state, tuple) and len(state) >= 3 and state[1] in ("<", ">", "|", "=")):
            raise RefusedError("a dtype with a state that NumPy does not write")
        if state[2] is not None or any(part is not None for part in state[3:5]):
            raise RefusedError("a structured dtype; weights are plain numbers")
        self.order = "<" if state[1] in "|=" else state[1]

    def numpy(self) -> np.dtype:
        return np.dtype(self.order + self.code)


class Array:
    """``numpy.ndarray`` before and after its BUILD."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Optional[np.ndarray] = None

    def build(self, state: Any) -> None:
        if not (isinstance(state, tuple) and len(state) == 5):
            raise RefusedError("an array with a state that NumPy does not write")
        _, shape, dtype, fortran, data = state
        if isinstance(data, str):  # a byte string of Python 2
            data = latin1(data)
        if not isinstance(dtype, Dtype) or not isinstance(data, (bytes, memoryview)):
            raise RefusedError("an array whose content is not raw numbers")
        self.value = to_array(data, dtype.numpy(), checked_shape(shape), fortran=bool(fortran))


def checked_shape(shape: Any) -> tuple[int, ...]:
    """A shape from a file, checked; `RefusedError` if it is none."""
    fits = isinstance(shape, tuple) and len(shape) <= _MAX_NDIM
    if not fits or any(type(n) is not int or not 0 <= n < _MAX_SIDE for n in shape):
        raise RefusedError("an array whose shape is not a tuple of sizes")
    return shape


def to_array(data: Any, dtype: np.dtype, shape: tuple[int, ...], *, fortran: bool) -> np.ndarray:
    """Raw bytes as an array; `RefusedError` if their number does not fit shape and dtype."""
    if math.prod(shape) * dtype.itemsize != len(data):
        raise RefusedError(f"an array of shape {shape} and dtype {dtype} with {len(data)} bytes of data")
    array = np.frombuffer(data, dtype) if len(data) else np.empty(0, dtype)
    # A copy: aligned, writable, in native byte order, and the file's bytes can be freed.
    return array.reshape(shape, order="F" if fortran else "C").astype(dtype.newbyteorder("="), order="C")


def latin1(text: str) -> bytes:
    """Bytes that Python 2 pickled as text; `RefusedError` if it is text after all."""
    try:
        return text.encode("latin1")
    except UnicodeEncodeError:
        raise RefusedError("bytes written as text that is not latin1") from None
