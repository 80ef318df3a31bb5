"""From the tensors of PaddleDetection's December-2020 ("dygraph") files to the 2.x layout.

The names changed, background moved from the first class to the last, the box predictor lost its unused
background columns, and the anchors of a C4 model are counted size by size instead of ratio by ratio.
After the conversion the network computes the same logits and deltas; that they mean boxes in another
convention is the business of `ppdet.structures.conventions`. YOLOv3 has the same layout in both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Callable, Optional

import numpy as np

from ppdet.utils.errors import WeightsError

#: Only the 2020 code counts its box heads from 0 in this key.
_MARK = "bbox_head.bbox_score_0.weight"
_CASCADE_MARK = "bbox_head.bbox_score_1.weight"
_C4_MARK = "bbox_head.bbox_feat.head_feat.res5_roi_feat."

#: Number of anchor sizes and ratios of every 2020 C4 model.
_SIZES, _RATIOS = 5, 3

_FEAT = r"^bbox_head\.bbox_feat\.head_feat\."

#: (pattern, name in one-stage heads, name in cascades). Keys that match none are the same in both.
_RENAMES: tuple[tuple[str, str, str], ...] = (
    (_FEAT + r"res5_roi_feat\.", "bbox_head.head.res5.", "bbox_head.head.res5."),
    (_FEAT + r"(fc[67])_(\d)\.", r"bbox_head.head.\1.", r"bbox_head.head.\2.\1."),
    (r"^bbox_head\.bbox_(score|delta)_(\d)\.", r"bbox_head.bbox_\1.", r"bbox_head.bbox_\1_stage\2."),
    (r"^mask_head\.mask_feat\.stage_0\.", "mask_head.head.upsample.", "mask_head.head.upsample."),
    (r"^mask_head\.mask_fcn_logits_0\.", "mask_head.mask_fcn_logits.", "mask_head.mask_fcn_logits."),
)

#: Second names of tensors that the 2020 code registered twice.
_ALIASES = (re.compile(_FEAT + r"res5\."), re.compile(r"^bbox_head_feat_func\."))


def background_to_end(x: np.ndarray) -> np.ndarray:
    """Class scores ``[..., 1 + K]`` with background first to ``[..., K + 1]`` with background last."""
    return np.concatenate([x[..., 1:], x[..., :1]], axis=-1)


def drop_background_deltas(x: np.ndarray) -> np.ndarray:
    """Box deltas ``[..., 4 * (1 + K)]`` to ``[..., 4 * K]``."""
    return x[..., 4:]


def drop_background_mask(x: np.ndarray) -> np.ndarray:
    """Mask logits ``[1 + K, ...]`` to ``[K, ...]``."""
    return x[1:]


def anchors_by_size(x: np.ndarray) -> np.ndarray:
    """Rows ``[ratios * sizes * n, ...]`` to ``[sizes * ratios * n, ...]``, n values per anchor."""
    grid = x.reshape((_RATIOS, _SIZES, -1, *x.shape[1:]))
    return grid.swapaxes(0, 1).reshape(x.shape)


@dataclass(frozen=True)
class _Operation:
    apply: Callable[[np.ndarray], np.ndarray]
    says: str


_BOX = "no background columns"
#: (pattern of the 2.x key, only in C4 models, operation)
_OPERATIONS: tuple[tuple[str, bool, _Operation], ...] = (
    (r"^bbox_head\.bbox_score", False, _Operation(background_to_end, "background moved to the end")),
    (r"^bbox_head\.bbox_delta", False, _Operation(drop_background_deltas, _BOX)),
    (r"^mask_head\.mask_fcn_logits", False, _Operation(drop_background_mask, "no background channel")),
    (r"^rpn_head\.rpn_rois_", True, _Operation(anchors_by_size, "anchors counted by size, then ratio")),
)


@dataclass(frozen=True)
class Converted:
    """Tensors by 2.x key, what was done to those not copied under their own name, what has no place."""

    tensors: Mapping[str, np.ndarray]
    converted: Mapping[str, str]
    dropped: Mapping[str, str]


def is_2020(keys: Iterable[str]) -> bool:
    """Whether the keys are those of a 2020 R-CNN file. A 2020 YOLOv3 file has the keys of a 2.x one."""
    return _MARK in set(keys)


def rename(key: str, *, cascade: bool) -> Optional[str]:
    """2.x key of a 2020 key; None for second names of a tensor that has a first one."""
    if any(alias.search(key) for alias in _ALIASES):
        return None
    for pattern, single, staged in _RENAMES:
        new, found = re.subn(pattern, staged if cascade else single, key)
        if found:
            return new
    return key


def convert_2020(tensors: Mapping[str, np.ndarray], *, source: str) -> Converted:
    """Convert all tensors of a 2020 R-CNN file.

    Raises:
        WeightsError: If a tensor does not have the shape that the operation needs; names `source`.
    """
    cascade = _CASCADE_MARK in tensors
    c4 = any(key.startswith(_C4_MARK) for key in tensors)
    result: dict[str, np.ndarray] = {}
    converted: dict[str, str] = {}
    dropped: dict[str, str] = {}
    for key, value in tensors.items():
        new = rename(key, cascade=cascade)
        if new is None:
            dropped[key] = "second name of a tensor that is loaded"
            continue
        done = [f"named {key} in the file"] if new != key else []
        for pattern, only_c4, operation in _OPERATIONS:
            if re.search(pattern, new) and (c4 or not only_c4):
                _check(key, value, only_c4, source)
                value = np.ascontiguousarray(operation.apply(value))
                done = [operation.says]
        result[new] = value
        if done:
            converted[new] = done[0]
    return Converted(result, converted, dropped)


def _check(key: str, value: np.ndarray, by_anchor: bool, source: str) -> None:
    rows = value.shape[0] if value.ndim else 0
    if value.ndim == 0 or (by_anchor and (rows == 0 or rows % (_SIZES * _RATIOS))):
        raise WeightsError(
            f"{source}: {key} has shape {value.shape}; a 2020 C4 model has "
            f"{_SIZES * _RATIOS} anchors per cell there"
        )
