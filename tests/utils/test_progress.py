"""Protects logs: a loop writes a line per tenth at most, and none if it is short; a terminal gets a bar."""

from __future__ import annotations

import logging
import sys

import pytest

from ppdet.utils import progress as module
from ppdet.utils.progress import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that pass between two looks at the clock."""
    state = [1.0, 0.0]

    def monotonic() -> float:
        state[1] += state[0]
        return state[1]

    monkeypatch.setattr(module.time, "monotonic", monotonic)
    return state


def test_a_line_per_tenth(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert list(progress(range(200), total=200, desc="infer", unit="img")) == list(range(200))
    assert len(caplog.messages) == 10
    assert caplog.messages[0] == "infer: 20 of 200 (10 %), 1.0 img/s"
    assert caplog.messages[-1].startswith("infer: 200 of 200 (100 %)")


def test_a_short_or_quiet_loop_writes_nothing(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock[0] = 0.01
    assert len(list(progress(range(100), total=100, desc="infer", unit="img"))) == 100
    clock[0] = 10.0
    assert len(list(progress(range(100), total=100, desc="infer", unit="img", quiet=True))) == 100
    assert len(list(progress(range(100), total=None, desc="infer", unit="frame"))) == 100
    assert caplog.messages == []


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(progress(range(3), total=3, desc="infer", unit="img")) == [0, 1, 2]
    assert "infer: 100%" in capsys.readouterr().err
