"""Protects the terminal view: what it says of a running, a finished and a silent training."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ppdet.cli import main
from ppdet.report.runs import read_run
from ppdet.report.watch import follow, is_finished, sparkline, summary_line, view
from tests.report.folders import write_run
from tests.support import ROOT


def test_sparkline() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([3, 3]) == "▁▁"
    assert sparkline([float("nan")]) == ""
    assert len(sparkline(list(range(1000)), width=20)) == 20


def test_a_line_says_where_the_training_is(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "mine", steps=60, last_step=500))
    line = summary_line(run)
    assert line.startswith("mine: step 60/500  loss ") and "eta 0:01:28" in line
    assert "bbox.AP 35.9, best 35.9 at 40" in line


def text_of(folder: Path, now: float | None = None) -> str:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=110, color_system=None)
    console.print(view(read_run(folder), now))
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


def test_view_shows_curves_and_state(tmp_path: Path) -> None:
    shown = text_of(write_run(tmp_path, steps=60, last_step=500))
    for part in (
        "step 60 of 500",
        "eta 0:01:28",
        "loss_box",
        "learning rate",
        "bbox.AP",
        "best 35.9 at step 40",
    ):
        assert part in shown
    assert "█" in shown and "3 boxes <outside> their image" in shown
    assert "no news for 0:" in text_of(tmp_path, now=time.time() + 1000)
    assert "finished" in text_of(write_run(tmp_path))
    (tmp_path / "metrics.jsonl").write_text("")
    assert "starting" in text_of(tmp_path)


def test_follow_ends_with_the_training(tmp_path: Path) -> None:
    folder = write_run(tmp_path, steps=60, last_step=120)
    timer = threading.Timer(0.2, lambda: write_run(folder, steps=120))
    timer.start()
    steps = [run.step for run in follow(folder, 0.02)]
    timer.join()
    assert steps[0] == 60 and steps[-1] == 120
    assert is_finished(read_run(folder))


def test_plain_lines_when_piped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run")
    command = [sys.executable, "-m", "ppdet", "watch", str(folder)]
    piped = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, encoding="utf-8")
    assert piped.stdout.splitlines() == [summary_line(read_run(folder))]
    assert "\x1b" not in piped.stdout
    assert main(["watch", str(folder), "--once"]) == 0
    assert capsys.readouterr().out.startswith("run: step 200/200")
    assert main(["watch", str(tmp_path)]) == 2
