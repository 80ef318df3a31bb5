"""The outcome as a page and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ppdet.doctor.checks import Check

_MARKS = {True: "passed", False: "**FAILED**", None: ""}


def page(facts: Mapping[str, Any], checks: Sequence[Check]) -> str:
    """Markdown, to be pasted into an issue."""
    failed = [check for check in checks if check.passed is False]
    verdict = "no check failed" if not failed else f"{len(failed)} checks failed"
    rows = [f"| {check.name} | {_MARKS[check.passed]} | {_cell(check.text)} |" for check in checks]
    return "\n".join(
        [
            "# ppdet doctor",
            "",
            f"Of {len(checks)} checks, {verdict}. Losses are of random weights on drawn images; speeds",
            "are of random weights, batch 1, from the file to the detections.",
            "",
            "| machine | |",
            "|---|---|",
            *(f"| {name} | {_cell(str(value))} |" for name, value in facts.items()),
            "",
            "| check | outcome | |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def content(facts: Mapping[str, Any], checks: Sequence[Check]) -> dict[str, Any]:
    """The same for JSON, with all numbers."""
    return {"machine": dict(facts), "checks": [asdict(check) for check in checks]}


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
