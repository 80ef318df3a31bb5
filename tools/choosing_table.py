"""Write the table of detectors in docs/choosing.md from the table of published weights.

Usage: ``python tools/choosing_table.py``
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Optional

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ppdet.zoo import ZooEntry, entries  # noqa: E402  # after the path

PAGE = ROOT / "docs" / "choosing.md"
HEAD = "| weights | box AP | mask AP | parameters, millions | GFLOPs | licence |\n|---|--:|--:|--:|--:|---|\n"


def table() -> str:
    """Published detectors with their config here, the most accurate first."""
    rows = [entry for entry in entries() if entry.config and entry.box_ap is not None]
    return HEAD + "".join(map(_row, sorted(rows, key=lambda e: (-(e.box_ap or 0), e.name))))


def _row(entry: ZooEntry) -> str:
    mask_ap = "" if entry.mask_ap is None else f"{entry.mask_ap:.1f}"
    numbers = (f"{entry.box_ap:.1f}", mask_ap, _text(entry.parameters), _text(entry.gflops))
    name = f"[{entry.name}](../configs/{entry.config})"
    return f"| {' | '.join([name, *numbers, entry.source.licence])} |\n"


def _text(number: Optional[float]) -> str:
    return "" if number is None else f"{number:g}"


def page_with_table(page: str) -> str:
    """The page with its table made anew."""
    start = page.index(HEAD)
    end = page.index("\n\n", start) + 1
    return page[:start] + table() + page[end:]


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text("utf-8")), "utf-8")
