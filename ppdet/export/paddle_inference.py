"""Export for Paddle Inference, and running it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import numpy as np

from ppdet.export.metadata import ExportInfo
from ppdet.export.program import INPUTS, DetectionProgram, save_program
from ppdet.modeling.interfaces import Detector

#: Files of a model: structure and weights.
MODEL, WEIGHTS = "model.json", "model.pdiparams"


def export_paddle(model: Detector, folder: Path, info: ExportInfo) -> Path:
    """Write the model into a folder; returns the file of its structure."""
    normalize = info.preprocess if info.uint8_input else None
    save_program(DetectionProgram(model, normalize), folder / "model", uint8_input=info.uint8_input)
    return folder / MODEL


class PaddleSession:
    """A Paddle Inference predictor.

    Args:
        folder: Where the model is.
        threads: Threads of the CPU that it may use.
        gpu: Index of the graphics card, or None for the CPU.
    """

    def __init__(self, folder: Path, *, threads: int, gpu: Optional[int] = None) -> None:
        from paddle import inference

        config = inference.Config(str(folder / MODEL), str(folder / WEIGHTS))
        config.disable_glog_info()
        if gpu is None:
            config.disable_gpu()
            config.set_cpu_math_library_num_threads(threads)
            # Paddle 3.3.1 with oneDNN: R-CNN graphs corrupt the heap, YOLOv3's ends in a segmentation fault
            # while convolutions are fused, and with the placement pass left out scores are wrong by 0.5.
            config.disable_mkldnn()
        else:
            config.enable_use_gpu(512, gpu)
        self._predictor: Any = inference.create_predictor(config)
        self._inputs = [self._predictor.get_input_handle(name) for name in INPUTS]
        self._outputs = [
            self._predictor.get_output_handle(name) for name in self._predictor.get_output_names()
        ]

    def __call__(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """Run on image, im_shape, scale_factor; returns the outputs in their order."""
        for handle, array in zip(self._inputs, arrays):
            handle.reshape(array.shape)
            handle.copy_from_cpu(np.ascontiguousarray(array))
        self._predictor.run()
        return [handle.copy_to_cpu() for handle in self._outputs]
