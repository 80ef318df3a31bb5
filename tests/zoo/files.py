"""Writes weight files as others published them: the 2.x and the 2020 layout, static-graph archives."""

from __future__ import annotations

import json
import pickle
import struct
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tests.reference_weights import kept
from tests.support import SHARED, reference_module

#: The seven models that were published in both generations.
MODELS = (
    "faster_rcnn_r50_1x_coco",
    "faster_rcnn_r50_fpn_1x_coco",
    "mask_rcnn_r50_1x_coco",
    "mask_rcnn_r50_fpn_1x_coco",
    "cascade_rcnn_r50_fpn_1x_coco",
    "cascade_mask_rcnn_r50_fpn_1x_coco",
    "yolov3_darknet53_270e_coco",
)


def keys(name: str) -> Any:
    """``keys/<name>.json`` of the reference material."""
    return json.loads((SHARED / "keys" / f"{name}.json").read_text("utf-8"))


def shapes_2x(model: str) -> dict[str, tuple[int, ...]]:
    """2.x key -> shape of a published model."""
    return {key: tuple(shape) for key, shape in keys(f"{model}.g2").items()}


def state_2x(model: str) -> dict[str, np.ndarray]:
    """The reference weights in the 2.x layout."""
    tensor = reference_module().reference_tensor
    return {key: tensor(key, shape) for key, shape in shapes_2x(model).items()}


def module_2020() -> ModuleType:
    """The module that makes 2020 states; it imports its own generator by name."""
    if "g1_reference_weights" not in sys.modules:
        module = reference_module("g1_reference_weights")
        module.__dict__["reference_tensor"] = kept(module.reference_tensor)
        sys.modules["g1_reference_weights"] = module
    return reference_module("g1_weights")


def state_2020(model: str, *, trained: bool = True) -> dict[str, np.ndarray]:
    """The 2020 reference weights in the 2020 layout.

    Args:
        model: One of `MODELS`.
        trained: With the aliases that files written by training have.
    """
    module = module_2020()
    state: dict[str, np.ndarray] = module.g1_state(shapes_2x(model))
    if trained:
        state.update(module.aliases_after_training(state))
    return state


def expected_2020(model: str) -> dict[str, np.ndarray]:
    """What converting `state_2020` must give, bit for bit."""
    module_2020()
    tensor = sys.modules["g1_reference_weights"].reference_tensor
    return {key: tensor(key, shape) for key, shape in shapes_2x(model).items()}


def write_pdparams(path: Path, state: Mapping[str, np.ndarray], *, protocol: int = 2) -> Path:
    """A state dict as Paddle wrote it at the time: a pickle with the parameters' names beside them."""
    names = {key: f"parameter_{i}" for i, key in enumerate(state)}
    path.write_bytes(pickle.dumps({**state, "StructuredToParameterName@@": names}, protocol))
    return path


def lod_tensor(value: np.ndarray) -> bytes:
    """One tensor in Paddle's binary format."""
    kinds = {"float32": 5, "int64": 3, "float64": 6}
    dims = b"".join(b"\x10" + _varint(n) for n in value.shape)
    described = b"\x08" + _varint(kinds[str(value.dtype)]) + dims
    head = struct.pack("<IQIi", 0, 0, 0, len(described))
    return head + described + value.tobytes()


def _varint(value: int) -> bytes:
    data = b""
    while value > 0x7F:
        data += bytes([value & 0x7F | 0x80])
        value >>= 7
    return data + bytes([value])


def write_static(path: Path, variables: Mapping[str, np.ndarray], *, mode: str = "w") -> Path:
    """A static-graph archive: one file per variable in a folder."""
    folder = path.parent / (path.name + ".content")
    folder.mkdir()
    for name, value in variables.items():
        (folder / name).write_bytes(lod_tensor(value))
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]  # mode is any of w, w:gz
        archive.add(folder, "ResNet50_cos_pretrained")
    return path
