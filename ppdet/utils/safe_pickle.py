"""Reads the pickles that Paddle writes (`.pdparams`, `.pdopt`) without ever running them.

A pickle is a program. Python's own unpickler runs it, and `paddle.load` runs it unrestricted, so a
weight file from a stranger is a stranger's program. What Paddle writes needs very little: containers,
strings, numbers, and NumPy arrays made by a handful of well-known callables. This module is an
interpreter of just that part. It knows `ALLOWED` names and recognises what they stand for, but never
imports or calls any of them; whatever else a file names, by whatever opcode, is refused by that name.

It is an interpreter of its own, not a subclass of `pickle.Unpickler`, because ``find_class`` guards the
imports alone. Still open there: ``setattr`` on admitted objects (BUILD), the extension registry (EXT),
arrays of any size from one memo index (LONG_BINPUT) or one length field, and a stack overflow from
hashing deeply nested tuples.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Union

import numpy as np

from ppdet.utils.errors import WeightsError
from ppdet.utils.pickle_reader import ALLOWED, Interpreter
from ppdet.utils.pickle_values import Array, Dtype, Name, RefusedError, brief, checked_shape

#: Largest file that is read, in bytes. The largest published detector is below 0.4 GB.
MAX_BYTES = 8 << 30
#: Most containers, numbers and strings in one file; a state dict has some thousands.
MAX_ITEMS = 2_000_000
#: Deepest nesting of containers; Paddle's own is 3.
MAX_DEPTH = 16

#: Extra entries that Paddle adds to a state dict.
STRUCTURED_NAMES = "StructuredToParameterName@@"
BIG_PARAMETERS = "UnpackBigParamInfor@@"

__all__ = ["ALLOWED", "load", "loads"]


def load(path: Union[str, Path], *, max_bytes: int = MAX_BYTES, keep_names: bool = False) -> dict[str, Any]:
    """Read a `.pdparams`, `.pdopt` or `.pdema` file.

    Args:
        path: The file.
        max_bytes: Largest file size in bytes that is read at all.
        keep_names: Keep the entry `STRUCTURED_NAMES` (key -> parameter name, both strings) if there is one.

    Returns:
        The file's dict with Paddle's own bookkeeping undone: (name, array) pairs become arrays, arrays
        that were cut in slices are whole again, the entry of parameter names is dropped. Values are
        writable `numpy.ndarray` of numbers, int, float, bool, str, bytes, None, and dicts, lists and
        tuples of these.

    Raises:
        WeightsError: If the file is missing or too large, is no such pickle, or names anything outside
            `ALLOWED`. Nothing in the file has run by then, or ever.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise RefusedError(f"it has {size} bytes, more than the limit of {max_bytes}")
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except RefusedError as refusal:
        raise WeightsError(f"{path}: refused: {refusal}") from None
    return loads(data, source=str(path), keep_names=keep_names)


def loads(data: bytes, *, source: str = "bytes", keep_names: bool = False) -> dict[str, Any]:
    """As `load`, from bytes in memory; `source` is the name that errors give them."""
    try:
        tree = _Finish().value(Interpreter(data).run())
        if not isinstance(tree, dict):
            raise RefusedError(f"it holds a {type(tree).__name__}, not a dict")
        for key in tree:
            if not isinstance(key, str):
                raise RefusedError(f"it has the key {brief(key)}; keys must be strings")
        names = tree.pop(STRUCTURED_NAMES, None)
        tree = _undo_bookkeeping(tree)
        if keep_names and names is not None:
            tree[STRUCTURED_NAMES] = _checked_names(names)
        return tree
    except RefusedError as refusal:
        raise WeightsError(f"{source}: refused: {refusal}") from None


class _Finish:
    """Replaces arrays and name-array pairs in the finished tree, within `MAX_DEPTH` and `MAX_ITEMS`."""

    def __init__(self) -> None:
        self._count = 0

    def value(self, value: Any, depth: int = 0) -> Any:
        self._count += 1
        if self._count > MAX_ITEMS or depth > MAX_DEPTH:
            raise RefusedError(f"containers nested deeper than {MAX_DEPTH}, or more than {MAX_ITEMS} entries")
        if isinstance(value, Array):
            if value.value is None:
                raise RefusedError("an array without content")
            return value.value
        if isinstance(value, dict):
            return {key: self.value(item, depth + 1) for key, item in value.items()}
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], Array):
            return self.value(value[1], depth + 1)  # (parameter name, array) of Paddle 2.1 and later
        if isinstance(value, (list, tuple)):
            return type(value)(self.value(item, depth + 1) for item in value)
        if isinstance(value, memoryview):
            return bytes(value)
        if isinstance(value, (Name, Dtype)):
            raise RefusedError("a name or a dtype where a value belongs")
        return value


def _checked_names(names: Any) -> dict[str, str]:
    if not isinstance(names, dict) or not all(isinstance(n, str) for pair in names.items() for n in pair):
        raise RefusedError(f"{STRUCTURED_NAMES} is not a dict of strings")
    return names


def _undo_bookkeeping(tree: dict[str, Any]) -> dict[str, Any]:
    slices = tree.pop(BIG_PARAMETERS, None)
    if slices is None:
        return tree
    if not isinstance(slices, dict):
        raise RefusedError(f"{BIG_PARAMETERS} is not a dict")
    for key, entry in slices.items():
        names = entry.get("slices") if isinstance(entry, dict) else None
        shape = entry.get("OriginShape") if isinstance(entry, dict) else None
        if not isinstance(names, (list, tuple)) or not isinstance(shape, (list, tuple)):
            raise RefusedError(f"{BIG_PARAMETERS} does not say how {brief(key)} was cut")
        parts = [tree.pop(name, None) if isinstance(name, str) else None for name in names]
        arrays = [part.reshape(-1) for part in parts if isinstance(part, np.ndarray)]
        whole = checked_shape(tuple(shape))
        if not arrays or len(arrays) != len(parts) or sum(a.size for a in arrays) != math.prod(whole):
            raise RefusedError(f"the slices of {brief(key)} do not make up its shape {list(shape)}")
        tree[str(key)] = np.concatenate(arrays).reshape(whole)
    return tree
