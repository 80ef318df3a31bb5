"""What a run is at: counters, and the state of everything that has one, as plain arrays and numbers."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Optional

import numpy as np
import paddle
from paddle import nn
from paddle.optimizer import Optimizer

from ppdet.utils.errors import CheckpointError


@dataclass
class Progress:
    """Counters of a run.

    Attributes:
        step: Optimiser steps taken.
        epoch: Epoch that is going on, from 0.
        batch: Batches of it that are done.
        seed: Of everything random.
        skipped: Steps left out because of numbers that are not finite.
        best: Best value of the chosen metric so far.
        best_step: Step it was reached at.
        since_best: Evaluations since then.
        unevaluated: An evaluation is due at this point.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    seed: int = 0
    skipped: int = 0
    best: Optional[float] = None
    best_step: Optional[int] = None
    since_best: int = 0
    unevaluated: bool = False

    def improve(self, value: float, best_is: str) -> bool:
        """Take in the result of an evaluation; whether it is a new best. NaN never is."""
        sign = 1 if best_is == "max" else -1
        if not math.isnan(value) and (self.best is None or sign * value > sign * self.best):
            self.best, self.best_step, self.since_best = value, self.step, 0
            return True
        self.since_best += 1
        return False

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Progress:
        """From `to_dict`, leaving out what a newer version added."""
        names = {f.name for f in fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in names})


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed everything random for one step.

    All draws of a step follow from (seed, step, rank), so there is no generator whose state could be lost:
    a resumed run, a replayed batch and an evaluation in between change nothing. Costs some 20 us.
    """
    digest = hashlib.sha256(f"{seed}/{step}/{rank}".encode()).digest()
    value = int.from_bytes(digest[:4], "little") & 0x7FFFFFFF
    paddle.seed(value)
    np.random.seed(value)
    random.seed(value)


def to_numpy(tensor: Any) -> np.ndarray:
    """A tensor as an array that any NumPy can hold: bfloat16 becomes float32, without loss."""
    if tensor.dtype == paddle.bfloat16:
        tensor = tensor.astype("float32")
    array: np.ndarray = np.array(tensor.numpy())
    return array


def model_state(model: nn.Layer) -> dict[str, np.ndarray]:
    """State dict of a model as arrays."""
    return {key: to_numpy(value) for key, value in model.state_dict().items()}


def set_model_state(model: nn.Layer, state: Mapping[str, np.ndarray], source: str) -> None:
    """Fill a model with exactly the entries it has.

    Raises:
        CheckpointError: If an entry is missing, left over or of another shape; names it.
    """
    own = model.state_dict()
    missing, extra = sorted(set(own) - set(state)), sorted(set(state) - set(own))
    shapes = [k for k in own if k in state and tuple(own[k].shape) != tuple(state[k].shape)]
    if missing or extra or shapes:
        raise CheckpointError(
            f"{source}: does not fit the model: {len(missing)} entries missing {missing[:3]}, {len(extra)} "
            f"unknown {extra[:3]}, {len(shapes)} of another shape {shapes[:3]}. Another config?"
        )
    for key, tensor in own.items():
        tensor.set_value(paddle.to_tensor(state[key]).astype(tensor.dtype))


def optimizer_state(optimizer: Optimizer, model: nn.Layer) -> dict[str, Any]:
    """State of an optimiser by the names that parameters have in the model.

    Paddle's own names (``linear_7.w_0_velocity_0``) count layers and optimisers of the process, so they
    differ between a run that built one model and one that built two; ours are ``head.fc.weight/velocity``.
    """
    name_of = {p.name: name for name, p in model.named_parameters()}
    state: dict[str, Any] = {}
    for key, value in optimizer.state_dict().items():
        if key == "LR_Scheduler":
            state[key] = {k: v for k, v in value.items() if isinstance(v, (int, float))}
        elif key == "master_weights":
            state[key] = {name_of[name]: to_numpy(weight) for name, weight in value.items()}
        else:
            state[our_name(key, name_of)] = to_numpy(value)
    return state


def set_optimizer_state(optimizer: Optimizer, model: nn.Layer, state: Mapping[str, Any], source: str) -> None:
    """Bring back what `optimizer_state` gave.

    Raises:
        CheckpointError: If the optimiser of the checkpoint had other parameters.
    """
    paddle_name = {name: p.name for name, p in model.named_parameters()}
    existing = {
        our_name(key, {v: k for k, v in paddle_name.items()}): key
        for key in optimizer.state_dict()
        if key not in ("LR_Scheduler", "master_weights")
    }
    translated: dict[str, Any] = {}
    for key, value in state.items():
        if key == "LR_Scheduler":
            translated[key] = dict(value)
        elif key == "master_weights":
            translated[key] = {paddle_name[name]: paddle.to_tensor(weight) for name, weight in value.items()}
            for name, weight in translated[key].items():
                weight.name = f"{name}_fp32_master_0"
        else:
            name, _, accumulator = key.rpartition("/")
            if name not in paddle_name:
                raise CheckpointError(f"{source}: state of {name!r}, which the model does not have")
            fresh = f"{paddle_name[name]}_{accumulator}_0"
            tensor = paddle.to_tensor(value)
            translated[existing.get(key, fresh)] = tensor
    optimizer.set_state_dict(translated)


def our_name(key: str, name_of: Mapping[str, str]) -> str:
    """``linear_7.w_0_velocity_0`` -> ``head.fc.weight/velocity``."""
    stem, _, number = key.rpartition("_")
    end = len(stem)
    while end > 0:
        if stem[:end] in name_of:
            return f"{name_of[stem[:end]]}/{stem[end + 1 :]}"
        end = stem.rfind("_", 0, end)
    raise CheckpointError(f"optimiser state {key!r} ({number}) belongs to no parameter of the model")
