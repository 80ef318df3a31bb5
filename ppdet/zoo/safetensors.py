"""The safetensors format: a JSON header with names, types and offsets, then the raw tensors.

It is small enough to read and write here, so that the package does not need another dependency, and every
check of its specification is in one place.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import numpy as np

from ppdet.utils.errors import WeightsError

_DTYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "F16": "<f2",
    "U32": "<u4", "I32": "<i4", "F32": "<f4", "U64": "<u8", "I64": "<i8", "F64": "<f8",
}  # fmt: skip
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}
_MAX_HEADER = 100 << 20


def is_safetensors(head: bytes, size: int) -> bool:
    """Whether a file with these first bytes and this size can be of this format."""
    return len(head) > 9 and head[8:9] == b"{" and 2 <= struct.unpack_from("<Q", head)[0] <= size - 8


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors by name, and the text metadata.

    Raises:
        WeightsError: If the file breaks the format: names the tensor.
    """
    data = path.read_bytes()
    if len(data) < 8:
        raise WeightsError(f"{path}: no safetensors file, it has {len(data)} bytes")
    size = struct.unpack_from("<Q", data)[0]
    if size > min(_MAX_HEADER, len(data) - 8):
        raise WeightsError(f"{path}: no safetensors file, its header would have {size} bytes")
    try:
        header = json.loads(data[8 : 8 + size].decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: no safetensors file: {error}") from None
    if not isinstance(header, dict):
        raise WeightsError(f"{path}: no safetensors file, its header is no object")
    described = header.pop("__metadata__", {})
    metadata = (
        {k: v for k, v in described.items() if isinstance(v, str)} if isinstance(described, dict) else {}
    )
    body = memoryview(data)[8 + size :]
    tensors = {name: _tensor(path, name, entry, body) for name, entry in header.items()}
    if sum(value.nbytes for value in tensors.values()) != len(body):
        raise WeightsError(f"{path}: its tensors overlap or leave holes")
    return tensors, metadata


def _tensor(path: Path, name: str, entry: Any, body: memoryview) -> np.ndarray:
    described = entry if isinstance(entry, dict) else {}
    shape, offsets = _sizes(described.get("shape")), _sizes(described.get("data_offsets"))
    code = _DTYPES.get(str(described.get("dtype")))
    if code is None or shape is None or offsets is None or len(shape) > 32 or len(offsets) != 2:
        raise WeightsError(f"{path}: {name!r} is not described as a tensor: {str(entry)[:120]}")
    dtype = np.dtype(code)
    begin, end = offsets
    if end > len(body) or end - begin != math.prod(shape) * dtype.itemsize:
        raise WeightsError(f"{path}: {name!r} of shape {shape} does not have its bytes at {begin}..{end}")
    values = np.frombuffer(body[begin:end], dtype) if end > begin else np.empty(0, dtype)
    return values.reshape(shape).astype(dtype.newbyteorder("="))


def _sizes(numbers: Any) -> Optional[list[int]]:
    """The numbers if they are a list of sensible sizes, else None."""
    if not isinstance(numbers, list) or any(type(n) is not int or not 0 <= n < 2**48 for n in numbers):
        return None
    return numbers


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write tensors by name and text metadata.

    Raises:
        WeightsError: If a tensor has a type that the format does not know.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, value in tensors.items():
        kind = _NAMES.get(value.dtype.newbyteorder("<") if value.dtype.itemsize > 1 else value.dtype)
        if kind is None:
            raise WeightsError(f"{path}: {name!r} has type {value.dtype}, which safetensors does not know")
        header[name] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [at, at + value.nbytes]}
        at += value.nbytes
    text = json.dumps(header, ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of 8 bytes
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for value in tensors.values():
            file.write(np.ascontiguousarray(value, value.dtype.newbyteorder("<")).tobytes())
