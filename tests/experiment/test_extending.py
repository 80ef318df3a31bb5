"""Protects docs/extending.md: one part of every kind, as printed there, works from YAML and from Python."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ppdet
from ppdet.engine.console import RECORDS
from tests.support import ROOT

PAGE = (ROOT / "docs" / "extending.md").read_text("utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of the page, in a folder outside of the package."""
    *parts, run = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    (yaml,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    assert run.startswith("import my_parts")
    (tmp_path / "my_parts.py").write_text("\n\n".join(parts), "utf-8")
    (tmp_path / "my_run.py").write_text(run, "utf-8")
    (tmp_path / "my_experiment.yml").write_text(yaml, "utf-8")
    return tmp_path


def test_every_kind_of_part_trains_from_a_yaml(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    registered = re.findall(r"@ppdet\.register\n(?:class|def) (\w+)", PAGE)
    yaml = (folder / "my_experiment.yml").read_text("utf-8")
    assert len(registered) == 11
    assert [name for name in registered if name not in yaml] == []
    experiment = ppdet.load_config("my_experiment.yml")
    assert ppdet.load_config("my_experiment.yml").to_yaml() == experiment.to_yaml()
    result = ppdet.train(experiment)
    assert result.steps == 2
    assert result.stopped is None
    assert set(result.metrics["bbox"]) == {"count_error"}
    assert "loss_features" in (result.folder / RECORDS).read_text("utf-8")


def test_objects_train_from_python(folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "my_run.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    last = done.stdout.strip().splitlines()[-1]
    metrics, _, seen = last.partition("} ")
    assert "count_error" in metrics
    assert len(ast.literal_eval(seen.lstrip("} "))) == 1
