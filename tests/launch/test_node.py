"""Protects what a node makes of its end: a signal, a failure here, a failure elsewhere, or both."""

from __future__ import annotations

import asyncio
from typing import Any, Optional

import pytest

from ppdet.launch.network import LaunchError
from ppdet.launch.node import _Node
from ppdet.launch.workers import CERTAIN, Reason

ELSEWHERE = "10.0.0.2 failed: image 3.jpg is cut short"


class EndedWorkers:
    """Processes that have ended, with the status of their launcher."""

    def __init__(self, status: int) -> None:
        self.status = status

    def ask_to_stop(self) -> None:
        """They have ended."""

    def kill(self) -> None:
        """They have ended."""

    def reason(self) -> Reason:
        """Of a failure."""
        return Reason("failed here", CERTAIN)


class Told:
    """A connection that keeps what is sent."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def send(self, kind: str, **values: Any) -> None:
        """Keep it."""
        self.messages.append({"kind": kind, **values})


def outcome(
    monkeypatch: pytest.MonkeyPatch, status: int, signals: int, end: Optional[str]
) -> tuple[Any, Any]:
    """(exit status or text of the error, what the first node was told)."""
    monkeypatch.setattr("ppdet.launch.node._VERDICT", 0.01)
    link = Told()
    told: Any = link

    async def run() -> int:
        workers: Any = EndedWorkers(status)
        node = _Node(workers, told, 1, print)
        for _ in range(signals):
            node._on_signal()
        if end is not None:
            node._end_with(end)
        return await node._report()

    try:
        return asyncio.run(run()), link.messages
    except LaunchError as error:
        return str(error), link.messages


@pytest.mark.parametrize("status", [0, 143])
def test_one_signal_is_a_good_end_whatever_the_launcher_says(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    assert outcome(monkeypatch, status, 1, None) == (0, [{"kind": "ended", "status": 0}])


def test_a_failure_elsewhere_is_an_error_also_while_stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    for signals in (0, 1):
        error, messages = outcome(monkeypatch, 143, signals, ELSEWHERE)
        assert error == f"the training has ended on every node: {ELSEWHERE}"
        assert messages == []


def test_a_second_signal_is_an_end_by_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    status, messages = outcome(monkeypatch, -9, 2, None)
    assert status == 130
    assert [(m["status"], m["reason"]) for m in messages] == [(1, "was stopped at once by its user")]


def test_a_failure_here_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    error, messages = outcome(monkeypatch, 1, 0, None)
    assert error == "the training has ended on every node: failed here"
    assert [(m["status"], m["reason"]) for m in messages] == [(1, "failed here")]
