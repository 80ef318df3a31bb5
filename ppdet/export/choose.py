"""Which runtime a model is run by, and the cache of exports that it is run from."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Literal, Optional

import numpy as np
import paddle

from ppdet import __version__
from ppdet.data.readers import Reader
from ppdet.export.bundle import export_model
from ppdet.export.errors import ExportError
from ppdet.export.metadata import FILE_NAME, ExportInfo, describe
from ppdet.export.onnx import missing_packages
from ppdet.export.runtime import ExportedPredictor, Runtime
from ppdet.export.verify import made_up_images, prepare
from ppdet.modeling.detectors.predictor import NativePredictor, Predictor
from ppdet.modeling.interfaces import Detector

logger = logging.getLogger(__name__)

#: What a user may ask for.
Choice = Literal["auto", "native", "paddle", "onnx"]
CHOICES: tuple[Choice, ...] = ("auto", "native", "paddle", "onnx")
#: `auto` exports for no fewer images than this: exporting and verifying R50-FPN takes as long as running some
#: thirty images natively.
WORTHWHILE = 50


def choose_predictor(
    choice: Choice,
    model: Detector,
    reader: Reader,
    *,
    images: int,
    class_names: tuple[str, ...] = (),
    cache: Optional[Path] = None,
) -> Predictor:
    """What is to run a model; says so in one line of the log.

    ``auto`` on a GPU is the model itself; on the CPU it is ONNX Runtime if it is installed, the export passes
    its comparison with the model, and there are enough images to be worth it, or the export is in the cache
    already. Whatever stands in its way, it falls back on the model itself. Asked for by name, a runtime that
    does not work is an error.

    Args:
        choice: The user's.
        model: A detector with its weights.
        reader: How its images are prepared.
        images: How many images are to be run.
        class_names: Of the model, if known.
        cache: Folder of the cache; by default that of the user.

    Raises:
        ExportError: If the chosen runtime cannot run this model.
        VerifyError: If it does, but not as it should.
    """
    if choice == "native":
        return NativePredictor(model)
    if choice in ("paddle", "onnx"):
        runtime: Runtime = "paddle" if choice == "paddle" else "onnx"
        predictor = cached_predictor(model, reader, runtime, class_names=class_names, cache=cache)
        logger.info("runtime: %s", predictor.runtime)
        return predictor
    reason = _why_native(images, _entry(model, reader, "onnx", class_names, cache))
    if reason is None:
        try:
            predictor = cached_predictor(model, reader, "onnx", class_names=class_names, cache=cache)
            logger.info("runtime: %s", predictor.runtime)
            return predictor
        except ExportError as error:
            reason = f"the export does not work: {error}"
    logger.info("runtime: paddle dygraph, since %s", reason)
    return NativePredictor(model)


def _why_native(images: int, entry: Path) -> Optional[str]:
    if paddle.get_device().startswith("gpu"):
        return "that is what a GPU runs"
    missing = missing_packages()
    if missing:
        return f"{', '.join(missing)} are not installed; pip install 'ppdet[export]' makes the CPU faster"
    if images < WORTHWHILE and not (entry / FILE_NAME).is_file():
        return f"an export pays from {WORTHWHILE} images on; --runtime onnx makes one"
    return None


def cached_predictor(
    model: Detector,
    reader: Reader,
    runtime: Runtime,
    *,
    class_names: tuple[str, ...] = (),
    cache: Optional[Path] = None,
) -> ExportedPredictor:
    """A verified export from the cache, where it is put first if need be.

    Raises:
        ExportError: If the model cannot be exported or run.
        VerifyError: If the export differs from the model.
    """
    entry = _entry(model, reader, runtime, class_names, cache)
    if not (entry / FILE_NAME).is_file():
        logger.info(
            "exporting for %s into %s, and comparing with the model (once per weights)", runtime, entry
        )
        entry.parent.mkdir(parents=True, exist_ok=True)
        info = describe(model, reader, class_names)
        scratch = Path(tempfile.mkdtemp(dir=entry.parent, prefix=".making-"))
        try:
            export_model(model, scratch, info, formats=[runtime], batches=prepare(reader, made_up_images()))
            shutil.rmtree(entry, ignore_errors=True)
            os.replace(scratch, entry)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return ExportedPredictor(entry, runtime)


def _entry(
    model: Detector, reader: Reader, runtime: Runtime, class_names: tuple[str, ...], cache: Optional[Path]
) -> Path:
    folder = cache if cache is not None else cache_folder()
    return folder / fingerprint(model, describe(model, reader, class_names), runtime)


def cache_folder() -> Path:
    """``exports`` in ``PPDET_HOME``, or in ``~/.cache/ppdet``."""
    named = os.environ.get("PPDET_HOME")
    return (Path(named).expanduser() if named else Path.home() / ".cache" / "ppdet") / "exports"


def fingerprint(model: Detector, info: ExportInfo, runtime: Runtime) -> str:
    """Name of an export: changes with the weights, the structure, the settings, and the versions involved."""
    digest = hashlib.sha256()
    digest.update(
        f"{runtime} {__version__} {paddle.__version__} {np.__version__}\n{info.to_json()}\n".encode()
    )
    digest.update(str(model).encode())
    for key, value in sorted(model.state_dict().items()):
        digest.update(f"{key} {list(value.shape)}\n".encode())
        digest.update(np.ascontiguousarray(value.numpy()).tobytes())
    return f"{info.architecture.lower()}-{runtime}-{digest.hexdigest()[:24]}"
