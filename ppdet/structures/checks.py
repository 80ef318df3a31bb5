"""Shapes of arrays and tensors are compared where they enter a structure."""

from __future__ import annotations

from typing import Any, Optional


def check_shape(name: str, value: Any, shape: tuple[Optional[int], ...]) -> None:
    """Compare the shape of an array or tensor with the expected one; None stands for any size.

    Raises:
        ValueError: If they differ; shows both.
    """
    actual = tuple(value.shape)
    fits = len(actual) == len(shape) and all(n is None or m in (n, -1) for n, m in zip(shape, actual))
    if not fits:
        expected = tuple("any" if n is None else n for n in shape)
        raise ValueError(f"{name}: expected shape {expected}, got {actual}")
