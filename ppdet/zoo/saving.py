"""Writes weights in another format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from ppdet import __version__
from ppdet.utils.errors import WeightsError
from ppdet.utils.files import replacing
from ppdet.utils.metadata import METADATA_KEY, CheckpointMetadata
from ppdet.zoo.darknet import write_darknet
from ppdet.zoo.safetensors import write_safetensors
from ppdet.zoo.weight_file import WeightFile

#: Formats that can be written, by suffix.
WRITTEN = (".pdparams", ".safetensors", ".weights")


def save_weights(file: WeightFile, target: Path, *, class_names: Sequence[str] = ()) -> Path:
    """Write weights that were read, in the format of the target's suffix.

    `.pdparams` and `.safetensors` get the metadata, class names and box conventions included; Darknet's
    `.weights` has no place for them.

    Args:
        file: The weights.
        target: File to write; replaced in one step if it exists.
        class_names: Class names by label, where the file does not have them.

    Returns:
        `target`.

    Raises:
        WeightsError: If the suffix is none of `WRITTEN`, or the format cannot hold these weights.
        FileError: If it cannot be written.
    """
    if target.suffix not in WRITTEN:
        raise WeightsError(f"{target}: weights can be written as {', '.join(WRITTEN)}, not {target.suffix!r}")
    metadata = replace(
        file.metadata,
        class_names=file.metadata.class_names or tuple(class_names),
        version=file.metadata.version or __version__,
    )
    with replacing(target) as temporary:
        _write(file, temporary, target.suffix, metadata)
    return target


def _write(file: WeightFile, part: Path, suffix: str, metadata: CheckpointMetadata) -> None:
    if suffix == ".weights":
        write_darknet(part, file.tensors, header=_darknet_header(metadata.origin.get("header")))
    elif suffix == ".safetensors":
        text = metadata.to_array().tobytes().decode("utf-8")
        write_safetensors(part, file.tensors, {METADATA_KEY: text})
    else:
        state = {key: paddle.to_tensor(value) for key, value in file.tensors.items()}
        state[METADATA_KEY] = paddle.to_tensor(metadata.to_array())
        paddle.save(state, str(part))


def _darknet_header(header: Any) -> tuple[int, int, int, int]:
    """The header of the file the weights came from, so that converting back gives the same bytes."""
    fits = isinstance(header, list) and len(header) == 4 and all(type(n) is int for n in header)
    major, minor, revision, seen = header if fits else (0, 2, 0, 0)
    small = all(0 <= n < 1000 for n in (major, minor, revision))
    return (major, minor, revision, seen) if small and 0 <= seen < 2**63 else (0, 2, 0, 0)


def same_tensors(first: WeightFile, second: WeightFile) -> bool:
    """Whether two files hold the same keys and the same values, bit for bit."""
    return first.tensors.keys() == second.tensors.keys() and all(
        np.array_equal(value, second.tensors[key]) for key, value in first.tensors.items()
    )
