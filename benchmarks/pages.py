"""What result pages have in common: where their figures come from, and how these are written."""

from __future__ import annotations

import os
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ppdet.engine.evaluator import hardware, versions


def origin(command: str, *others: str) -> list[str]:
    """Lines that tell the command, the commit, the machine, and the versions.

    Args:
        command: What was typed.
        others: Further versions, each with its name.
    """
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip()
    cpu, known = hardware(), [f"{what} {version}" for what, version in versions().items()]
    return [
        f"`{command}` at {commit};",
        f"{cpu['cpu']}, {cpu['cores']} cores; {', '.join([*others, *known])}.",
        f"Load average at the end: {os.getloadavg()[0]:.1f}.",
    ]


def spread(values: Sequence[float], digits: int) -> str:
    """Median (least - most)."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} - {max(values):.{digits}f})"
