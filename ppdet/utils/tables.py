"""Text tables for terminals and logs."""

from __future__ import annotations

from collections.abc import Sequence


def text_table(rows: Sequence[Sequence[str]], align: str = "<>") -> str:
    """Rows as lines; every column is as wide as its widest cell, and two spaces lie between columns.

    Args:
        rows: Cells, with as many in each row.
        align: ``<`` (left) or ``>`` (right) for each column; the last character holds for all further ones.

    Returns:
        The lines, without trailing spaces.
    """
    widths = [max(map(len, column)) for column in zip(*rows)]
    sides = align.ljust(len(widths), align[-1])
    lines = ("  ".join(f"{cell:{s}{w}}" for cell, s, w in zip(row, sides, widths)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
