"""A detector as a static graph: what both export formats are made from.

Letters: N images, H, W input height and width, D detections per image, M mask resolution.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

import paddle
from paddle import Tensor, nn
from paddle.nn import functional
from paddle.static import InputSpec
from paddle.vision import ops as kernels

from ppdet.data.finish import normalize_batch
from ppdet.export.info import Preprocess
from ppdet.export.sessions import INPUTS
from ppdet.modeling.interfaces import Detector
from ppdet.modeling.reparameterize import for_inference
from ppdet.structures import DetectionTensors

#: Packages whose code needs no translation.
_KNOWN = ("ppdet", "paddle", "numpy", "builtins", "collections")


class DetectionProgram(nn.Layer):
    """From prepared images to padded detections, NMS included.

    Args:
        detector: The detector.
        normalize: Take ``[N, H, W, 3]`` uint8 RGB and normalise it so; None takes ``[N, 3, H, W]`` float32
            normalised.
    """

    def __init__(self, detector: Detector, normalize: Optional[Preprocess] = None) -> None:
        super().__init__()
        self.detector = for_inference(detector)
        self._normalize = normalize
        self._as_written = not has_other_code(detector)

    def detect(self, images: Tensor, image_sizes: Tensor, scale_factors: Tensor) -> DetectionTensors:
        """Detections of the detector, whose code Paddle translates only if some of it is of others."""
        if self._as_written:
            return _detect_as_written(self.detector, images, image_sizes, scale_factors)
        return self.detector.detect(images, image_sizes, scale_factors)

    def forward(self, image: Tensor, im_shape: Tensor, scale_factor: Tensor) -> list[Tensor]:
        """Detections.

        Args:
            image: See the constructor.
            im_shape: ``[N, 2]`` float32 (height, width) of the resized content.
            scale_factor: ``[N, 2]`` float32 (y, x), resized / original.

        Returns:
            Boxes ``[N, D, 4]`` float32 xyxy in original pixels, scores ``[N, D]``, labels ``[N, D]`` int64
            with -1 in padded rows, and mask probabilities ``[N, D, M, M]`` where there are masks.
        """
        steps = self._normalize
        if steps is None:
            images = image
        else:
            images = normalize_batch(image, im_shape, steps.mean, steps.std, steps.scale)
        detections = self.detect(images, im_shape, scale_factor)
        results = [detections.boxes, detections.scores, detections.labels]
        if detections.mask_probs is not None:
            results.append(detections.mask_probs)
        return results


@paddle.jit.not_to_static
def _detect_as_written(detector: Detector, *inputs: Tensor) -> DetectionTensors:
    return detector.detect(*inputs)


def has_other_code(detector: Detector) -> bool:
    """Whether some part of a detector was written outside of this project.

    Before tracing, Paddle can translate code that decides by tensors or reads sizes that vary. Ours does
    neither, and translating it takes most of a trace (`benchmarks/tracing.py`). Code of others is
    translated.
    """
    seen, left = set(), [detector]
    while left:
        part: Any = left.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        source = part if inspect.isroutine(part) else type(part)
        origin = (source.__module__ or "builtins").partition(".")[0]
        if origin not in _KNOWN:
            return True
        if isinstance(part, dict):
            left.extend(part.values())
        elif isinstance(part, (list, tuple)):
            left.extend(part)
        elif origin == "ppdet" or isinstance(part, nn.Layer):
            left.extend(getattr(part, "__dict__", {}).values())
    return False


def save_program(program: DetectionProgram, prefix: Path, *, uint8_input: bool) -> None:
    """Trace with free batch and image size, and write ``<prefix>.json`` and ``<prefix>.pdiparams``."""
    training = program.detector.training
    program.eval()
    images = InputSpec([-1, -1, -1, 3], "uint8") if uint8_input else InputSpec([-1, 3, -1, -1], "float32")
    images.name = INPUTS[0]
    pairs = [InputSpec([-1, 2], "float32", name) for name in INPUTS[1:]]
    static = paddle.jit.to_static(program, input_spec=[images, *pairs], full_graph=True)
    with warnings.catch_warnings():
        # Paddle warns about a property that its own tracing reads.
        warnings.filterwarnings("ignore", message="Tensor do not have 'place'")
        paddle.jit.save(static, str(prefix))
    if training:
        program.train()


class PortableKernels:
    """Stand-ins for kernels of Paddle that paddle2onnx 2.1 does not map, or maps to something else.

    Attributes:
        slopes: Of the leaky rectifiers met, which the converter does not read.
    """

    def __init__(self) -> None:
        self.slopes: set[float] = set()
        self._roi_align = kernels.roi_align
        self._leaky_relu = functional.leaky_relu

    def leaky_relu(self, x: Tensor, negative_slope: float = 0.01, name: Optional[str] = None) -> Tensor:
        """As `paddle.nn.functional.leaky_relu`; remembers the slope."""
        self.slopes.add(negative_slope)
        return self._leaky_relu(x, negative_slope, name)

    @staticmethod
    def nms(boxes: Tensor, iou_threshold: float) -> Tensor:
        """As `paddle.vision.ops.nms` on boxes sorted by score: class-wise NMS of one class, nothing dropped.

        Scores fall with the row, so rows come out in their order.
        """
        rows = paddle.arange(paddle.shape(boxes)[0]).astype("float32")
        class_wise: Any = paddle._C_ops.multiclass_nms3  # its annotations do not know that None is fine
        kept = class_wise(
            boxes.unsqueeze(0),
            (-rows).reshape([1, 1, -1]),
            None,
            -1e9,  # score threshold: below every -row
            1000000,  # boxes that enter: all
            -1,  # boxes that leave: all
            iou_threshold,
            True,  # sides without "+1"
            1.0,  # the threshold does not change along the way
            -1,  # no background class
        )
        return kept[1].flatten().astype("int64")

    def roi_align(self, features: Tensor, boxes: Tensor, boxes_num: Tensor, **settings: Any) -> Tensor:
        """As `paddle.vision.ops.roi_align`; hides in front of the boxes what paddle2onnx loses.

        The converter gives every region to image 0, and the older convention (``aligned=False``) the newer
        one. `repair_roi_align` puts both right, and finds them here: the columns before the boxes hold the
        image of each region, and they are two instead of one if not aligned.
        """
        ends = paddle.cumsum(boxes_num.astype("int64")).unsqueeze(0)
        rows = paddle.arange(paddle.shape(boxes)[0], dtype="int64").unsqueeze(1)
        image = (rows >= ends).astype("float32").sum(axis=1, keepdim=True)
        first = 1 if settings["aligned"] else 2
        tagged = paddle.concat([image] * first + [boxes], axis=1)
        return self._roi_align(features, tagged[:, first : first + 4], boxes_num, **settings)


@contextmanager
def portable_kernels() -> Iterator[PortableKernels]:
    """Within, detectors compute with kernels that survive the conversion to ONNX. Results are the same.

    Changed on Paddle's own modules, since tracing keeps copies of the names that functions see.
    """
    places: tuple[tuple[Any, str], ...] = (
        (kernels, "nms"),
        (kernels, "roi_align"),
        (functional, "leaky_relu"),
    )
    before = [getattr(module, name) for module, name in places]
    stand_ins = PortableKernels()
    try:
        for module, name in places:
            setattr(module, name, getattr(stand_ins, name))
        yield stand_ins
    finally:
        for (module, name), own in zip(places, before):
            setattr(module, name, own)
