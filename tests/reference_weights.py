"""Weights made from the names of parameters, by the rules the goldens were made with.

A value depends on nothing but its key and shape, so every layer of a network can be compared with the
reference without a file of weights. Random numbers come from ``PCG64(crc32(key))``.
"""

from __future__ import annotations

import functools
import math
import re
import zlib
from collections.abc import Sequence
from typing import Any, Callable

import numpy as np

#: Gain of a weight by "key [shape]"; the first pattern that is found counts. 1.7 keeps the variance behind a
#: (leaky) rectifier; the others shape features, logits and boxes so that every path is used.
GAINS = (
    (r"rpn_rois_score\.weight ", 1.6),
    (r"rpn_rois_delta\.weight ", 0.35),
    (r"bbox_score\.weight \[2048,", 11.5),
    (r"bbox_delta\.weight \[2048,", 4.0),
    (r"bbox_score(_stage\d)?\.weight ", 1.7),
    (r"bbox_delta(_stage\d)?\.weight ", 1.0),
    (r"mask_fcn_logits\.weight ", 2.0),
    (r"retina_cls\.weight ", 1.6),
    (r"retina_reg\.weight ", 0.5),
    (r"yolo_output\.\d\.weight ", 0.5),
    (r"neck\.fpn_inner_res5", 1.8),
    (r"neck\.fpn_inner_res4", 1.3),
    (r"neck\.fpn_res5", 3.0),
    (r"neck\.fpn_res4", 1.8),
    (r"neck\.fpn_res3", 1.5),
    (r"neck\.fpn_6", 0.7),
    (r"neck\.fpn_7", 2.0),
    (r"neck\.fpn_", 1.0),
    (r"conv1_[123]\.", 2.2),
    (r"\.short\.", 1.3),
    (r"", 1.7),
)
#: Factor of the last norm of a residual branch, by key.
RESIDUALS = (
    (r"branch2c\.norm\.weight$", 1.0),
    (r"branch2b\.norm\.weight$", 0.25),
    (r"^backbone\.stage\..*\.conv2\.batch_norm\.weight$", 0.25),
)
#: Key -> (period, first, last, shift): entries whose index modulo the period is in first..last-1 are shifted.
BIASES = (
    (r"rpn_rois_delta\.bias$", 4, 2, 4, 0.7),
    (r"bbox_score\.bias$", 81, 80, 81, 10.0),
    (r"bbox_score_stage\d\.bias$", 81, 80, 81, 9.2),
    (r"retina_cls\.bias$", 1, 0, 1, -12.1),
    (r"yolo_output\.\d\.bias$", 85, 4, 5, -5.0),
    (r"yolo_output\.\d\.bias$", 85, 5, 85, -4.7),
)


def _first(table: Sequence[tuple[str, float]], text: str) -> float:
    """Number of the first pattern that is found in a text; 1 if there is none."""
    return next((number for pattern, number in table if re.search(pattern, text)), 1.0)


def _one_dimensional(key: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Statistics and parameters of norms, and biases."""
    if key.endswith("._mean"):
        return 0.05 * rng.standard_normal(shape)
    if key.endswith("._variance"):
        return rng.uniform(0.8, 1.2, shape)
    if re.search(r"(^|[._])norm\.weight$", key):
        return rng.uniform(0.9, 1.1, shape) * _first(RESIDUALS, key)
    if re.search(r"(^|[._])norm\.bias$", key):
        return 0.05 * rng.standard_normal(shape)
    bias = 0.02 * rng.standard_normal(shape)
    for pattern, period, first, last, shift in BIASES:
        if re.search(pattern, key):
            bias.reshape(-1, period)[:, first:last] += shift
    return bias


def kept(make: Callable[[str, tuple[int, ...]], np.ndarray]) -> Callable[[str, Sequence[int]], np.ndarray]:
    """The same values, each made once: the networks of the goldens share most of their layers.

    Args:
        make: As `reference_tensor`.

    Returns:
        The same function. Its arrays are not to be written to, and refuse it.
    """

    @functools.lru_cache(maxsize=400)  # the entries of a network; 250 MB at most
    def remembered(key: str, shape: tuple[int, ...]) -> np.ndarray:
        value = make(key, shape)
        value.setflags(write=False)
        return value

    return lambda key, shape: remembered(key, tuple(int(n) for n in shape))


@kept
def reference_tensor(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Value of one entry of a state dict.

    Args:
        key: Its name.
        shape: Its shape; linear weights are ``[in, out]``, convolutions ``[out, in, kh, kw]``.

    Returns:
        float32. Weights have mean 0 over the inputs of each output.
    """
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    if len(shape) == 1:
        return _one_dimensional(key, shape, rng).astype(np.float32)
    # A transposed convolution whose stride is its kernel: an output sees one value per input channel.
    inputs = (0,) if len(shape) == 2 or "conv5_mask" in key else tuple(range(1, len(shape)))
    fan_in = math.prod(shape[axis] for axis in inputs)
    weight = rng.standard_normal(shape)
    if fan_in > 1:
        weight = weight - weight.mean(axis=inputs, keepdims=True)
    weight = weight * (_first(GAINS, f"{key} {list(shape)}") / np.sqrt(fan_in))
    return np.ascontiguousarray(weight, dtype=np.float32)


def sample_values(array: Any, count: int = 500) -> np.ndarray:
    """About `count` values of an array, at an odd stride over its flattened form."""
    flat = np.asarray(array).reshape(-1)
    return flat[:: max(1, flat.size // count) | 1][:count]
