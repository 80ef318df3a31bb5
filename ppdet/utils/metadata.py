"""What travels with a checkpoint beside its tensors: class names, config, metrics, step, version.

It is JSON in UTF-8, held as a uint8 array under one extra key of the state dict. A uint8 array needs
nothing new from the file format, and PaddleDetection 2.x ignores a key that its model does not have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Optional

import numpy as np

from ppdet.utils.errors import WeightsError

#: The extra key of a `.pdparams` state dict.
METADATA_KEY = "ppdet_metadata"

#: Largest metadata that is read, in bytes; a resolved config has some ten thousand.
_MAX_BYTES = 16 << 20


@dataclass(frozen=True)
class CheckpointMetadata:
    """What a checkpoint says about itself.

    Attributes:
        class_names: K names by label; empty where unknown.
        config: The resolved configuration as plain JSON values.
        metrics: Metric values, e.g. ``{"bbox": {"AP": 0.37}}``.
        step: Optimiser steps taken, or None where unknown.
        epoch: Epochs finished, or None where unknown.
        version: Version of ppdet that wrote it.
        conventions: Box conventions the weights were trained in; "" for the normal ones.
        origin: Where converted weights come from, e.g. ``{"format": "darknet"}``; empty otherwise.
    """

    class_names: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    step: Optional[int] = None
    epoch: Optional[int] = None
    version: str = ""
    conventions: str = ""
    origin: Mapping[str, Any] = field(default_factory=dict)

    def to_array(self) -> np.ndarray:
        """The metadata as a uint8 array ``[bytes]`` for the state dict.

        Raises:
            TypeError: If `config` or `metrics` hold something that JSON has no word for.
        """
        text = json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)
        return np.frombuffer(text.encode("utf-8"), np.uint8).copy()

    @classmethod
    def from_array(cls, array: np.ndarray, *, source: str = "checkpoint") -> CheckpointMetadata:
        """Read what `to_array` wrote; fields that a newer version added are left out.

        Raises:
            WeightsError: If it is not such an array; names `source`.
        """
        if array.dtype != np.uint8 or array.ndim != 1 or array.size > _MAX_BYTES:
            raise WeightsError(f"{source}: {METADATA_KEY} is no metadata: {array.dtype} {array.shape}")
        try:
            values = json.loads(array.tobytes().decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise WeightsError(f"{source}: {METADATA_KEY} is not JSON: {error}") from None
        if not isinstance(values, dict):
            raise WeightsError(f"{source}: {METADATA_KEY} is a {type(values).__name__}, not an object")
        values_by_name = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        _check_types(values_by_name, source)
        values_by_name["class_names"] = tuple(values_by_name.get("class_names", ()))
        return cls(**values_by_name)


_TYPES: dict[str, tuple[type, ...]] = {
    "class_names": (list,),
    "config": (dict,),
    "metrics": (dict,),
    "step": (int, type(None)),
    "epoch": (int, type(None)),
    "version": (str,),
    "conventions": (str,),
    "origin": (dict,),
}


def _check_types(values: Mapping[str, Any], source: str) -> None:
    for name, value in values.items():
        if not isinstance(value, _TYPES[name]):
            raise WeightsError(f"{source}: {METADATA_KEY}.{name} is a {type(value).__name__}")
    if not all(isinstance(name, str) for name in values.get("class_names", ())):
        raise WeightsError(f"{source}: {METADATA_KEY}.class_names holds something that is no name")
