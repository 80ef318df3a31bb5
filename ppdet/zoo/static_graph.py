"""ImageNet backbones of the static-graph era: a `.tar` with one file per variable.

Each file is one tensor in Paddle's binary LoDTensor format, named like the variable. The names follow
from the layer's place by a few rules, which hold for ResNet (b and d) and DarkNet53.
"""

from __future__ import annotations

import math
import re
import struct
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Optional

import numpy as np

from ppdet.utils.errors import WeightsError

#: Most bytes of one variable, and of a whole archive once unpacked.
MAX_VARIABLE = 2 << 30
MAX_TOTAL = 8 << 30
MAX_MEMBERS = 10_000

#: Paddle's VarType.Type of the tensors we read.
_DTYPES = {0: np.bool_, 1: np.int16, 2: np.int32, 3: np.int64, 4: np.float16, 5: np.float32, 6: np.float64}

_LEAVES = {
    "weights": "conv.weight",
    "scale": "norm.weight",
    "offset": "norm.bias",
    "mean": "norm._mean",
    "variance": "norm._variance",
    "var": "norm._variance",
}

#: (pattern of the variable, whose last group says which tensor of the layer it is; layer in 2.x)
_RESNET: tuple[tuple[str, str], ...] = (
    (r"^(?:bn_)?conv1_(weights|scale|offset|mean|variance)$", "conv1.conv1"),
    (r"^(?:conv1|bnv1)_(?P<stem>[123])_(weights|scale|offset|mean|variance)$", "conv1.conv1_{stem}"),
    (
        r"^(?:res|bn)(?P<stage>\d)(?P<block>[a-z]\d*)_(?P<conv>branch\w+)_(weights|scale|offset|mean|variance)$",
        "res{stage}.res{stage}{block}.{conv}",
    ),
)
_DARKNET: tuple[tuple[str, str], ...] = (
    (r"^yolo_input\.(?:conv|bn)\.(\w+)$", "conv0"),
    (r"^yolo_input\.downsample\.(?:conv|bn)\.(\w+)$", "downsample0.conv_bn_layer"),
    (r"^stage\.(?P<stage>\d)\.downsample\.(?:conv|bn)\.(\w+)$", "stage.{stage}.downsample.conv_bn_layer"),
    (
        r"^stage\.(?P<stage>\d)\.0\.(?P<half>[01])\.(?:conv|bn)\.(\w+)$",
        "stage.{stage}.basicblock0.conv{half}",
    ),
    (
        r"^stage\.(?P<stage>\d)\.(?P<block>[1-9]\d*)\.(?P<half>[01])\.(?:conv|bn)\.(\w+)$",
        "stage.{stage}.stage.{stage}.{block}.conv{half}",
    ),
)


def is_static(names: Iterable[str]) -> bool:
    """Whether these are variables of a static-graph backbone rather than 2.x keys."""
    return not {"conv1_weights", "conv1_1_weights", "yolo_input.conv.weights"}.isdisjoint(names)


def backbone_key(name: str, *, variant_d: bool) -> Optional[str]:
    """2.x key of a static-graph variable, or None for what no detector uses (the classifier).

    ``bn2a_branch1_scale`` -> ``backbone.res2.res2a.short.norm.weight``.

    Args:
        name: The variable.
        variant_d: Whether the file is a ResNet of variant d, whose shortcuts of stages 3 to 5 pool first
            and therefore hold their convolution one level deeper.
    """
    for rules, norm in ((_RESNET, "norm."), (_DARKNET, "batch_norm.")):
        for pattern, layer in rules:
            found = re.match(pattern, name)
            if found is None:
                continue
            parts = found.groupdict()
            if "half" in parts:  # numbered from 0 in static graphs
                parts["half"] = str(int(parts["half"]) + 1)
            if parts.get("conv") == "branch1":
                pools = variant_d and parts["block"] == "a" and parts["stage"] != "2"
                parts["conv"] = "short.conv" if pools else "short"
            leaf = _LEAVES.get(found.groups()[-1])
            return leaf and f"backbone.{layer.format(**parts)}.{leaf.replace('norm.', norm)}"
    return None


