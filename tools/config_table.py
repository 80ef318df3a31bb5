"""Write the table of top-level keys in docs/config.md from the docstring and the defaults of `Experiment`.

Usage: ``python tools/config_table.py``
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ppdet.config import Spec  # noqa: E402  # after the path
from ppdet.config.dump import plain_text  # noqa: E402
from ppdet.config.registry import yaml_name  # noqa: E402
from ppdet.experiment.config import Experiment  # noqa: E402

PAGE = ROOT / "docs" / "config.md"
HEAD = "| key | default | meaning |\n|---|---|---|\n"


def table() -> str:
    """Every key that a YAML may have at its top level, its default, and what it means."""
    described = inspect.getdoc(Experiment) or ""
    rows = []
    for field in dataclasses.fields(Experiment):
        if not field.init:
            continue
        found = re.search(rf"^    {field.name}: (.*(?:\n {{8,}}.*)*)", described, re.M)
        if found is None:
            raise SystemExit(f"the docstring of Experiment does not describe {field.name}")
        meaning = " ".join(found[1].split()).replace("``", "`")
        rows.append(f"| `{field.name}` | {_default(field.default)} | {meaning} |\n")
    return HEAD + "".join(rows)


def _default(value: Any) -> str:
    if value is dataclasses.MISSING:
        return "required"
    if value is None or value == ():
        return "none"
    return f"`{yaml_name(value.component) if isinstance(value, Spec) else plain_text(value)}`"


def page_with_table(page: str) -> str:
    """The page with its table made anew."""
    start = page.index(HEAD)
    end = re.compile(r"\n(?!\|)").search(page, start)
    return page[:start] + table() + ("" if end is None else page[end.end() :])


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text("utf-8")), "utf-8")
