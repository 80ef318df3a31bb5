"""Export for Paddle Inference, and running it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Optional

import numpy as np

from ppdet.export.info import ExportInfo
from ppdet.export.program import INPUTS, DetectionProgram, save_program
from ppdet.modeling.interfaces import Detector

#: Files of a model: structure and weights.
MODEL, WEIGHTS = "model.json", "model.pdiparams"
#: Rewritings for oneDNN that Paddle 3.3 gets wrong: the first ends in a segmentation fault where a LeakyReLU
#: follows a convolution, the second loses the factor of a product of integers.
BROKEN_PASSES = ("conv_activation_onednn_fuse_pass", "operator_scale_onednn_fuse_pass")


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
        bfloat16: Compute in bfloat16 where the CPU's oneDNN can; results then have three digits.
    """

    def __init__(
        self, folder: Path, *, threads: int, gpu: Optional[int] = None, bfloat16: bool = False
    ) -> None:
        from paddle import inference

        config = inference.Config(str(folder / MODEL), str(folder / WEIGHTS))
        config.disable_glog_info()
        if gpu is None:
            config.disable_gpu()
            config.set_cpu_math_library_num_threads(threads)
            # In bfloat16 oneDNN would take AMX, and R-CNN graphs stop at an illegal instruction on virtual
            # machines, also where the system offers it. Read once per process, by whichever comes first.
            os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
            config.enable_mkldnn()
            for name in BROKEN_PASSES:
                config.delete_pass(name)
            if bfloat16:
                config.enable_mkldnn_bfloat16()
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
