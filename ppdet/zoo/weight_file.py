"""One weight file, whatever its format, as named arrays in the 2.x layout."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

from ppdet.structures.conventions import DYGRAPH_2020
from ppdet.utils import safe_pickle
from ppdet.utils.errors import WeightsError
from ppdet.utils.files import expanded
from ppdet.utils.metadata import METADATA_KEY, CheckpointMetadata
from ppdet.zoo.darknet import is_darknet, read_darknet
from ppdet.zoo.layout_2020 import convert_2020, is_2020
from ppdet.zoo.safetensors import is_safetensors, read_safetensors
from ppdet.zoo.static_graph import backbone_key, is_static, read_tar

#: Suffixes that a path may be given without, in the order they are tried.
SUFFIXES = (".pdparams", ".safetensors", ".weights", ".tar")

#: A key of torchvision's detection models, and of no other program's.
_TORCHVISION = "backbone.body.conv1.weight"


class Layout(enum.Enum):
    """How a file names and orders its tensors."""

    V2 = "2.x"
    Y2020 = "2020"
    STATIC = "static-graph"
    DARKNET = "darknet"


@dataclass(frozen=True)
class WeightFile:
    """Tensors of a file, in 2.x names and order.

    Attributes:
        path: The file.
        layout: Layout of the file itself; `tensors` is in the 2.x layout in any case.
        tensors: 2.x key -> array.
        converted: 2.x key -> what had to be done, for tensors that were not simply copied.
        dropped: Key in the file -> why it has no place in the 2.x layout.
        metadata: Class names, conventions, ... as far as the file says.
    """

    path: Path
    layout: Layout
    tensors: Mapping[str, np.ndarray]
    converted: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    metadata: CheckpointMetadata = field(default_factory=CheckpointMetadata)


def find_file(path: Union[str, Path]) -> Optional[Path]:
    """The file a path means: itself, or with one of `SUFFIXES` added; None if there is none."""
    path = expanded(path)
    for candidate in (path, *(path.with_name(path.name + suffix) for suffix in SUFFIXES)):
        if candidate.is_file():
            return candidate
    return None


def read_weights(path: Union[str, Path]) -> WeightFile:
    """Read a weight file of any known format; the format is recognised by the content, not by the name.

    Raises:
        WeightsError: If there is no such file, or it is none of the known formats, or it is refused
            because it wants to do more than hold numbers.
    """
    found = find_file(path)
    if found is None:
        tried = ", ".join(SUFFIXES)
        raise WeightsError(f"{path}: there is no such file, nor with one of {tried} added")
    size = found.stat().st_size
    with found.open("rb") as file:
        head = file.read(512)
    if _is_tar(head):
        return _from_static(found, read_tar(found))
    if is_darknet(head, size):
        return _from_darknet(found)
    if is_safetensors(head, size):
        tensors, texts = read_safetensors(found)
        described = texts.get(METADATA_KEY)
        return _recognise(found, tensors, described and np.frombuffer(described.encode(), np.uint8))
    return _read_pdparams(found)


def _is_tar(head: bytes) -> bool:
    return head[:2] == b"\x1f\x8b" or head[257:262] == b"ustar"


def read_state(path: Union[str, Path]) -> dict[str, np.ndarray]:
    """The tensors of a weight file by their 2.x key. Raises as `read_weights`."""
    return dict(read_weights(path).tensors)


def read_metadata(path: Union[str, Path]) -> CheckpointMetadata:
    """What a weight file says about itself; all empty for files of other programs."""
    return read_weights(path).metadata


def _read_pdparams(path: Path) -> WeightFile:
    state = safe_pickle.load(path)
    described = state.pop(METADATA_KEY, None)
    other = next((key for key, value in state.items() if not isinstance(value, np.ndarray)), None)
    if other is not None:
        raise WeightsError(
            f"{path}: {other!r} is a {type(state[other]).__name__}, not a tensor; "
            f"is this optimiser state (.pdopt) rather than weights?"
        )
    return _recognise(path, state, described)


def _recognise(path: Path, tensors: Mapping[str, np.ndarray], described: Any) -> WeightFile:
    """Tell the layout from the keys, and convert."""
    if not tensors:
        raise WeightsError(f"{path}: the file holds no tensors")
    metadata = CheckpointMetadata()
    if isinstance(described, np.ndarray):
        metadata = CheckpointMetadata.from_array(described, source=str(path))
    if is_static(tensors):
        return _from_static(path, tensors)
    if _TORCHVISION in tensors:
        raise WeightsError(
            f"{path}: these are torchvision weights. They are not offered here: they mean rounded anchors, "
            f"unaligned RoIAlign and COCO's 91 ids, so they would not give their own numbers"
        )
    if is_2020(tensors):
        found = convert_2020(tensors, source=str(path))
        metadata = replace(metadata, conventions=DYGRAPH_2020.name)
        return WeightFile(path, Layout.Y2020, found.tensors, found.converted, found.dropped, metadata)
    return WeightFile(path, Layout.V2, tensors, metadata=metadata)


def _from_darknet(path: Path) -> WeightFile:
    found = read_darknet(path)
    origin = {"format": "darknet", "cfg": found.network, "header": list(found.header)}
    return WeightFile(
        path,
        Layout.DARKNET,
        found.tensors,
        dict.fromkeys(found.tensors, f"Darknet's {found.network}, in cfg order"),
        metadata=CheckpointMetadata(origin=origin),
    )


def _from_static(path: Path, variables: Mapping[str, np.ndarray]) -> WeightFile:
    variant_d = "conv1_1_weights" in variables
    keys = {name: backbone_key(name, variant_d=variant_d) for name in variables}
    return WeightFile(
        path,
        Layout.STATIC,
        {key: variables[name] for name, key in keys.items() if key},
        {key: f"named {name} in the file" for name, key in keys.items() if key},
        {name: "no part of a backbone" for name, key in keys.items() if not key},
    )
