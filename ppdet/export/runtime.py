"""Runs an export in the place of its model."""

from __future__ import annotations

from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from ppdet.export.errors import ExportError
from ppdet.export.info import ExportInfo, read_info
from ppdet.export.sessions import Runtime, open_session
from ppdet.inference.predictors import Predictor, to_detections
from ppdet.structures import Batch, Detections, box_conventions, original_sizes
from ppdet.utils.cpu import usable_cores


class ExportedPredictor(Predictor):
    """An export in the place of its model.

    Args:
        folder: Of the export.
        runtime: What runs it.
        bfloat16: See `open_session`. What was verified is float32.

    Raises:
        ExportError: If it takes bytes, or was not verified for this runtime.
    """

    def __init__(self, folder: Path, runtime: Runtime, *, bfloat16: bool = False) -> None:
        info = read_info(folder)
        if info.uint8_input:
            raise ExportError(
                f"{folder} takes uint8 images; it is for serving (predict.py beside it), not for evaluation"
            )
        if runtime not in info.verified:
            raise ExportError(f"{folder} was not verified for {runtime}; export it again with verification")
        self._info = info
        self._session = open_session(folder, runtime, bfloat16=bfloat16)
        self.runtime = runtime_name(runtime) + ", bfloat16" * bfloat16

    def run(self, batch: Batch) -> list[np.ndarray]:
        """Boxes, scores, labels and maybe mask probabilities, padded."""
        return self._session(*arrays_of(batch))

    def finish(self, batch: Batch, raw: list[np.ndarray]) -> list[Detections]:
        """Without padding, masks pasted."""
        return as_detections(raw, batch, self._info)


def is_installed(runtime: Runtime) -> bool:
    """Whether the package that runs it is there."""
    package = {"onnx": "onnxruntime", "openvino": "openvino"}.get(runtime, "paddle")
    return find_spec(package) is not None


def runtime_name(runtime: Runtime) -> str:
    """Name and version for reports."""
    if runtime == "onnx":
        import onnxruntime

        return f"ONNX Runtime {onnxruntime.__version__}, {usable_cores()} threads"
    if runtime == "openvino":
        return f"OpenVINO {metadata.version('openvino')}, {usable_cores()} threads"
    return f"Paddle Inference {paddle.__version__}, {usable_cores()} threads"


def arrays_of(batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The inputs of an export on the host."""
    return _array(batch.images), _array(batch.image_sizes), _array(batch.scale_factors)


def _array(value: Any) -> np.ndarray:
    return value if isinstance(value, np.ndarray) else value.numpy()


def as_detections(raw: list[np.ndarray], batch: Batch, info: ExportInfo) -> list[Detections]:
    """What an export puts out, as detections of the images of a batch."""
    sizes = original_sizes(_array(batch.image_sizes), _array(batch.scale_factors))
    return to_detections(
        *raw,
        image_ids=batch.image_ids,
        original_sizes=[(int(h), int(w)) for h, w in sizes],
        mask_threshold=info.mask_threshold,
        conventions=box_conventions(info.conventions),
    )
