"""Tables of metric values: ``{"bbox": {"AP": 0.37}}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from ppdet.utils.errors import UserError


def flatten(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """``{"bbox": {"AP": 1}}`` to ``{"bbox.AP": 1}``."""
    return {f"{task}.{name}": value for task, row in metrics.items() for name, value in row.items()}


def headline(metrics: Mapping[str, Mapping[str, float]], chosen: str) -> list[str]:
    """The numbers that an evaluation is known by: AP and AP50 of every task, and the one that decides."""
    numbers = flatten(metrics)
    names = [name for name in numbers if name.rpartition(".")[2] in ("AP", "AP50", "mAP")]
    return [f"{name} {numbers[name]:.4f}" for name in dict.fromkeys([*names, chosen])]


def choose(metrics: Mapping[str, Mapping[str, float]], name: Optional[str] = None) -> tuple[str, float]:
    """One number of a table.

    Args:
        metrics: The table.
        name: ``"task.name"``, e.g. ``"segm.AP"``; None for the first one.

    Returns:
        Its full name and value.

    Raises:
        UserError: If there is no such number; says which there are.
    """
    flat = flatten(metrics)
    if name is None and flat:
        return next(iter(flat.items()))
    if name not in flat:
        raise UserError(f"best_metric: there is no number {name!r}; there are {', '.join(flat) or 'none'}")
    return name, flat[name]
