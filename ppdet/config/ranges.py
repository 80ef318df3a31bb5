"""Ranges of numbers, stated where a component names its arguments: ``prob: Fraction = 0.5``.

A configuration is checked against them when it is loaded; an error names file and line. Inside a list or
mapping the range holds for every number: ``target_size: list[PositiveInt]``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class Range:
    """Values that a number may have.

    Attributes:
        least: The smallest.
        most: The largest.
        open_least: Whether `least` itself is excluded.
        open_most: Whether `most` itself is excluded.
    """

    least: float = -math.inf
    most: float = math.inf
    open_least: bool = False
    open_most: bool = False

    def holds(self, value: Any) -> bool:
        """Whether a value is in the range, or no number at all: its type is checked elsewhere."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return True
        above = value > self.least if self.open_least else value >= self.least
        below = value < self.most if self.open_most else value <= self.most
        return above and below

    def __str__(self) -> str:
        least, most = (f"{limit:.12g}" for limit in (self.least, self.most))
        if math.isinf(self.least) and math.isinf(self.most):
            return ""
        if math.isinf(self.most):
            return f"above {least}" if self.open_least else f"of {least} or more"
        if math.isinf(self.least):
            return f"below {most}" if self.open_most else f"of {most} or less"
        start = f"above {least}" if self.open_least else f"from {least}"
        return f"{start} {'and below' if self.open_most else 'to'} {most}"


PositiveInt = Annotated[int, Range(1)]
NonNegativeInt = Annotated[int, Range(0)]
#: -1 stands for "all", "never" or "none"; the argument says which.
IntFromMinusOne = Annotated[int, Range(-1)]
AnyInt = Annotated[int, Range()]
Positive = Annotated[float, Range(0, open_least=True)]
NonNegative = Annotated[float, Range(0)]
Fraction = Annotated[float, Range(0, 1)]
#: A fraction below 1: a momentum of 1 never forgets.
DecayRate = Annotated[float, Range(0, 1, open_most=True)]
AnyFloat = Annotated[float, Range()]
#: A channel of an 8-bit colour.
Colour = Annotated[float, Range(0, 255)]
#: OpenCV's numbers of ways to interpolate.
Interpolation = Annotated[int, Range(0, 4)]
#: -1 switches a threshold off.
FractionOrMinusOne = Annotated[float, Range(-1, 1)]
#: Strength of an operation of an augmentation policy.
Level = Annotated[float, Range(0, 10)]
AboveOne = Annotated[float, Range(1, open_least=True)]
#: Seeds that NumPy and Paddle take.
Seed = Annotated[int, Range(0, 2**32 - 1)]
