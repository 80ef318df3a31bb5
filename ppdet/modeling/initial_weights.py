"""Builds models whose weights come from a file without drawing random ones first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from paddle.nn import initializer
from paddle.nn.initializer import Initializer

#: Initialisers that draw nothing, which stay as they are.
_FIXED = (initializer.Constant, initializer.Assign, initializer.Bilinear, initializer.Dirac)


@contextmanager
def without_random_weights() -> Iterator[None]:
    """Within, parameters that would be drawn at random start at zero.

    For models of which every weight is loaded afterwards. (`paddle.LazyGuard` leaves parameters without
    memory, so that layers fail whose constructors compute with them, as `paddle.nn.utils.weight_norm` does.)
    """
    call, zero = Initializer.__call__, initializer.Constant(0.0)

    def fixed(self: Initializer, *given: Any, **named: Any) -> Any:
        return call(self if isinstance(self, _FIXED) else zero, *given, **named)

    Initializer.__call__ = fixed  # type: ignore[method-assign]
    try:
        yield
    finally:
        Initializer.__call__ = call  # type: ignore[method-assign]
