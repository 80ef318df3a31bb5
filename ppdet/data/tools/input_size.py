"""The input size that a dataset's objects need, and a configuration's transforms at that size.

Letters: A objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from ppdet.config.registry import yaml_name
from ppdet.config.spec import Spec
from ppdet.data.datasets.base import AnnotatedDataset
from ppdet.experiment.config import Experiment

READERS = ("TrainReader", "EvalReader", "TestReader")
#: Sizes are multiples of the coarsest stride.
_STRIDE = 32
#: Nine of ten objects should be this many pixels large: two cells of the finest level, of stride 8.
_VISIBLE = 16.0
#: Below this many pixels little is found, at any schedule.
_LEAST_VISIBLE = 8.0
_TENTH = 0.1
#: Largest size in units of the packaged one, which weights were trained at; the small configs have more room.
_MOST, _MOST_OF_SMALL, _SMALL = 1.5, 2.5, 320
#: Short side of the quickstart configs that take images as they are, and sides of images that are left so.
_QUICKSTART_SIDE = 128
#: Long side over short side where images keep their shape (1333 over 800).
_LONG = 5 / 3


@dataclass(frozen=True)
class InputSize:
    """The size that images are resized to.

    Attributes:
        size: Side, or short side where images keep their shape, in pixels; 0 takes them as they are.
        packaged: That of the packaged configuration.
        smallest: Side of the object that nine of ten are larger than, at `size`, in pixels.
        keep_ratio: Whether images keep their shape.
    """

    size: int
    packaged: int
    smallest: float
    keep_ratio: bool

    @property
    def enlarged(self) -> float:
        """Pixels of an input in units of the packaged configuration's."""
        return (self.size / self.packaged) ** 2 if self.size and self.packaged else 1.0

    @property
    def too_small(self) -> bool:
        """Whether many objects remain too small to be found."""
        return self.smallest < _LEAST_VISIBLE


def choose_input_size(base: Experiment, dataset: AnnotatedDataset) -> InputSize:
    """The packaged size, or a larger one where objects are small and the images have the pixels.

    Args:
        base: The packaged configuration.
        dataset: The training images.
    """
    today = configured_size(base, dataset)
    keep_ratio = today.keep_ratio
    sides = dataset.packed.sizes.min(axis=1) if keep_ratio else dataset.packed.sizes.max(axis=1)
    own = float(np.median(sides))
    if not today.size and own <= 2 * _QUICKSTART_SIDE:
        return today
    current = today.size or _QUICKSTART_SIDE
    shares = _shares(dataset, keep_ratio=keep_ratio)
    needed = _VISIBLE / max(_smallest(shares, 1.0), 1e-6)
    most = current * (_MOST_OF_SMALL if current <= _SMALL else _MOST)
    size = min(_round_up(needed), _round_up(most), max(current, _round_up(own)))
    size = max(current, size)
    return InputSize(size, today.packaged, _smallest(shares, size), keep_ratio)


def configured_size(base: Experiment, dataset: AnnotatedDataset) -> InputSize:
    """The size that the configuration has."""
    resize = _find(base, "EvalReader", {"Resize"})
    if resize is None:
        return InputSize(0, 0, _smallest(object_sides(dataset), 1.0), True)
    keep_ratio = bool(resize.arguments.get("keep_ratio", True))
    size = int(min(np.atleast_1d(resize.arguments["target_size"])))
    return InputSize(size, size, _smallest(_shares(dataset, keep_ratio=keep_ratio), size), keep_ratio)


def object_sides(dataset: AnnotatedDataset, size: Optional[InputSize] = None) -> np.ndarray:
    """Square roots of the objects' areas, ``[A]`` float, in pixels of the images or at an input size."""
    if size is None or not size.size:
        return np.sqrt(_sides(dataset).prod(axis=1))
    return _shares(dataset, keep_ratio=size.keep_ratio) * size.size


def object_sizes(dataset: AnnotatedDataset, size: InputSize) -> np.ndarray:
    """Widths and heights of all objects at an input size, ``[A, 2]`` float, in pixels."""
    boxes = object_boxes(dataset, size)
    sizes: np.ndarray = boxes[:, 2:] - boxes[:, :2]
    return sizes


