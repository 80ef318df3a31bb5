"""Protects the tutorial: it runs to its last cell, and is committed with outputs and pictures.

The test trains for two epochs in place of all.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT

TUTORIAL = ROOT / "docs" / "tutorial.ipynb"
#: An override of the training in the file, and what the test writes in its place.
LOGGED = r"\"log_iter\": 10,"
SHORTER = r"\"log_iter\": 10, \"epoch\": 2,"


def pictures(cells: list[dict[str, Any]]) -> int:
    """Number of pictures in the outputs of cells."""
    return sum("image/png" in output.get("data", {}) for cell in cells for output in cell.get("outputs", []))


def test_it_is_committed_with_pictures() -> None:
    assert TUTORIAL.stat().st_size < 1_000_000
    cells = json.loads(TUTORIAL.read_text("utf-8"))["cells"]
    assert pictures(cells) >= 2
    assert all(cell["execution_count"] for cell in cells if cell["cell_type"] == "code")


@pytest.mark.slow
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="running notebooks needs pip install 'ppdet[dev]'")
    nbclient = pytest.importorskip("nbclient", reason="running notebooks needs pip install 'ppdet[dev]'")
    pytest.importorskip("ipykernel", reason="running notebooks needs pip install 'ppdet[dev]'")
    pytest.importorskip("matplotlib", reason="running notebooks needs pip install 'ppdet[dev]'")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ppdet").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ppdet "$@"\n', "utf-8")
    (programs / "ppdet").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    text = TUTORIAL.read_text("utf-8")
    assert LOGGED in text
    notebook = nbformat.reads(text.replace(LOGGED, SHORTER), as_version=4)
    nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3").execute()
    assert pictures(notebook.cells) >= 2
