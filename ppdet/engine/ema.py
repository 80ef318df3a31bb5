"""An exponential moving average of the weights (Polyak and Juditsky, 1992), with the decays of 2.x."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Optional

import numpy as np
import paddle
from paddle import Tensor, nn

from ppdet.engine.state_dicts import to_numpy
from ppdet.utils.errors import CheckpointError


@dataclass(frozen=True)
class EmaSettings:
    """How to average.

    Attributes:
        decay: Share of the average that a step keeps.
        decay_type: ``threshold``: min(decay, (1 + t) / (10 + t)); ``normal``: decay; ``exponential``:
            decay * (1 - exp(-(t + 1) / 2000)); t counts steps from 0.
        black_list: Parts of names of entries that are taken as they are; None for none.
        filter_no_grad: Take weights that are not trained as they are, with the statistics of such norms: an
            average of what never changes differs by rounding only, and early on by the correction.
    """

    decay: float = 0.9998
    decay_type: Literal["threshold", "normal", "exponential"] = "threshold"
    black_list: Optional[Sequence[str]] = None
    filter_no_grad: bool = False


class ModelEma:
    """The average of every floating-point entry of a state dict, BatchNorm statistics included.

    It starts from zero, which `averaged` corrects by ``1 - decay ** t`` with the decay of the last step, as
    2.x does (not for ``exponential``, whose first steps forget the zero). For ``threshold`` that is an
    approximation: early averages are too large, by 1.5 % after two steps and 0.01 % after a thousand.

    Args:
        settings: How to average.
        model: Whose entries.
    """

    def __init__(self, settings: EmaSettings, model: nn.Layer) -> None:
        self._settings = settings
        self._model = model
        self.step = 0
        untouched = _frozen(model) if settings.filter_no_grad else set()
        self._average: dict[str, Tensor] = {
            key: paddle.zeros(value.shape, "float32")
            for key, value in model.state_dict().items()
            if value.is_floating_point()
            and key not in untouched
            and not any(part in key for part in settings.black_list or ())
        }

    def _decay(self, step: int) -> float:
        decay = self._settings.decay
        if self._settings.decay_type == "threshold":
            return min(decay, (1 + step) / (10 + step))
        if self._settings.decay_type == "exponential":
            return decay * (1 - math.exp(-(step + 1) / 2000))
        return decay

    @paddle.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        decay = self._decay(self.step)
        state = self._model.state_dict()
        for key, average in self._average.items():
            average.scale_(decay)
            average.add_(state[key].astype("float32") * (1 - decay))
        self.step += 1

    @paddle.no_grad()
    def averaged(self) -> dict[str, Tensor]:
        """State dict with averages in place of what is averaged; the model's own before the first step."""
        state = {key: value.clone() for key, value in self._model.state_dict().items()}
        if self.step == 0:
            return state
        correction = 1.0
        if self._settings.decay_type != "exponential":
            correction = 1 - self._decay(self.step - 1) ** self.step
        for key, average in self._average.items():
            state[key] = (average / correction).astype(state[key].dtype)
        return state

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within, the model has the averaged weights."""
        own = {key: value.clone() for key, value in self._model.state_dict().items()}
        _fill(self._model, self.averaged())
        try:
            yield
        finally:
            _fill(self._model, own)

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"step": self.step, "average": {key: to_numpy(value) for key, value in self._average.items()}}

    def set_state(self, state: Mapping[str, Any], source: str) -> None:
        """From the checkpoint.

        Raises:
            CheckpointError: If it averaged other entries.
        """
        saved: Mapping[str, np.ndarray] = state["average"]
        if set(saved) != set(self._average):
            other = sorted(set(saved) ^ set(self._average))
            raise CheckpointError(f"{source}: its moving average has other entries: {', '.join(other[:3])}")
        self.step = int(state["step"])
        for key, average in self._average.items():
            average.set_value(paddle.to_tensor(saved[key]))


def _frozen(model: nn.Layer) -> set[str]:
    """Keys of what no step changes: parameters that are not trained, and statistics of frozen norms."""
    trained = {key for key, parameter in model.named_parameters() if parameter.trainable}
    frozen = set()
    for key, _ in model.named_parameters():
        layer, _, leaf = key.rpartition(".")
        # Statistics are no trained parameters, but follow the images unless their norm is frozen.
        owner = f"{layer}.weight" if leaf in ("_mean", "_variance") else key
        if owner not in trained:
            frozen.add(key)
    return frozen


@paddle.no_grad()
def _fill(model: nn.Layer, state: Mapping[str, Tensor]) -> None:
    for key, tensor in model.state_dict().items():
        tensor.set_value(state[key])
