"""Protects training with two processes: the numbers of one, a failure that ends both and says why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.engine.distributed_run import run_equal, run_score
from tests.support import ROOT

pytestmark = pytest.mark.slow


def launch(task: str, folder: Path) -> tuple[int, str, float]:
    """Exit status and output of two processes, and seconds from the failure of one, if it noted that."""
    run = subprocess.run(
        [
            sys.executable,
            *("-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--backend", "gloo"),
            *("--log_dir", str(folder / "log"), str(ROOT / "tests/engine/distributed_run.py")),
            *(task, str(folder)),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    ended = time.time()
    log_of_first = (
        folder / "log" / "workerlog.0"
    ).read_text()  # what the launcher shows, if it is still there
    failed = folder / "failed_at.txt"
    seconds = ended - float(failed.read_text()) if failed.exists() else 0.0
    return run.returncode, run.stdout + log_of_first, seconds


def test_two_processes_equal_one(tmp_path: Path) -> None:
    run_score(tmp_path / "coco", 0, 1)  # writes the images, before two processes want them
    status, output, _ = launch("equal", tmp_path)
    assert status == 0, output[-3000:]
    run_equal(tmp_path, 0, 1)
    for name in ("plain", "accumulated"):
        one = np.load(tmp_path / f"{name}_1_0.npz")
        for rank in range(2):
            two = np.load(tmp_path / f"{name}_2_{rank}.npz")
            for key in one.files:
                np.testing.assert_allclose(two[key], one[key], rtol=1e-5, atol=1e-6, err_msg=f"{name} {key}")
    expected = np.load(tmp_path / "scores_1_0.npy")
    assert expected[0] == 20  # every image of 5 batches of 4, once
    for rank in range(2):
        np.testing.assert_allclose(np.load(tmp_path / f"scores_2_{rank}.npy"), expected, rtol=1e-6)
    one_ap = json.loads((tmp_path / "coco" / "ap_1_0.json").read_text())
    assert 0.1 < one_ap["scores"]["AP"] < 0.9
    assert len(one_ap["seen"]) == 13
    shares = [json.loads((tmp_path / "coco" / f"ap_2_{rank}.json").read_text()) for rank in range(2)]
    assert set(shares[0]["seen"]) | set(shares[1]["seen"]) == set(one_ap["seen"])
    assert max(len(share["seen"]) for share in shares) <= 7  # each did its half
    for share in shares:
        assert share["scores"] == pytest.approx(one_ap["scores"], abs=1e-6)
    saved = sorted(p.name for p in (tmp_path / "plain" / "2").iterdir())
    assert saved == ["0.pdopt", "0.pdparams", "checkpoints.json", "model_final.pdopt", "model_final.pdparams"]


def test_error_of_one_ends_both_with_its_message(tmp_path: Path) -> None:
    status, output, seconds = launch("raise", tmp_path)
    assert status != 0
    assert "process 1: MemoryError: rank 1 has no room" in output
    assert 0 < seconds < 60


def test_killed_process_ends_the_other(tmp_path: Path) -> None:
    status, output, seconds = launch("kill", tmp_path)
    assert status != 0
    assert "another process ended without reporting an error" in output
    assert 0 < seconds < 60


def test_signal_to_one_stops_both_at_the_same_step(tmp_path: Path) -> None:
    status, output, _ = launch("stop", tmp_path)
    assert status == 0, output[-3000:]
    texts = [(tmp_path / f"stopped_{rank}.txt").read_text() for rank in range(2)]
    assert texts == ["3 another process stopped", "3 SIGTERM"]
    assert (tmp_path / "iter_3.pdopt").exists()
