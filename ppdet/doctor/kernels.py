"""Which operators run, and whether Paddle has a kernel for GPUs for each of them.

Operators have the names of Paddle's operator list; gradients are those that this list names for an operator.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import paddle

#: Operators that the list of 2.6.2 lacks: it does not report `cast`, which every build has for every device;
#: `div_scale`, a division by a number, and `shape64`, which gives a shape and runs on the host, are newer.
UNLISTED = {"cast", "div_scale", "shape64"}
#: C++ types of the registry -> names of Paddle.
_TYPES = {
    "float": "float32", "double": "float64", "int": "int32", "int64_t": "int64", "bool": "bool",
    "uint8_t": "uint8", "int8_t": "int8", "int16_t": "int16",
    "::paddle::platform::float16": "float16", "::paddle::platform::bfloat16": "bfloat16",
}  # fmt: skip
#: Columns of Paddle's operator list.
COLUMNS = ("float16", "bfloat16", "float32", "other")


def registered() -> dict[str, list[str]]:
    """Kernels of this build for GPUs, and the types of each."""
    pattern = re.compile(r"data_type\[(.*?)\].*place\[Place\(gpu:")
    found: dict[str, list[str]] = {}
    for name, kernels in _core()._get_all_register_op_kernels("phi").items():
        types = {match.group(1) for match in map(pattern.search, kernels) if match}
        if types:
            found[name] = sorted(_TYPES[one] for one in types if one in _TYPES)
    return found


@contextmanager
def recorded() -> Iterator[dict[str, dict[str, int]]]:
    """Within, launches are counted: operator -> type -> how often, filled in at the end."""
    core = _core()
    paddle.set_flags({"FLAGS_low_precision_op_list": 1})
    core.clear_low_precision_op_list()
    launches: dict[str, dict[str, int]] = {}
    try:
        yield launches
        for name, counts in core.get_low_precision_op_list().items():
            launches[name] = dict(zip(COLUMNS, map(int, counts.split(","))))
    finally:
        paddle.set_flags({"FLAGS_low_precision_op_list": 0})


def missing(launches: dict[str, dict[str, int]], kernels: dict[str, list[str]], *, train: bool) -> list[str]:
    """What of the launches, and of their gradients, has no kernel for GPUs; operator and type."""
    core = _core()
    faults = []
    for name, counts in launches.items():
        listed = [one for one in (name, name + "2", core._get_phi_kernel_name(name)) if one in kernels]
        if not listed:
            faults += [name] if name not in UNLISTED else []
            continue
        for kernel in (listed[0], listed[0] + "_grad"):
            types = kernels.get(kernel)
            for dtype in COLUMNS[:3]:
                if counts[dtype] and types and dtype not in types and (train or not kernel.endswith("_grad")):
                    faults.append(f"{kernel} {dtype}")
    return faults


def _core() -> Any:
    """Paddle's compiled part, whose stubs lack what is asked of it here."""
    return paddle.base.core
