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

from ppdet.engine.schedules import LearningRateSchedule, ScheduleError

logger = logging.getLogger(__name__)

_MOMENTUM: dict[str, Any] = {"type": "Momentum", "momentum": 0.9}
_L2: dict[str, Any] = {"type": "L2", "factor": 0.0001}

#: Optimiser -> arguments a YAML may give it.
_ARGUMENTS: dict[str, frozenset[str]] = {
    "SGD": frozenset(),
    "Momentum": frozenset({"momentum", "use_nesterov"}),
    "Adam": frozenset({"beta1", "beta2", "epsilon"}),
    "AdamW": frozenset({"beta1", "beta2", "epsilon", "weight_decay"}),
}
#: Arguments of every optimiser that choose parameters by parts of their names.
_BY_NAME = frozenset({"param_groups", "without_weight_decay_params"})


class OptimizerBuilder:
    """Which optimiser, with which weight decay and gradient clipping.

    A parameter's own learning-rate factor, own decay and ``trainable`` (its ParamAttr) hold; `regularizer` is
    for those that have no decay of their own. AdamW decays by its ``weight_decay`` and not by `regularizer`.

    Args:
        optimizer: ``type`` (Momentum, SGD, Adam or AdamW) and that optimiser's arguments;
            ``param_groups``: list of ``{params: [parts of names], learning_rate: factor, weight_decay: L2}``;
            ``without_weight_decay_params``: parts of names of parameters that do not decay.
        regularizer: ``{type: L1 or L2, factor: number}``, or null.
        clip_grad_by_norm: Longest gradient, all parameters taken together.
        clip_grad_by_value: Largest entry of a gradient.
    """

    def __init__(
        self,
        *,
        optimizer: dict[str, Any] = _MOMENTUM,
        regularizer: Union[dict[str, Any], bool, str, None] = _L2,
        clip_grad_by_norm: Optional[float] = None,
        clip_grad_by_value: Optional[float] = None,
    ) -> None:
        if clip_grad_by_norm is not None and clip_grad_by_value is not None:
            raise ScheduleError(
                "OptimizerBuilder: clip_grad_by_norm and clip_grad_by_value exclude each other"
            )
        self._type = str(optimizer.get("type", "Momentum"))
        if self._type not in _ARGUMENTS:
            raise ScheduleError(f"optimizer.type {self._type!r}: there are {', '.join(_ARGUMENTS)}")
        self._arguments = {k: v for k, v in optimizer.items() if k != "type" and k not in _BY_NAME}
        unknown = sorted(set(self._arguments) - _ARGUMENTS[self._type])
        if unknown:
            known = ", ".join(sorted(_ARGUMENTS[self._type] | _BY_NAME)) or "none"
            raise ScheduleError(f"optimizer: {self._type} takes no {', '.join(unknown)}; it takes {known}")
        self._groups: Sequence[Mapping[str, Any]] = optimizer.get("param_groups") or ()
        self._no_decay: Sequence[str] = optimizer.get("without_weight_decay_params") or ()
        self._decay = _regularizer(regularizer)
        self._clip: Union[ClipGradByGlobalNorm, ClipGradByValue, None] = None
        if clip_grad_by_norm is not None:
            self._clip = ClipGradByGlobalNorm(float(clip_grad_by_norm))
        elif clip_grad_by_value is not None:
            bound = abs(float(clip_grad_by_value))
            self._clip = ClipGradByValue(min=-bound, max=bound)

    def build(
        self,
        learning_rate: Union[float, LearningRateSchedule],
        model: nn.Layer,
        *,
        master_weights: bool = False,
    ) -> Optimizer:
        """The optimiser of a model's trainable parameters.

        Args:
            learning_rate: Rate or schedule.
            model: Whose parameters.
            master_weights: Keep float32 copies of half-precision parameters.

        Raises:
            ScheduleError: If nothing is trainable, or a part of a name fits no parameter.
        """
        named = {name: p for name, p in model.named_parameters() if p.trainable}
        if not named:
            raise ScheduleError("no parameter of the model is trainable; check freeze_at and the like")
        self._apply_groups(named)
        arguments = dict(self._arguments)
        spared = {p.name for p in _matching(named, self._no_decay, "without_weight_decay_params")}
        if self._type == "AdamW":
            if spared:
                arguments["apply_decay_param_fun"] = lambda name: name not in spared
        else:
            for parameter in named.values():
                if parameter.name in spared:
                    parameter.regularizer = L2Decay(0.0)
            arguments["weight_decay"] = self._decay
        optimizer: Optimizer = getattr(paddle.optimizer, self._type)(
            learning_rate=learning_rate,
            parameters=list(named.values()),
            grad_clip=self._clip,
            multi_precision=master_weights,
            **arguments,
        )
        return optimizer

    def _apply_groups(self, named: Mapping[str, paddle.Tensor]) -> None:
        # Written into the parameters rather than handed to Paddle as groups: those would undo the factors
        # and decays that the model gave its parameters, also where a group says nothing of them.
        for group in self._groups:
            unknown = sorted(set(group) - {"params", "learning_rate", "weight_decay"})
            if unknown or "params" not in group:
                raise ScheduleError(
                    f"optimizer.param_groups: {dict(group)}: use params, learning_rate and weight_decay"
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
            raise ScheduleError(f"optimizer.{what}: no trainable parameter has {part!r} in its name")
    return [p for name, p in named.items() if any(part in name for part in parts)]
