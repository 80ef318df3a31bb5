"""The checks and the result of exporting a trained detector."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Union

import numpy as np

from ppdet.data.transforms.base import pixels
from ppdet.data.transforms.decode import Decode
from ppdet.export.bundle import FILES
from ppdet.export.onnx import obstacle
from ppdet.export.sessions import PADDLE2X_FOLDER, Runtime
from ppdet.export.verify import Comparison
from ppdet.inference.images import Image, samples_of
from ppdet.utils.files import expanded, require_new_place

logger = logging.getLogger(__name__)

#: Endings of weights in several files.
_SUFFIXES = (".json", ".pdmodel", ".pdiparams")

#: Images of the caller that are compared.
MOST_IMAGES = 8


@dataclass(frozen=True)
class ExportResult:
    """A finished export.

    Attributes:
        folder: Where it is; `ppdet.load_detector` takes it.
        files: The model files in it.
        comparisons: What each format gave on the images, beside the detector; empty if it was not compared.
    """

    folder: Path
    files: tuple[Path, ...]
    comparisons: tuple[Comparison, ...]


def require_other_files(folder: Union[str, os.PathLike[str]], sources: Sequence[Path]) -> None:
    """Check that an export does not replace what it is made from.

    Args:
        folder: Of the export.
        sources: Weights and configuration. The other files of weights in several (``.pdmodel`` beside
            ``.pdiparams``) count too.

    Raises:
        FileError: If it would; names the file.
    """
    read = list(sources)
    for source in sources:
        if source.suffix in _SUFFIXES:
            read += map(source.with_suffix, _SUFFIXES)
    for place in (expanded(folder), expanded(folder) / PADDLE2X_FOLDER):
        for name in FILES:
            require_new_place(place / name, [file for file in read if file.is_file()])


def decoded_images(images: Union[Image, Iterable[Image]]) -> list[np.ndarray]:
    """The first `MOST_IMAGES`, decoded."""
    decode, rng = Decode(), np.random.default_rng(0)  # nothing is drawn
    return [pixels(decode(sample, rng)) for sample in samples_of(images)[:MOST_IMAGES]]


def available_formats() -> tuple[Runtime, ...]:
    """``paddle``, and ``onnx`` where its packages are installed; logs why it is left out."""
    reason = obstacle()
    if reason:
        logger.warning("model.onnx is left out: %s", reason)
        return ("paddle",)
    return ("paddle", "onnx")
