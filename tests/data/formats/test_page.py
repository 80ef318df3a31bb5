"""Protects the page about formats: its table is that of the code."""

from __future__ import annotations

from ppdet.data.formats.registry import FORMATS
from tests.support import ROOT

#: Columns of the page: title, and the feature it stands for.
COLUMNS = {
    "outline": "outline",
    "several parts": "parts",
    "pixel mask": "runs",
    "box beside the outline": "own_box",
    "crowd": "iscrowd",
    "difficult": "difficult",
    "truncated": "truncated",
    "occluded": "occluded",
    "score": "score",
    "yes/no attributes": "yes_no",
    "other attributes": "attributes",
    "image without objects": "empty",
    "class without objects": "unused",
}


def table() -> str:
    """The table of what each format holds, in Markdown."""
    lines = [f"| `--to` | {' | '.join(COLUMNS)} |", f"|---|{':-:|' * len(COLUMNS)}"]
    for name, form in FORMATS.items():
        marks = " | ".join("yes" if feature in form.holds else "-" for feature in COLUMNS.values())
        lines.append(f"| `{name}` {form.title} | {marks} |")
    return "\n".join(lines)


def test_the_table_of_the_page_is_that_of_the_code() -> None:
    page = (ROOT / "docs" / "formats.md").read_text("utf-8")
    assert table() in page, f"docs/formats.md needs this table:\n\n{table()}"
