"""Layers that are several in training and one at inference.

A detector always holds the form that it trains, and so does every checkpoint. Whoever only detects takes
`for_inference` of it: predictors and exports do, so evaluation, inference and exports get the fast form
without an option for it.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import TypeVar

import paddle
from paddle import nn

M = TypeVar("M", bound=nn.Layer)


class Reparameterizable(nn.Layer):
    """A layer with a cheaper equivalent in evaluation mode."""

    @abstractmethod
    def reparameterized(self) -> nn.Layer:
        """The cheaper layer, with weights of its own made from the present ones."""


@paddle.no_grad()
def for_inference(model: M) -> M:
    """A model to detect with: a copy in evaluation mode in which every `Reparameterizable` is replaced.

    The copy has the weights of this moment; later changes of `model` do not reach it.

    Args:
        model: Any model; stays as it is.

    Returns:
        The copy, or `model` itself if it has nothing to replace.
    """
    if not any(isinstance(layer, Reparameterizable) for layer in model.sublayers()):
        return model
    twin = copy.deepcopy(model)
    for parent in twin.sublayers(include_self=True):
        for name, child in list(parent.named_children()):
            if isinstance(child, Reparameterizable):
                parent.add_sublayer(name, child.reparameterized())
    twin.eval()
    return twin