def object_boxes(dataset: AnnotatedDataset, size: InputSize) -> np.ndarray:
    """Boxes of all objects at an input size, ``[A, 4]`` float xyxy, in pixels."""
    boxes = dataset.packed.boxes[~dataset.packed.is_crowd].astype(float)
    if not size.size:
        return boxes
    images = _image_sizes(dataset)
    scale = size.size / (images.min(axis=1, keepdims=True) if size.keep_ratio else images[:, ::-1])
    scaled: np.ndarray = boxes * (scale if scale.shape[1] == 1 else scale[:, [0, 1, 0, 1]])
    return scaled


def resized_readers(base: Experiment, size: InputSize) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Transforms at another size: reader -> key -> list as a YAML has it; empty if nothing changes."""
    if size.size == size.packaged:
        return {}
    readers: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for key in READERS:
        spec = getattr(base, key)
        lists = {} if spec is None else _lists(spec.arguments)
        if size.packaged:
            changed = {name: _resized(items, size) for name, items in lists.items()}
            readers[key] = {name: items for name, items in changed.items() if items != _written(lists[name])}
        elif "sample_transforms" in lists:
            long = round(size.size * _LONG)
            items = _written(lists["sample_transforms"])
            resize = {"Resize": {"target_size": [size.size, long], "keep_ratio": True, "interp": 1}}
            readers[key] = {"sample_transforms": [items[0], resize, *items[1:]]}
    return {key: lists for key, lists in readers.items() if lists}


def _lists(arguments: Mapping[str, Any]) -> dict[str, Sequence[Spec[Any]]]:
    names = ("sample_transforms", "batch_transforms")
    return {name: arguments[name] for name in names if arguments.get(name)}


def _written(items: Iterable[Spec[Any]]) -> list[dict[str, Any]]:
    """Transforms as a YAML has them, without defaults."""
    return [
        {
            yaml_name(item.component): {
                key: item.arguments[key] for key in item.arguments if key in item.origins
            }
        }
        for item in items
    ]


def _resized(items: Iterable[Spec[Any]], size: InputSize) -> list[dict[str, Any]]:
    factor = size.size / size.packaged
    rows = _written(items)
    for row in rows:
        for arguments in row.values():
            if "target_size" in arguments:
                arguments["target_size"] = _scaled(arguments["target_size"], factor, size)
    return rows


def _scaled(value: Any, factor: float, size: InputSize) -> Any:
    if isinstance(value, (list, tuple)):
        return [_scaled(item, factor, size) for item in value]
    scaled = value * factor
    return round(scaled) if size.keep_ratio else max(_STRIDE, round(scaled / _STRIDE) * _STRIDE)


def _find(base: Experiment, reader: str, names: set[str]) -> Optional[Spec[Any]]:
    spec = getattr(base, reader)
    items = () if spec is None else spec.arguments.get("sample_transforms") or ()
    return next((item for item in items if yaml_name(item.component) in names), None)


def _sides(dataset: AnnotatedDataset) -> np.ndarray:
    boxes = dataset.packed.boxes[~dataset.packed.is_crowd].astype(float)
    return boxes[:, 2:] - boxes[:, :2]


def _image_sizes(dataset: AnnotatedDataset) -> np.ndarray:
    """(height, width) of each object's image, ``[A, 2]``."""
    packed = dataset.packed
    rows = np.repeat(np.arange(len(packed)), np.diff(packed.object_offsets))
    sizes: np.ndarray = packed.sizes[rows[~packed.is_crowd]].astype(float)
    return sizes


def _shares(dataset: AnnotatedDataset, *, keep_ratio: bool) -> np.ndarray:
    """Side of each object as a share of the short side of its image, or of a square that it becomes."""
    images = _image_sizes(dataset)
    whole = images.min(axis=1) if keep_ratio else np.sqrt(images.prod(axis=1))
    shares: np.ndarray = np.sqrt(_sides(dataset).prod(axis=1)) / whole
    return shares


def _smallest(values: np.ndarray, scale: float) -> float:
    return float(np.quantile(values, _TENTH)) * scale


def _round_up(value: float) -> int:
    return int(-(-value // _STRIDE) * _STRIDE)
