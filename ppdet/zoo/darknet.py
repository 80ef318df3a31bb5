"""Darknet's `.weights` files for YOLOv3 and YOLOv3-tiny, read and written.

A file is a header and the float32 tensors of all convolutions in the order of the network's cfg, without
names or shapes: which network it is follows from the number of values, and so does the number of classes.
Of a convolution with batch normalisation come bias, scale, mean, variance, kernel; of one without, bias and
kernel. Kernels are [out, in, h, w], boxes x, y, w, h, objectness, classes per anchor, as in 2.x.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np

from ppdet.utils.errors import WeightsError

ANCHORS_PER_LEVEL = 3
MAX_CLASSES = 10_000


@dataclass(frozen=True)
class Conv:
    """One convolution of a cfg.

    Attributes:
        key: Prefix of its 2.x keys.
        inputs: Channels in.
        outputs: Channels out; None for the three predictors, where it depends on the classes.
        kernel: Side of the kernel.
    """

    key: str
    inputs: int
    outputs: Optional[int]
    kernel: int

    def parts(self, num_classes: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        """2.x key and shape of its tensors in file order."""
        outputs = self.outputs or ANCHORS_PER_LEVEL * (5 + num_classes)
        kernel = (outputs, self.inputs, self.kernel, self.kernel)
        if self.outputs is None:
            yield f"{self.key}.bias", (outputs,)
            yield f"{self.key}.weight", kernel
            return
        for leaf in ("bias", "weight", "_mean", "_variance"):
            yield f"{self.key}.batch_norm.{leaf}", (outputs,)
        yield f"{self.key}.conv.weight", kernel


def _yolov3() -> Iterator[Conv]:
    yield Conv("backbone.conv0", 3, 32, 3)
    channels = 32
    for stage, blocks in enumerate((1, 2, 8, 8, 4)):
        down = f"stage.{stage - 1}.downsample" if stage else "downsample0"
        yield Conv(f"backbone.{down}.conv_bn_layer", channels, 2 * channels, 3)
        for block in range(blocks):
            name = f"backbone.stage.{stage}." + (f"stage.{stage}.{block}" if block else "basicblock0")
            yield Conv(f"{name}.conv1", 2 * channels, channels, 1)
            yield Conv(f"{name}.conv2", channels, 2 * channels, 3)
        channels *= 2
    for level in range(3):
        width = 512 // 2**level
        inputs = 1024 if level == 0 else 3 * width  # with the upsampled map of the level before
        neck = f"neck.yolo_block.{level}"
        for name in ("conv0", "conv1", "conv2", "conv3", "route"):
            outputs, kernel = (2 * width, 3) if name in ("conv1", "conv3") else (width, 1)
            yield Conv(f"{neck}.conv_module.{name}", inputs, outputs, kernel)
            inputs = outputs
        yield Conv(f"{neck}.tip", width, 2 * width, 3)
        yield Conv(f"yolo_head.yolo_output.{level}", 2 * width, None, 1)
        if level < 2:
            yield Conv(f"neck.yolo_transition.{level}", width, width // 2, 1)


def _yolov3_tiny() -> Iterator[Conv]:
    channels = (3, 16, 32, 64, 128, 256, 512, 1024)
    for i, (inputs, outputs) in enumerate(zip(channels, channels[1:])):
        yield Conv(f"backbone.conv{i}", inputs, outputs, 3)
    yield Conv("neck.bottleneck", 1024, 256, 1)
    yield Conv("neck.tip0", 256, 512, 3)
    yield Conv("yolo_head.yolo_output.0", 512, None, 1)
    yield Conv("neck.transition", 256, 128, 1)
    yield Conv("neck.tip1", 128 + 256, 256, 3)
    yield Conv("yolo_head.yolo_output.1", 256, None, 1)


#: Networks by the name of their cfg.
NETWORKS: dict[str, tuple[Conv, ...]] = {"yolov3": tuple(_yolov3()), "yolov3-tiny": tuple(_yolov3_tiny())}


def layout(network: str, num_classes: int) -> list[tuple[str, tuple[int, ...]]]:
    """2.x key and shape of every tensor of a network, in file order."""
    return [part for conv in NETWORKS[network] for part in conv.parts(num_classes)]


@dataclass(frozen=True)
class Darknet:
    """Content of a `.weights` file.

    Attributes:
        network: Name of the cfg.
        num_classes: K.
        header: Major, minor, revision, images seen in training.
        tensors: 2.x key -> float32 array.
    """

    network: str
    num_classes: int
    header: tuple[int, int, int, int]
    tensors: Mapping[str, np.ndarray]


def is_darknet(head: bytes, size: int) -> bool:
    """Whether a file with these first bytes and this size can be one of Darknet's."""
    try:
        header, start = _header(head)
    except struct.error:
        return False
    return header[:2] in ((0, 1), (0, 2)) and _identify((size - start) // 4) is not None


def _header(data: bytes) -> tuple[tuple[int, int, int, int], int]:
    """Version numbers and images seen, and where the values begin."""
    major, minor, revision = struct.unpack_from("<3i", data, 0)
    # From version 0.2 on the count of images is a size_t.
    wide = major * 10 + minor >= 2 and major < 1000 and minor < 1000
    (seen,) = struct.unpack_from("<Q" if wide else "<I", data, 12)
    return (major, minor, revision, seen), 20 if wide else 16


def _identify(values: int) -> Optional[tuple[str, int]]:
    """Network and number of classes with this many values."""
    for network in NETWORKS:
        fixed, more = (_count(network, k) for k in (0, 1))
        classes, rest = divmod(values - fixed, more - fixed)
        if rest == 0 and 1 <= classes <= MAX_CLASSES:
            return network, classes
    return None


def _count(network: str, num_classes: int) -> int:
    return sum(int(np.prod(shape)) for _, shape in layout(network, num_classes))


def read_darknet(path: Path) -> Darknet:
    """Read a `.weights` file.

    Raises:
        WeightsError: If its length fits neither network.
    """
    data = path.read_bytes()
    header, start = _header(data)
    found = _identify((len(data) - start) // 4)
    if found is None or (len(data) - start) % 4:
        raise WeightsError(
            f"{path}: {len(data)} bytes fit neither {' nor '.join(NETWORKS)} with any number of classes"
        )
    network, num_classes = found
    values = np.frombuffer(data, "<f4", offset=start)
    tensors: dict[str, np.ndarray] = {}
    at = 0
    for key, shape in layout(network, num_classes):
        size = int(np.prod(shape))
        tensors[key] = values[at : at + size].reshape(shape).astype(np.float32)
        at += size
    return Darknet(network, num_classes, header, tensors)


def write_darknet(
    path: Path, tensors: Mapping[str, np.ndarray], *, header: tuple[int, int, int, int] = (0, 2, 0, 0)
) -> str:
    """Write a YOLOv3 or YOLOv3-tiny model as Darknet reads it.

    Args:
        path: File to write.
        tensors: 2.x key -> array; further keys are an error, since the file has no place for them.
        header: Major, minor, revision, images seen.

    Returns:
        Name of the cfg it belongs to.

    Raises:
        WeightsError: If the tensors are not exactly those of one of the networks.
    """
    predictor = tensors.get("yolo_head.yolo_output.0.bias")
    num_classes = 0 if predictor is None else len(predictor) // ANCHORS_PER_LEVEL - 5
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    network = next((n for n in NETWORKS if num_classes > 0 and dict(layout(n, num_classes)) == shapes), None)
    if network is None:
        raise WeightsError(
            f"{path}: these tensors are neither {' nor '.join(NETWORKS)} with 3 anchors a level"
        )
    wide = header[0] * 10 + header[1] >= 2
    with path.open("wb") as file:
        file.write(struct.pack("<3i", *header[:3]) + struct.pack("<Q" if wide else "<I", header[3]))
        for key, _ in layout(network, num_classes):
            file.write(np.ascontiguousarray(tensors[key], "<f4").tobytes())
    return network
