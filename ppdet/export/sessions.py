"""Files of an export, and the networks in them, loaded by each runtime.

Nothing of Paddle is imported before its own runtime is asked for: a process that only runs ONNX needs none.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, Optional, Protocol

import numpy as np

from ppdet.export.errors import ExportError
from ppdet.utils.cpu import usable_cores
from ppdet.utils.packages import require_packages

#: What an export can be run by; `paddle2x` is Paddle Inference with the outputs of PaddleDetection 2.x.
Runtime = Literal["paddle", "onnx", "openvino", "paddle2x"]

#: Files of Paddle Inference: structure and weights.
PADDLE_MODEL, PADDLE_WEIGHTS = "model.json", "model.pdiparams"
#: Folder inside of an export, with the same files for programs written for PaddleDetection 2.x.
PADDLE2X_FOLDER = "paddle2x"
#: File of ONNX.
ONNX_MODEL = "model.onnx"
#: Files of OpenVINO: the network and its weights.
OPENVINO_MODEL, OPENVINO_WEIGHTS = "model.xml", "model.bin"

#: Inputs, named as PaddleDetection 2.x named them, so that programs written for its exports find them.
INPUTS = ("image", "im_shape", "scale_factor")
#: Outputs; the last one only of detectors with masks.
OUTPUTS = ("boxes", "scores", "labels", "mask_probs")

#: Rewritings for oneDNN that Paddle 3.3 gets wrong: the first ends in a segmentation fault where a LeakyReLU
#: follows a convolution, the second loses the factor of a product of integers.
BROKEN_PASSES = ("conv_activation_onednn_fuse_pass", "operator_scale_onednn_fuse_pass")


class Session(Protocol):
    """A loaded network."""

    def __call__(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """Outputs for image, im_shape and scale_factor."""


def open_session(folder: Path, runtime: Runtime, *, bfloat16: bool = False) -> Session:
    """Load an export.

    Args:
        folder: Of the export.
        runtime: Runs it.
        bfloat16: Compute in bfloat16; on the CPU, by Paddle Inference.

    Raises:
        ExportError: If bfloat16 is requested on a GPU.
    """
    if runtime == "onnx":
        return OnnxSession(folder, threads=usable_cores())
    if runtime == "openvino":
        return OpenVinoSession(folder, threads=usable_cores())
    import paddle

    place = paddle.get_device()
    gpu = int(place.partition(":")[2] or 0) if place.startswith("gpu") else None
    if bfloat16 and gpu is not None:
        raise ExportError("paddle-bf16 is for CPUs; on a GPU use the runtime native or paddle")
    if runtime == "paddle2x":
        return Paddle2xSession(folder, threads=usable_cores(), gpu=gpu)
    return PaddleSession(folder, threads=usable_cores(), gpu=gpu, bfloat16=bfloat16)


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

        config = inference.Config(str(folder / PADDLE_MODEL), str(folder / PADDLE_WEIGHTS))
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


class Paddle2xSession:
    """Runs the export of 2.x's layout, and puts its table into the arrays that other sessions give.

    Args:
        folder: Of the export.
        threads: Threads of the CPU that it may use.
        gpu: Index of the graphics card, or None for the CPU.
    """

    def __init__(self, folder: Path, *, threads: int, gpu: Optional[int] = None) -> None:
        self._session = PaddleSession(folder / PADDLE2X_FOLDER, threads=threads, gpu=gpu)

    def __call__(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """Run on image, im_shape, scale_factor; boxes, scores and labels, padded."""
        return padded(*self._session(*arrays))


def padded(table: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    """Boxes ``[N, D, 4]``, scores ``[N, D]``, labels ``[N, D]`` of a table ``[n, 6]`` with counts ``[N]``."""
    images, most = len(counts), max(1, int(counts.max()))
    boxes = np.zeros((images, most, 4), np.float32)
    scores = np.zeros((images, most), np.float32)
    labels = np.full((images, most), -1, np.int64)
    first = 0
    for i, count in enumerate(counts.tolist()):
        rows = table[first : first + count]
        boxes[i, :count], scores[i, :count], labels[i, :count] = rows[:, 2:], rows[:, 1], rows[:, 0]
        first += count
    return [boxes, scores, labels]


class OnnxSession:
    """An ONNX Runtime session.

    Args:
        folder: Where ``model.onnx`` is.
        threads: Threads of the CPU that it may use.
    """

    def __init__(self, folder: Path, *, threads: int) -> None:
        import onnxruntime

        self._session = onnxruntime.InferenceSession(
            str(folder / ONNX_MODEL), _options(threads), providers=["CPUExecutionProvider"]
        )

    def __call__(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """Run on image, im_shape, scale_factor; returns the outputs in their order."""
        return list(self._session.run(None, dict(zip(INPUTS, arrays))))


def _options(threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    return options


class OpenVinoSession:
    """A model compiled for the CPU.

    Args:
        folder: Where ``model.xml`` is.
        threads: Threads of the CPU that it may use.
    """

    def __init__(self, folder: Path, *, threads: int) -> None:
        require_packages("openvino")
        import openvino

        # By itself OpenVINO computes in bfloat16 where the processor can, which changes labels of RT-DETR.
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        self._model = openvino.Core().compile_model(folder / OPENVINO_MODEL, "CPU", settings)
        self._names = [node.get_any_name() for node in self._model.inputs]

    def __call__(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """Run on image, im_shape, scale_factor; returns the outputs in their order."""
        given = dict(zip(INPUTS, arrays))
        found = self._model({name: given[name] for name in self._names})  # a graph may not need all three
        return [np.array(found[node]) for node in self._model.outputs]
