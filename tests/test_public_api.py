"""Protects the public surface: its reference page, and a script that uses all of it, checked strictly."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ppdet
from tests.support import ROOT
from tests.test_site import script

EXAMPLE = ROOT / "docs" / "examples" / "whole_api.py"


def test_reference_page_is_up_to_date() -> None:
    tools = script("make_api_page")
    assert tools.PAGE.read_text("utf-8") == tools.page(), "run: python tools/make_api_page.py"


def test_reference_page_describes_every_public_name() -> None:
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    assert [name for name in ppdet.__all__ if f"\n### `{name}`\n" not in page] == []


def test_docstrings_become_lists() -> None:
    text = "Do it.\n\nMore.\n\nArgs:\n    a: One,\n        two.\n    *b: ``c``.\n\nReturns:\n    A\n    b."
    assert script("make_api_page").as_markdown(text) == (
        "Do it.\n\nMore.\n\n**Args**\n\n* `a`: One, two.\n* `*b`: `c`.\n\n**Returns**\n\n* A b."
    )


def test_signatures_are_written_as_in_code() -> None:
    tools = script("make_api_page")

    def short(a: int, *, b: str = "x") -> None: ...

    def long(
        first_parameter: int, second_parameter: int, *rest: int, third_of_all_parameters: int = 3
    ) -> int:
        return 0

    assert tools.signature_of("short", short) == "short(a: int, *, b: str = 'x')"
    assert tools.signature_of("long", long).splitlines()[3:] == [
        "    *rest: int,",
        "    third_of_all_parameters: int = 3,",
        ") -> int",
    ]


def test_example_uses_every_public_name() -> None:
    tree = ast.parse(EXAMPLE.read_text("utf-8"))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ppdet"
    }
    assert set(ppdet.__all__) - used == set()


@pytest.mark.slow
def test_example_passes_mypy_strict(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy has no build for this Python")
    wrong = tmp_path / "wrong.py"
    wrong.write_text("import ppdet\nppdet.load_config(3)\nppdet.train('x', epochs=2)\n", "utf-8")
    options = [
        "--strict",
        "--follow-imports=silent",
        "--ignore-missing-imports",
        "--cache-dir",
        str(tmp_path),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(EXAMPLE), str(wrong)],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    errors = [line for line in done.stdout.splitlines() if " error: " in line]
    assert [line.split(":")[:2] for line in errors] == [["wrong.py", "2"], ["wrong.py", "3"]], done.stdout


@pytest.mark.slow
def test_example_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "saved output/squares/model_final" in done.stdout
    assert "no_such_config" in done.stdout
    assert (tmp_path / "squares" / "exported" / "model.json").is_file()
