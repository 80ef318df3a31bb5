"""Paddle's optimisers as components: a YAML gives their numbers, `OptimizerBuilder` the rest.

An optimiser of your own is a registered class or function with the same two sorts of arguments; those marked
``Derived`` are described at `ppdet.engine.optim.OptimizerBuilder`.
"""

from __future__ import annotations

import inspect
from typing import Annotated, Any, Callable

import paddle
from paddle.optimizer import Optimizer

from ppdet.config.ranges import DecayRate, NonNegative, Positive
from ppdet.config.spec import DERIVED

#: Arguments of Paddle's optimisers that follow from the model and from `OptimizerBuilder`.
_DERIVED = (
    "learning_rate",
    "parameters",
    "weight_decay",
    "grad_clip",
    "apply_decay_param_fun",
)

#: Ranges of their numbers, which are the same in all of them.
_RANGES: dict[str, Any] = {
    "beta1": DecayRate,
    "beta2": DecayRate,
    "rho": DecayRate,
    "momentum": DecayRate,
    "epsilon": Positive,
    "rescale_grad": Positive,
    "weight_decay": NonNegative,
    "momentum_decay": NonNegative,
    "initial_accumulator_value": NonNegative,
}


def _component(name: str) -> Callable[..., Optimizer]:
    """One of Paddle's optimisers, with its numbers and switches as arguments of a YAML.

    Args:
        name: Its name in `paddle.optimizer`.
    """
    paddles = inspect.signature(getattr(paddle.optimizer, name)).parameters
    parameters: list[inspect.Parameter] = []
    annotations: dict[str, Any] = {}
    for argument, parameter in paddles.items():
        kind = type(parameter.default)
        if kind in (bool, int, float) and argument != "learning_rate":
            # weight_decay of AdamW is a number of its own: it decays apart from the gradient.
            annotations[argument], default = _RANGES.get(argument, kind), parameter.default
        elif argument in _DERIVED:
            annotations[argument], default = Annotated[Any, DERIVED], inspect.Parameter.empty
        else:
            continue
        parameters.append(inspect.Parameter(argument, inspect.Parameter.KEYWORD_ONLY, default=default))

    def make(**arguments: Any) -> Optimizer:
        optimizer: Optimizer = getattr(paddle.optimizer, name)(**arguments)
        return optimizer

    make.__name__ = make.__qualname__ = name
    make.__doc__ = f"``paddle.optimizer.{name}``."
    make.__annotations__ = {**annotations, "return": Optimizer}
    make.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by `inspect`
    return make


Adadelta = _component("Adadelta")
Adagrad = _component("Adagrad")
Adam = _component("Adam")
Adamax = _component("Adamax")
AdamW = _component("AdamW")
Momentum = _component("Momentum")
NAdam = _component("NAdam")
RAdam = _component("RAdam")
RMSProp = _component("RMSProp")
SGD = _component("SGD")
