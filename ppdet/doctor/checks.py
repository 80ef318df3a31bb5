"""What one check found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional


@dataclass(frozen=True)
class Check:
    """One check and its outcome.

    Attributes:
        name: What was checked.
        passed: The verdict; None for a measurement, which has none.
        text: The outcome in one line.
        numbers: What the line was made of, for JSON.
    """

    name: str
    passed: Optional[bool]
    text: str
    numbers: dict[str, Any] = field(default_factory=dict)
