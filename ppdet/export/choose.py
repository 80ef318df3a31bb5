"""Chooses the runtime of a model, and keeps a cache of exports."""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Literal, Optional

import numpy as np
import paddle

from ppdet import __version__
from ppdet.config import Spec
from ppdet.data.readers import Reader
from ppdet.export.bundle import export_model
from ppdet.export.errors import ExportError
from ppdet.export.fastest import fastest
from ppdet.export.info import FILE_NAME, ExportInfo, describe
from ppdet.export.onnx import obstacle
from ppdet.export.runtime import ExportedPredictor, is_installed
from ppdet.export.sessions import Runtime
from ppdet.export.verify import generated_images, prepare
from ppdet.inference.predictors import NativePredictor, Predictor
from ppdet.modeling.interfaces import Detector
from ppdet.utils.files import cache_folder

logger = logging.getLogger(__name__)

#: Runtimes that a user can choose.
Choice = Literal["auto", "native", "paddle", "paddle-bf16", "onnx", "openvino"]
CHOICES: tuple[Choice, ...] = ("auto", "native", "paddle", "paddle-bf16", "onnx", "openvino")
#: `auto` exports for no fewer images than this: exporting and verifying R50-FPN takes as long as running some
#: thirty images natively.
WORTHWHILE = 50


def choose_predictor(
    choice: Choice,
    model: Detector,
    architecture: Spec[Detector],
    reader: Reader,
    *,
    images: int,
    class_names: tuple[str, ...] = (),
    cache: Optional[Path] = None,
) -> Predictor:
    """Choose what runs a model, and log the choice in one line.

    ``auto`` on a GPU is Paddle Inference; on the CPU it is the faster of ONNX Runtime and OpenVINO, as far as
    they are installed, else Paddle Inference too. An export has to pass its comparison with the model, and
    there
    must be enough images to be worth exporting, or it is cached already. If that fails, ``auto`` uses the
    model itself; a runtime that was named is an error then. ``auto`` never chooses ``paddle-bf16``, whose
    boxes are off by pixels.

    Args:
        choice: Name of the runtime, or ``auto``.
        model: A detector with its weights.
        architecture: What the model was built from.
        reader: Prepares its images.
        images: How many inputs are to be run: images times their views.
        class_names: Of the model; empty where they are unknown.
        cache: Folder of the cache; by default that of the user.

    Raises:
        ExportError: If the chosen runtime cannot run this model.
        VerifyError: If its detections differ from those of the model.
    """
    if choice == "native":
        return NativePredictor(model)
    info = describe(model, reader, class_names)
    folder = cache or cache_folder() / "exports"
    entries = {name: folder / fingerprint(model, architecture, info, name) for name in _candidates(choice)}
    cached = all((entry / FILE_NAME).is_file() for entry in entries.values())
    if choice == "auto" and images < WORTHWHILE and not cached:
        names = " or ".join(entries)
        return _native(
            model, f"an export is worth its time from {WORTHWHILE} images on (runtime {names} makes one)"
        )
    ready: dict[Runtime, Path] = {}
    for runtime, entry in entries.items():
        try:
            put_into_cache(entry, model, info, reader, runtime)
            ready[runtime] = entry
        except ExportError as error:
            if choice != "auto":
                raise
            logger.info("runtime %s is left out: %s", runtime, error)
    if not ready:
        return _native(model, "the export failed")
    runtime = fastest(ready, cache=folder)
    predictor = ExportedPredictor(ready[runtime], runtime, bfloat16=choice == "paddle-bf16")
    logger.info("runtime: %s", predictor.runtime)
    return predictor


def _native(model: Detector, reason: str) -> NativePredictor:
    logger.info("runtime: paddle dygraph, since %s", reason)
    return NativePredictor(model)


def _candidates(choice: Choice) -> tuple[Runtime, ...]:
    """What may run a model: one runtime that was named, or the contenders of ``auto``."""
    named: dict[str, Runtime] = {"onnx": "onnx", "openvino": "openvino"}
    if choice != "auto":
        return (named.get(choice, "paddle"),)
    if paddle.get_device().startswith("gpu"):
        return ("paddle",)
    reason = obstacle()
    if reason:
        logger.info("runtime: Paddle Inference; ONNX Runtime may be faster: %s", reason)
        return ("paddle",)
    return ("onnx", "openvino") if is_installed("openvino") else ("onnx",)


def put_into_cache(entry: Path, model: Detector, info: ExportInfo, reader: Reader, runtime: Runtime) -> None:
    """Put a verified export into the cache, unless it is there already.

    Args:
        entry: Its folder.
        model: A detector with its weights.
        info: What the export says about itself.
        reader: How images are prepared.
        runtime: What is to run it.

    Raises:
        ExportError: If the model cannot be exported or run.
        VerifyError: If the export differs from the model.
    """
    if not (entry / FILE_NAME).is_file():
        logger.info("exporting for %s into %s and comparing with the model, once per weights", runtime, entry)
        entry.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=entry.parent, prefix=".making-"))
        try:
            export_model(model, scratch, info, formats=[runtime], batches=prepare(reader, generated_images()))
            _put(scratch, entry)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _put(scratch: Path, entry: Path) -> None:
    """Move a finished export to its place, unless another process was quicker."""
    if not (entry / FILE_NAME).is_file():
        shutil.rmtree(entry, ignore_errors=True)
        try:
            scratch.replace(entry)
        except OSError:
            if not (entry / FILE_NAME).is_file():
                raise


def fingerprint(model: Detector, architecture: Spec[Detector], info: ExportInfo, runtime: Runtime) -> str:
    """Name of an export: another one for other weights, another model, other preprocessing or versions."""
    versions = f"{runtime} {__version__} {paddle.__version__} {np.__version__}"
    digest = hashlib.sha256(f"{versions}\n{info.to_json()}\n{architecture!r}\n".encode())
    for key, value in sorted(model.state_dict().items()):
        digest.update(f"{key} {list(value.shape)}\n".encode())
        digest.update(np.ascontiguousarray(value.numpy()).tobytes())
    return f"{info.architecture.lower()}-{runtime}-{digest.hexdigest()[:24]}"
