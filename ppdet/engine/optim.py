"""Optimisers, in the vocabulary of 2.x."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

import paddle
from paddle import nn
from paddle.nn import ClipGradByGlobalNorm, ClipGradByValue
from paddle.optimizer import Optimizer
from paddle.regularizer import L1Decay, L2Decay

from ppdet.config.ranges import Positive
from ppdet.config.schema import schema_of
from ppdet.config.spec import Spec
from ppdet.engine.optimizers import Momentum
from ppdet.engine.schedules import LearningRateSchedule, ScheduleError

logger = logging.getLogger(__name__)

_MOMENTUM: Spec[Optimizer] = Spec.of(Momentum)
_L2: dict[str, Any] = {"type": "L2", "factor": 0.0001}


class OptimizerBuilder:
    """Which optimiser, with which weight decay and gradient clipping.

    A parameter's own learning-rate factor, own decay and ``trainable`` (its ParamAttr) hold; `regularizer` is
    for those that have no decay of their own. An optimiser with a ``weight_decay`` of its own (AdamW) decays
    by that and not by `regularizer`.

    `optimizer` is built with these derived arguments, as far as it takes them: ``learning_rate`` (number or
    `paddle.optimizer.lr.LRScheduler`), ``parameters`` (list of trainable tensors), ``weight_decay`` (from
    `regularizer`), ``grad_clip`` (from the two below), ``apply_decay_param_fun`` (from a parameter's name to
    whether it decays).

    Args:
        optimizer: ``type`` and arguments: one of Paddle's optimisers, or a registered one of your own.
        regularizer: ``{type: L1 or L2, factor: number}``, or null.
        clip_grad_by_norm: Longest gradient, all parameters taken together.
        clip_grad_by_value: Largest entry of a gradient.
        param_groups: List of ``{params: [parts of names], learning_rate: factor, weight_decay: L2}``.
        without_weight_decay_params: Parts of names of parameters that do not decay.

    Raises:
        ScheduleError: If settings exclude each other.
    """

    def __init__(
        self,
        *,
        optimizer: Spec[Optimizer] = _MOMENTUM,
        regularizer: Union[dict[str, Any], bool, str, None] = _L2,
        clip_grad_by_norm: Optional[Positive] = None,
        clip_grad_by_value: Optional[Positive] = None,
        param_groups: Optional[list[dict[str, Any]]] = None,
        without_weight_decay_params: Optional[list[str]] = None,
    ) -> None:
        if clip_grad_by_norm is not None and clip_grad_by_value is not None:
            raise ScheduleError(
                "OptimizerBuilder: clip_grad_by_norm and clip_grad_by_value exclude each other"
            )
        self._optimizer = optimizer
        self._groups: Sequence[Mapping[str, Any]] = param_groups or ()
        self._no_decay: Sequence[str] = without_weight_decay_params or ()
        self._decay = _regularizer(regularizer)
        self._clip: Union[ClipGradByGlobalNorm, ClipGradByValue, None] = None
        if clip_grad_by_norm is not None:
            self._clip = ClipGradByGlobalNorm(float(clip_grad_by_norm))
        elif clip_grad_by_value is not None:
            bound = abs(float(clip_grad_by_value))
            self._clip = ClipGradByValue(min=-bound, max=bound)

    def build(self, learning_rate: Union[float, LearningRateSchedule], model: nn.Layer) -> Optimizer:
        """Build the optimiser of a model's trainable parameters.

        Args:
            learning_rate: Rate or schedule.
            model: Its parameters are trained.

        Raises:
            ScheduleError: If nothing is trainable, a part of a name fits no parameter, or the optimiser does
                not clip gradients and should.
        """
        named = {name: p for name, p in model.named_parameters() if p.trainable}
        if not named:
            raise ScheduleError("no parameter of the model is trainable; check freeze_at and the like")
        self._apply_groups(named)
        spared = {p.name for p in _matching(named, self._no_decay, "without_weight_decay_params")}
        for parameter in named.values():
            if parameter.name in spared:
                parameter.regularizer = L2Decay(0.0)
        derived: dict[str, Any] = {
            "learning_rate": learning_rate,
            "parameters": list(named.values()),
            "weight_decay": self._decay,
            "grad_clip": self._clip,
            "apply_decay_param_fun": lambda name: name not in spared,
        }
        taken = {key for key, argument in schema_of(self._optimizer.component).items() if argument.derived}
        if self._clip is not None and "grad_clip" not in taken:
            raise ScheduleError(
                f"OptimizerBuilder: {self._optimizer.name} takes no grad_clip; remove clip_grad_by_norm and "
                "clip_grad_by_value"
            )
        return self._optimizer.build(**{name: value for name, value in derived.items() if name in taken})

    def _apply_groups(self, named: Mapping[str, paddle.Tensor]) -> None:
        # Written into the parameters rather than handed to Paddle as groups: those would undo the factors
        # and decays that the model gave its parameters, also where a group says nothing of them.
        for group in self._groups:
            unknown = sorted(set(group) - {"params", "learning_rate", "weight_decay"})
            if unknown or "params" not in group:
                raise ScheduleError(
                    f"OptimizerBuilder.param_groups: {dict(group)}: expected params, learning_rate and "
                    "weight_decay"
                )
            for parameter in _matching(named, group["params"], "param_groups"):
                if "learning_rate" in group:
                    parameter.optimize_attr["learning_rate"] *= float(group["learning_rate"])
                if "weight_decay" in group:
                    parameter.regularizer = L2Decay(float(group["weight_decay"]))


def _regularizer(settings: Union[dict[str, Any], bool, str, None]) -> Union[L1Decay, L2Decay, None]:
    if settings is None or settings is False or settings == "None":
        return None
    if not isinstance(settings, dict) or set(settings) - {"type", "factor"}:
        raise ScheduleError(f"regularizer {settings!r}: use {{type: L2, factor: 0.0001}}, L1, or null")
    kinds: dict[str, Union[type[L1Decay], type[L2Decay]]] = {"L1": L1Decay, "L2": L2Decay}
    kind = settings.get("type", "L2")
    if kind not in kinds:
        raise ScheduleError(f"regularizer.type {kind!r}: there are L1 and L2")
    return kinds[kind](float(settings.get("factor", 0.0001)))


def _matching(named: Mapping[str, paddle.Tensor], parts: Sequence[str], what: str) -> list[paddle.Tensor]:
    for part in parts:
        if not any(part in name for name in named):
            raise ScheduleError(f"OptimizerBuilder.{what}: no trainable parameter has {part!r} in its name")
    return [p for name, p in named.items() if any(part in name for part in parts)]
