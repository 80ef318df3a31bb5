"""What an export says about itself: class names, how images are prepared, thresholds.

The same JSON lies beside a Paddle model as ``export.json`` and inside an ONNX file under the key `KEY`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Optional, Union

from ppdet.config import Spec
from ppdet.data.readers import Reader, TestReader
from ppdet.data.transforms.base import Step
from ppdet.data.transforms.decode import Decode
from ppdet.data.transforms.normalize import NormalizeImage, Permute
from ppdet.data.transforms.pad import PadBatch
from ppdet.data.transforms.resize import Resize
from ppdet.export.errors import ExportError
from ppdet.modeling.interfaces import Detector

#: Key of the JSON among the properties of an ONNX file.
KEY = "ppdet"
#: Name of the JSON beside a model.
FILE_NAME = "export.json"


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes an input. Applied in the order of the fields.

    Attributes:
        target_size: (height, width), or with `keep_ratio` the limits of the short and the long side; None
            for images as they are.
        keep_ratio: Scale both sides by the same factor.
        interp: OpenCV's number of the interpolation.
        unrounded: Resize by the exact factor, bilinearly, in floats.
        mean: Of R, G, B; subtracted after `scale`.
        std: Of R, G, B; divided by at the end.
        scale: Factor of pixel values, 1 / 255 or 1.
        pad_to_stride: Zeros at the right and bottom up to a multiple of so many pixels; 1 for none.
    """

    target_size: Optional[tuple[int, int]]
    keep_ratio: bool
    interp: int
    unrounded: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float
    pad_to_stride: int


@dataclass(frozen=True)
class ExportInfo:
    """Everything that whoever runs an export has to know.

    Attributes:
        architecture: Class of the detector.
        class_names: Names by label.
        preprocess: How images are prepared.
        uint8_input: The input is ``[N, H, W, 3]`` uint8 RGB, resized and padded, not normalised.
        has_masks: There is a fourth output, mask probabilities.
        score_threshold: Detections have greater scores than this; None without a final NMS.
        nms_threshold: IoU of the class-wise NMS inside; None where there is none.
        keep_top_k: Length at which the final NMS cuts the list of an image; None without one. Shorter lists
            are padded with label -1.
        mask_threshold: Probability from which on a pixel belongs to an object.
        conventions: Name of the box conventions; they say how masks are pasted.
        version: Version of ppdet that exported.
        verified: By runtime, what the comparison with the model came to; empty if it was not made.
    """

    architecture: str
    class_names: tuple[str, ...]
    preprocess: Preprocess
    uint8_input: bool
    has_masks: bool
    score_threshold: Optional[float]
    nms_threshold: Optional[float]
    keep_top_k: Optional[int]
    mask_threshold: float
    conventions: str
    version: str
    verified: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """As text; keys in the order of the fields."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=1)

    @classmethod
    def from_json(cls, text: str, source: Union[str, Path]) -> ExportInfo:
        """Read what `to_json` wrote; what a newer version added is left out.

        Raises:
            ExportError: If it is something else; names `source`.
        """
        try:
            values = json.loads(text)
            inner = values["preprocess"]
            steps = Preprocess(**{f.name: _as_tuple(inner[f.name]) for f in fields(Preprocess)})
            values_read = {f.name: _as_tuple(values[f.name]) for f in fields(cls)}
            values_read["preprocess"] = steps
            return cls(**values_read)
        except (ValueError, KeyError, TypeError) as error:
            raise ExportError(f"{source}: not the description of an export of ppdet: {error!r}") from None


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def read_info(folder: Path) -> ExportInfo:
    """The description in the folder of an export.

    Raises:
        ExportError: If there is none.
    """
    path = folder / FILE_NAME
    try:
        return ExportInfo.from_json(path.read_text("utf-8"), path)
    except OSError as error:
        raise ExportError(f"{path} cannot be read: {error.strerror or error}; is this an export?") from None


def preprocess_of(reader: Reader) -> Preprocess:
    """What a reader does to images, in the terms of an export.

    Raises:
        ExportError: If it does something that an export cannot say.
    """
    described: dict[str, Any] = {
        "target_size": None,
        "keep_ratio": False,
        "interp": 1,
        "unrounded": False,
        "pad_to_stride": 1,
    }
    for step in (*reader.sample_transforms, *reader.batch_transforms):
        described.update(_described(step))
    if "mean" not in described:
        raise ExportError(
            "the TestReader has no NormalizeImage; an export must say how pixels become numbers"
        )
    return Preprocess(**described)


def _described(step: Step) -> dict[str, Any]:
    if isinstance(step, (Decode, Permute)):
        return {}
    if isinstance(step, Resize):
        size, keep_ratio, interp, unrounded = step.params
        return {"target_size": size, "keep_ratio": keep_ratio, "interp": interp, "unrounded": unrounded}
    if isinstance(step, NormalizeImage):
        return {
            "mean": tuple(float(v) for v in step.mean),
            "std": tuple(float(v) for v in step.std),
            "scale": float(step.scale),
        }
    if isinstance(step, PadBatch):
        return {"pad_to_stride": max(step.pad_to_stride, 1)}
    raise ExportError(
        f"the TestReader has {type(step).__name__}; an export knows Decode, Resize, NormalizeImage, Permute "
        "and PadBatch only"
    )


def reader_of(info: ExportInfo) -> TestReader:
    """The reader that prepares images as an export takes them, one image per batch."""
    steps = info.preprocess
    transforms: list[Spec[Any]] = [Spec.of(Decode)]
    if steps.target_size is not None:
        transforms.append(
            Spec.of(
                Resize,
                target_size=steps.target_size,
                keep_ratio=steps.keep_ratio,
                interp=steps.interp,
                conventions=info.conventions if steps.unrounded else "",
            )
        )
    scaled = steps.scale != 1.0
    mean, std = list(steps.mean), list(steps.std)
    transforms += [Spec.of(NormalizeImage, mean=mean, std=std, is_scale=scaled), Spec.of(Permute)]
    pad: list[Spec[Step]] = [Spec.of(PadBatch, pad_to_stride=steps.pad_to_stride)]
    return TestReader(sample_transforms=transforms, batch_transforms=pad)


def describe(
    model: Detector, reader: Reader, class_names: tuple[str, ...], *, uint8_input: bool = False
) -> ExportInfo:
    """The description of a model that is about to be exported.

    Args:
        model: The detector.
        reader: How its images are prepared.
        class_names: Names by label.
        uint8_input: Put the normalisation into the graph.

    Raises:
        ExportError: If the reader cannot be described, or its images are no bytes.
    """
    from ppdet import __version__

    steps = preprocess_of(reader)
    if uint8_input and steps.unrounded:
        raise ExportError(
            f"weights in the {model.conventions.name} conventions resize images in floats; leave out uint8"
        )
    nms = model.final_nms
    return ExportInfo(
        architecture=type(model).__name__,
        class_names=tuple(class_names),
        preprocess=steps,
        uint8_input=uint8_input,
        has_masks=model.has_masks,
        score_threshold=None if nms is None else nms.score_threshold,
        nms_threshold=None if nms is None else nms.nms_threshold,
        keep_top_k=None if nms is None else nms.keep_top_k,
        mask_threshold=model.mask_threshold,
        conventions=model.conventions.name,
        version=__version__,
    )
