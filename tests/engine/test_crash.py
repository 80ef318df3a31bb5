"""Protects against lost work: killed twenty times at random instants, a run ends as if it never was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ppdet.engine.checkpoint import BEST, FINAL
from ppdet.utils import safe_pickle
from tests.engine.crash_run import KILLS, train
from tests.support import ROOT

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.mark.slow
def test_twenty_kills(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    run = subprocess.run(
        [sys.executable, str(ROOT / "tests/engine/crash_run.py"), str(killed), "1"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout[-3000:]
    assert f"{KILLS} kills" in run.stdout
    whole.mkdir()
    train(whole)
    for name in (f"{FINAL}.pdparams", f"{FINAL}.pdopt", f"{BEST}.pdparams"):
        one, other = (flat(safe_pickle.load(folder / name)) for folder in (killed, whole))
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key], err_msg=f"{name} {key}")
    assert losses(killed) == losses(whole)
    assert not list(killed.glob(".*.tmp"))


def flat(tree: object, path: str = "") -> dict[str, object]:
    """Every leaf of nested dicts by its path."""
    if not isinstance(tree, dict):
        return {path: tree}
    return {key: leaf for name, sub in tree.items() for key, leaf in flat(sub, f"{path}/{name}").items()}


def losses(folder: Path) -> list[tuple[int, str]]:
    """Step and losses of every line of the log."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], json.dumps(row.get("losses", row.get("bbox")))) for row in rows]
