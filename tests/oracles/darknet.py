"""Darknet's inference in plain NumPy: reads a ``.cfg`` and a ``.weights`` file and runs what the cfg says.

It shares nothing with the code under test; layers come from the cfg, weights from the file in cfg order.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np


def read_cfg(path: Path) -> list[dict[str, str]]:
    """Sections in order, each with its name under ``type``."""
    sections: list[dict[str, str]] = []
    for raw in path.read_text().splitlines():
        line = raw.partition("#")[0].strip()
        if line.startswith("["):
            sections.append({"type": line.strip("[]")})
        elif "=" in line:
            key, _, value = line.partition("=")
            sections[-1][key.strip()] = value.strip()
    return sections


class Darknet:
    """A network with its weights."""

    def __init__(self, cfg: Path, weights: Path) -> None:
        self.sections = read_cfg(cfg)[1:]
        data = weights.read_bytes()
        major, minor, _ = struct.unpack_from("<3i", data)
        values = np.frombuffer(data, "<f4", offset=20 if major * 10 + minor >= 2 else 16)
        at = 0

        def take(*shape: int) -> np.ndarray:
            nonlocal at
            at += int(np.prod(shape))
            return values[at - int(np.prod(shape)) : at].reshape(shape)

        channels: list[int] = []
        self.weights: list[Any] = []
        for i, section in enumerate(self.sections):
            before, kept = (channels[-1] if channels else 3), None
            if section["type"] == "convolutional":
                size, filters = int(section["size"]), int(section["filters"])
                norm = [take(filters) for _ in range(4)] if section.get("batch_normalize") == "1" else None
                bias = None if norm else take(filters)
                kept = (norm, bias, take(filters, before, size, size))
                before = filters
            elif section["type"] == "route":
                before = sum(channels[j] for j in self._routes(i))
            channels.append(before)
            self.weights.append(kept)
        if at != len(values):
            raise AssertionError(f"{len(values) - at} values left over")

    def _routes(self, i: int) -> list[int]:
        numbers = [int(n) for n in self.sections[i]["layers"].split(",")]
        return [i + n if n < 0 else n for n in numbers]

    def __call__(self, image: np.ndarray) -> list[tuple[np.ndarray, dict[str, str]]]:
        """``[3, H, W]`` in 0..1 to the raw map ``[C, h, w]`` of each yolo section, with the section."""
        outputs: list[np.ndarray] = []
        found = []
        x = image
        for i, section in enumerate(self.sections):
            kind = section["type"]
            if kind == "convolutional":
                x = _convolve(x, *self.weights[i], leaky=section["activation"] == "leaky")
            elif kind == "maxpool":
                x = _pool(x, int(section["stride"]))
            elif kind == "upsample":
                x = x.repeat(2, axis=1).repeat(2, axis=2)
            elif kind == "route":
                x = np.concatenate([outputs[j] for j in self._routes(i)])
            elif kind == "yolo":
                found.append((x, section))
            outputs.append(x)
        return found


def _convolve(x: np.ndarray, norm: Any, bias: Any, kernel: np.ndarray, *, leaky: bool) -> np.ndarray:
    filters, _, size, _ = kernel.shape
    _, height, width = x.shape
    padded = np.pad(x, ((0, 0), (size // 2,) * 2, (size // 2,) * 2))
    y = np.zeros((filters, height * width), np.float32)
    for row in range(size):
        for column in range(size):
            window = padded[:, row : row + height, column : column + width].reshape(len(x), -1)
            y += kernel[:, :, row, column] @ window
    if norm is not None:
        shift, scale, mean, variance = (v[:, None] for v in norm)
        y = (y - mean) / np.sqrt(variance + 1e-5) * scale + shift
    else:
        y = y + bias[:, None]
    y = np.where(y > 0, y, 0.1 * y) if leaky else y
    return y.reshape(filters, height, width).astype(np.float32)


def _pool(x: np.ndarray, stride: int) -> np.ndarray:
    """Windows of 2x2; beyond the right and lower edge there is minus infinity."""
    padded = np.pad(x, ((0, 0), (0, 1), (0, 1)), constant_values=-np.inf)
    height, width = x.shape[1], x.shape[2]
    shifted = [padded[:, a : a + height, b : b + width] for a in (0, 1) for b in (0, 1)]
    return np.maximum.reduce(shifted)[:, ::stride, ::stride]


def detect(
    maps: list[tuple[np.ndarray, dict[str, str]]], *, network: int, original: tuple[int, int]
) -> list[tuple[int, float, list[float]]]:
    """(label, score, xyxy in original pixels) of every cell and anchor whose objectness is at least 0.005."""
    rows = []
    for raw, section in maps:
        numbers = [float(n) for n in section["anchors"].split(",")]
        anchors = [(numbers[2 * k], numbers[2 * k + 1]) for k in range(len(numbers) // 2)]
        mask = [int(n) for n in section["mask"].split(",")]
        side = raw.shape[1]
        values = raw.reshape(len(mask), -1, side, side).astype(np.float64)
        for a, number in enumerate(mask):
            objectness = _sigmoid(values[a, 4])
            for i, j in zip(*np.nonzero(objectness >= 0.005)):
                tx, ty, tw, th = values[a, :4, i, j]
                x, y = (_sigmoid(tx) + j) / side, (_sigmoid(ty) + i) / side
                w, h = np.exp(tw) * anchors[number][0] / network, np.exp(th) * anchors[number][1] / network
                size = np.array([original[1], original[0]] * 2, np.float64)
                box = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2]) * size
                box = np.clip(box, 0, size - 1)
                scores = objectness[i, j] * _sigmoid(values[a, 5:, i, j])
                for label in np.flatnonzero(scores > 0.01):
                    rows.append((int(label), float(scores[label]), box.tolist()))
    return rows


def suppress(
    rows: list[tuple[int, float, list[float]]], *, threshold: float, keep: int
) -> list[tuple[int, float, list[float]]]:
    """Greedy NMS within each label, then the best over all labels."""
    kept: dict[int, list[tuple[int, float, list[float]]]] = {}
    for row in sorted(rows, key=lambda r: -r[1]):
        better = kept.setdefault(row[0], [])
        if all(_iou(other[2], row[2]) <= threshold for other in better):
            better.append(row)
    return sorted((row for each in kept.values() for row in each), key=lambda r: -r[1])[:keep]


def _iou(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return width * height / (sum(areas) - width * height)


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))
