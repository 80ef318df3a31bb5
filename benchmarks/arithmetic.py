"""The least time that a network's multiplications take on this machine, whatever runs them in float32.

Rounds of `inference.py` compare runtimes with each other; this says how far the fastest of them is from what
the processor can do at all.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

#: Rows and columns of the matrices whose product tells the processor's speed.
SIZE = 4096
#: Products; the fastest one counts.
TRIES = 5


def matrix_product_flops() -> float:
    """Operations per second of the fastest of some large float32 matrix products."""
    left = np.random.default_rng(0).random((SIZE, SIZE), np.float32)
    seconds = []
    for _ in range(TRIES):
        before = time.perf_counter()
        left @ left
        seconds.append(time.perf_counter() - before)
    return 2 * SIZE**3 / min(seconds)


def network_flops(model: Path, feeds: Sequence[dict[str, np.ndarray]]) -> list[float]:
    """Multiplications and additions of a network's convolutions and matrix products, counted while it runs.

    Args:
        model: An ONNX file.
        feeds: Inputs of one image each.

    Returns:
        The operations for each of the images.
    """
    return [_count(_profile(model, feed)) for feed in feeds]


def _profile(model: Path, feed: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    import onnxruntime

    with tempfile.TemporaryDirectory() as scratch:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Without rearranging memory, which fills channels up to blocks.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(scratch) / "profile")
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        session.run(None, feed)
        events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    return [event for event in events if event["name"].endswith("_kernel_time")]


def _count(events: Sequence[dict[str, Any]]) -> float:
    total = 0.0
    for event in events:
        details = event["args"]
        kind = details["op_name"]
        if kind.endswith(("Conv", "Gemm", "MatMul")):
            shapes = [_shape(entry) for entry in details["input_type_shape"]]
            # ONNX Runtime leaves out matrices that it has packed beforehand.
            summed = np.prod(shapes[1][1:]) if kind.endswith("Conv") else shapes[0][-1]
            total += 2.0 * float(np.prod(_shape(details["output_type_shape"][0]))) * float(summed)
    return total


def _shape(entry: dict[str, list[int]]) -> list[int]:
    (shape,) = entry.values()
    return shape