def read_tar(path: Path) -> dict[str, np.ndarray]:
    """Variables of an archive by name. Nothing is written to disk, so no path can escape.

    Raises:
        WeightsError: If a member is a link, a device, outside the archive's folder or too large, if the
            archive unpacks to more than `MAX_TOTAL` bytes, or if a member is no LoDTensor.
    """
    variables: dict[str, np.ndarray] = {}
    total = 0
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with tarfile.open(path, "r:gz" if packed else "r:") as archive:
            for count, member in enumerate(archive):
                total += max(member.size, 0)
                _check_member(path, member, count, total)
                content = archive.extractfile(member)
                if content is None:  # a folder
                    continue
                name = member.name.rpartition("/")[2]
                if name in variables:
                    raise WeightsError(f"{path}: two members are called {name!r}")
                variables[name] = read_lod_tensor(content.read(), source=f"{path}: {member.name}")
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError, OverflowError) as error:
        raise WeightsError(f"{path}: not a readable tar archive: {error}") from error
    return variables


def _check_member(path: Path, member: tarfile.TarInfo, count: int, total: int) -> None:
    parts = member.name.replace("\\", "/").split("/")
    if member.name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
        raise WeightsError(f"{path}: refused: member {member.name!r} points outside the archive")
    if member.issym() or member.islnk():
        raise WeightsError(f"{path}: refused: member {member.name!r} is a link to {member.linkname!r}")
    if not (member.isfile() or member.isdir()):
        raise WeightsError(f"{path}: refused: member {member.name!r} is a device or another special file")
    if member.size < 0 or member.size > MAX_VARIABLE or total > MAX_TOTAL or count >= MAX_MEMBERS:
        raise WeightsError(
            f"{path}: refused: member {member.name!r} of {member.size} bytes; limits are "
            f"{MAX_VARIABLE} bytes a member, {MAX_TOTAL} bytes and {MAX_MEMBERS} members in all"
        )


def read_lod_tensor(data: bytes, *, source: str) -> np.ndarray:
    """One tensor in Paddle's LoDTensor format.

    Layout: u32 version 0; u64 number of LoD levels, each with u64 bytes and its content; u32 version 0;
    i32 size of a protobuf ``TensorDesc {1: data type, 2: repeated dims}``; the descriptor; raw data.

    Raises:
        WeightsError: If it is not in that format; names `source`.
    """
    try:
        version, levels = struct.unpack_from("<IQ", data, 0)
        at = 12
        if version != 0 or levels > 8:
            raise WeightsError(f"{source}: no LoDTensor (version {version}, {levels} LoD levels)")
        for _ in range(levels):
            at += 8 + struct.unpack_from("<Q", data, at)[0]
        version, size = struct.unpack_from("<Ii", data, at)
        if version != 0 or not 0 < size <= 1024:
            raise WeightsError(
                f"{source}: no LoDTensor (tensor version {version}, descriptor of {size} bytes)"
            )
        kind, shape = _tensor_desc(data[at + 8 : at + 8 + size])
        payload = memoryview(data)[at + 8 + size :]
    except (struct.error, IndexError):
        raise WeightsError(f"{source}: no LoDTensor, it ends too early ({len(data)} bytes)") from None
    if kind not in _DTYPES or any(n < 0 for n in shape):
        raise WeightsError(f"{source}: a tensor of Paddle type {kind} and shape {shape}")
    dtype = np.dtype(_DTYPES[kind])
    if math.prod(shape) * dtype.itemsize != len(payload):
        raise WeightsError(f"{source}: shape {shape} of {dtype} needs other than its {len(payload)} bytes")
    return np.frombuffer(payload, dtype).reshape(shape).copy() if len(payload) else np.zeros(shape, dtype)


def _tensor_desc(data: bytes) -> tuple[int, tuple[int, ...]]:
    """Data type and dims of a protobuf TensorDesc; fields 1 (varint) and 2 (varint, packed or not)."""
    kind, dims, at = -1, [], 0
    while at < len(data):
        tag, at = _varint(data, at)
        if tag == 0x08:
            kind, at = _varint(data, at)
        elif tag == 0x10:
            dim, at = _varint(data, at)
            dims.append(dim)
        elif tag == 0x12:
            size, at = _varint(data, at)
            end = at + size
            while at < end:
                dim, at = _varint(data, at)
                dims.append(dim)
        else:
            raise IndexError
    return kind, tuple(dim - (1 << 64) if dim >> 63 else dim for dim in dims)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value & ((1 << 64) - 1), at
    raise IndexError
