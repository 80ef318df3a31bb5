"""Inputs and models of the RT-DETR goldens, and comparisons by the goldens' own rules (MODERN.md there).

Queries are compared by the token that they were made of: neighbours in the order may swap.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import paddle
from paddle import Tensor

from ppdet import build_model, load_config
from ppdet.modeling.detectors.detr import DETR
from ppdet.modeling.initial_weights import without_random_weights
from ppdet.modeling.transformers.rtdetr import Selection
from tests.support import GOLDENS, ROOT, load_golden, reference_module

Arrays = dict[str, np.ndarray]


@functools.lru_cache(maxsize=2)
def golden(name: str) -> tuple[Arrays, dict[str, Any]]:
    """Arrays and meta of a golden file, read once."""
    arrays, meta = load_golden(name)
    return {key: arrays[key] for key in arrays.files if key != "meta"}, meta


@functools.lru_cache(maxsize=2)
def _built(config: str) -> DETR:
    with without_random_weights():
        model = build_model(load_config(ROOT / "configs" / f"{config}.yml"))
    assert isinstance(model, DETR)
    return model


def model_of(config: str) -> DETR:
    """The model of one of our configs with the goldens' weights, whatever a test did to it before."""
    model = _built(config)
    load_weights(model)
    return model


def load_weights(model: DETR) -> None:
    """Fill every entry of the state dict from its name."""
    tensor = reference_module("modern_weights").reference_tensor
    missing, unexpected = model.set_state_dict(
        {key: tensor(key, value.shape) for key, value in model.state_dict().items()}
    )
    assert not missing
    assert not unexpected


def images_of(files: Sequence[str]) -> Tensor:
    """``[N, 3, 320, 320]`` float32 in 0..1 of the resized images that the goldens were made from."""
    pictures = [cv2.imread(str(GOLDENS / "inputs" / file))[:, :, ::-1].transpose(2, 0, 1) for file in files]
    return paddle.to_tensor(np.stack(pictures).astype(np.float32) * np.float32(1 / 255))


def assert_sample(actual: Any, arrays: Arrays, key: str, tolerance: float) -> None:
    """A tensor equals the sampled golden `key`, errors counted in its standard deviations."""
    values = np.asarray(actual.numpy() if isinstance(actual, Tensor) else actual)
    assert list(values.shape) == arrays[f"{key}/shape"].tolist(), key
    sample, std = arrays[f"{key}/sample"], arrays[f"{key}/stats"][1]
    pick = reference_module("modern_weights").sample_values
    (taken,) = {
        picked.tobytes(): picked
        for count in (200, 300, 500, 1000, 2000)
        if len(picked := pick(values, count)) == len(sample)
    }.values()
    np.testing.assert_allclose(taken / std, sample / std, rtol=0, atol=tolerance, err_msg=key)
    mean = arrays[f"{key}/stats"][0]
    np.testing.assert_allclose(values.mean(dtype=np.float64) / std, mean / std, rtol=0, atol=tolerance)


def order_of(selection: Selection, tokens: np.ndarray) -> np.ndarray:
    """Where the golden's queries are among ours, ``[N, Q]``; the sets of tokens must be equal."""
    order = []
    for ours, theirs in zip(selection.tokens.numpy(), tokens):
        np.testing.assert_array_equal(np.sort(ours), np.sort(theirs))
        order.append([{token: place for place, token in enumerate(ours)}[token] for token in theirs])
    return np.array(order)


def ordered(values: Tensor, order: np.ndarray) -> np.ndarray:
    """Rows ``[N, Q, ...]`` in the golden's order."""
    array = values.numpy()
    return np.stack([rows[places] for rows, places in zip(array, order)])


def assert_same_detections(
    actual: Any, expected: np.ndarray, size: np.ndarray, limits: tuple[float, float]
) -> None:
    """300 rows agree as sets: same label, and score and nearest box within `limits`.

    Ours are clipped to the image of `size` (height, width), the golden's are not. The last rows may differ if
    their scores are as close as the limit.
    """
    labels, scores, boxes = (value.numpy() for value in actual)
    assert (np.diff(scores) <= 0).all()
    theirs = expected.copy()
    theirs[:, 2:] = np.clip(theirs[:, 2:], 0, np.tile(size[::-1], 2))
    ours = np.concatenate([labels[:, None], scores[:, None], boxes], axis=1)
    gap = np.abs(ours[:, None] - theirs[None])
    close = (gap[..., 0] == 0) & (gap[..., 1] <= limits[0]) & (gap[..., 2:].max(axis=2) <= limits[1])
    for rows, matched in ((ours, close.any(axis=1)), (theirs, close.any(axis=0))):
        excused = rows[:, 1] <= rows[:, 1].min() + limits[0]
        assert (matched | excused).all(), rows[~matched & ~excused]
    pairs = np.nonzero(close)
    np.testing.assert_allclose(ours[pairs[0], 1], theirs[pairs[1], 1], rtol=0, atol=limits[0])
    np.testing.assert_allclose(ours[pairs[0], 2:], theirs[pairs[1], 2:], rtol=0, atol=limits[1])
