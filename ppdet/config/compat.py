"""What PaddleDetection 2.x writes into a YAML and this project does not take, as data.

A key that is listed here is accepted where its rule allows; anything else that is unknown is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Union


@dataclass(frozen=True)
class Ignored:
    """Accepted with any value, without effect."""

    reason: str


@dataclass(frozen=True)
class Only:
    """Accepted with some values only: what they ask for is what happens anyway."""

    values: tuple[Any, ...]
    reason: str


@dataclass(frozen=True)
class Agrees:
    """Accepted if it equals what the configuration says elsewhere.

    Attributes:
        places: Dotted ``Component.argument`` or top-level keys that are compared, where they are used.
    """

    places: tuple[str, ...]


Rule = Union[Ignored, Only, Agrees]

COMPONENT_KEYS: Mapping[str, Mapping[str, Rule]] = {}
TOP_LEVEL_KEYS: Mapping[str, Rule] = {}
DROPPED_COMPONENTS: Mapping[str, Mapping[str, Rule]] = {}
NOT_PROVIDED: frozenset[str] = frozenset()
