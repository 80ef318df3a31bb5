"""Protects that the page on data knows every problem that a check can find, and every transform there is."""

from __future__ import annotations

import re

from ppdet.config.components import COMPONENTS
from ppdet.data.problems import CURES
from tests.support import ROOT

PAGE = (ROOT / "docs" / "data.md").read_text("utf-8")


def test_every_problem_is_in_the_table() -> None:
    listed = set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", PAGE))
    assert listed == set(CURES)


def test_every_transform_is_in_the_table() -> None:
    names = {name for name, where in COMPONENTS.items() if where.startswith("ppdet.data.transforms")}
    assert names <= set(re.findall(r"`([A-Za-z0-9]+)`", PAGE))
