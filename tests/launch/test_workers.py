"""Protects what a node knows of its processes: their command and environment, their state, why they ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ppdet.engine.failures import NOTE
from ppdet.launch import workers as workers_module
from ppdet.launch.network import interfaces
from ppdet.launch.workers import (
    CERTAIN,
    ECHO,
    SILENT,
    Place,
    Reason,
    Workers,
    descendants,
    environment,
    launcher_command,
    state_of,
)

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")


def workers(monkeypatch: pytest.MonkeyPatch, folder: Path, *program: str) -> Workers:
    """Workers whose launcher is another program."""
    monkeypatch.setattr(workers_module, "launcher_command", lambda *_: list(program))
    return Workers(["train"], 1, Place(), folder)


def test_launcher_gets_the_place_among_nodes() -> None:
    place = Place(rank=1, nodes=2, master="10.0.0.1:4000", address="10.0.0.2")
    words = launcher_command(["train", "-c", "a b.yml"], 4, place, Path("log"))
    text = " ".join(words)
    assert "-m paddle.distributed.launch --nproc_per_node 4 --nnodes 2 --rank 1" in text
    assert "--master 10.0.0.1:4000 --host 10.0.0.2 --log_dir log" in text
    assert words[-4:] == ["ppdet", "train", "-c", "a b.yml"]
    assert "--master" not in launcher_command(["train"], 2, Place(), Path("log"))


def test_environment_names_the_interface_and_forgets_other_launchers() -> None:
    given: Any = {"HOME": "/h", "POD_IP": "1.2.3.4", "PADDLE_TRAINER_ID": "7", "PADDLE_MASTER": "x:1"}
    found = environment(given, 1, Place(1, 2, "127.0.0.1:4000", "127.0.0.1"), Path("note"))
    assert found["HOME"] == "/h"
    assert found[NOTE] == "note"
    assert not {"POD_IP", "PADDLE_TRAINER_ID", "PADDLE_MASTER"} & set(found)
    for name, address in interfaces().items():
        if address == "127.0.0.1":
            assert found["GLOO_SOCKET_IFNAME"] == found["NCCL_SOCKET_IFNAME"] == name
    chosen: Any = {"GLOO_SOCKET_IFNAME": "ib0", "OMP_NUM_THREADS": "3"}
    kept = environment(chosen, 1, Place(1, 2, "127.0.0.1:4000", "127.0.0.1"), Path("note"))
    assert (kept["GLOO_SOCKET_IFNAME"], kept["OMP_NUM_THREADS"]) == ("ib0", "3")


@pytest.mark.parametrize(
    ("logs", "expected"),
    [
        (["fine\nerror: no room", ""], Reason("failed: no room; see {log}/workerlog.0", CERTAIN)),
        (
            ["unexpected ValueError: odd (in x.py:3)"],
            Reason("failed: odd (in x.py:3); see {log}/workerlog.0", CERTAIN),
        ),
        (
            ["error: training ended, because another process failed:", "killed before a word"],
            Reason(
                "failed: a process ended without a message (killed? out of memory?); see {log}/workerlog.1",
                SILENT,
            ),
        ),
        (
            ["error: training ended, because another process failed:"],
            Reason("failed: training ended, because another process failed:", ECHO),
        ),
    ],
)
def test_reasons_are_read_from_what_processes_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logs: list[str], expected: Reason
) -> None:
    (tmp_path / "workerlog.0").write_text("error: of an earlier start\n")
    running = workers(monkeypatch, tmp_path, sys.executable, "-c", "raise SystemExit(3)")
    for i, text in enumerate(logs):
        with (tmp_path / f"workerlog.{i}").open("a") as file:
            file.write(text)
    assert running.reason() == Reason(expected.text.format(log=tmp_path), expected.certainty)
    running.close()


def test_without_logs_the_launcher_itself_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = workers(
        monkeypatch, tmp_path, sys.executable, "-c", "print('no such option'); raise SystemExit(3)"
    )
    while running.status is None:
        time.sleep(0.05)
    reason = running.reason()
    assert "Paddle's launcher ended with status 3; see" in reason.text
    assert "no such option" in (tmp_path / "launcher.log").read_text()
    running.close()


def test_new_output_is_given_once_and_never_in_half_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "workerlog.0"
    log.write_text("an earlier start\n")
    running = workers(monkeypatch, tmp_path, sys.executable, "-c", "")
    assert running.new_output() == ""
    letter = "ü".encode()
    with log.open("ab") as file:
        file.write(b"gr" + letter[:1])
    assert running.new_output() == "gr"
    with log.open("ab") as file:
        file.write(letter[1:] + b"n\n")
    assert running.new_output() == "ün\n"
    running.close()


@on_linux
def test_a_stopped_process_is_found_below_the_launcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_module, "STOPPED", 0.3)
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    running = workers(monkeypatch, tmp_path, sys.executable, "-c", program)
    end = time.monotonic() + 20
    while not (below := descendants(running._process.pid)):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert running.stopped_process() is None
    os.kill(below[0], signal.SIGSTOP)
    while (found := running.stopped_process()) is None:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert found.startswith(f"process {below[0]} has been stopped (SIGSTOP) for")
    running.close()  # kills it, though it is stopped
    assert state_of(below[0]) in ("", "Z")


@on_linux
def test_descendants_are_all_below() -> None:
    inner = "import time; time.sleep(30)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    with subprocess.Popen([sys.executable, "-c", outer]) as process:
        end = time.monotonic() + 20
        while len(descendants(os.getpid())) < 2 and time.monotonic() < end:
            time.sleep(0.05)
        below = descendants(process.pid)
        assert set(below) < set(descendants(os.getpid()))
        for pid in [*below, process.pid]:
            os.kill(pid, signal.SIGKILL)
    assert len(below) == 1
