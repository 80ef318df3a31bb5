"""Protects pre-emption: SIGTERM and Ctrl-C save and end cleanly, a second Ctrl-C ends at once."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from ppdet.engine.checkpoint import RunFolder
from ppdet.engine.hooks import Hook
from ppdet.engine.settings import TrainSettings
from ppdet.engine.signals import StopOnSignal
from tests.engine.toys import assert_same, make_trainer, weights_of


class Send(Hook):
    def __init__(self, number: int, at: int, times: int = 1) -> None:
        self._number, self._at, self._times = number, at, times

    def after_step(self, trainer: Any) -> None:
        if trainer.progress.step == self._at:
            for _ in range(self._times):
                os.kill(os.getpid(), self._number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("at", [2, 5, 7])
def test_a_signal_saves_and_the_run_goes_on_exactly(tmp_path: Path, number: int, at: int) -> None:
    before = signal.getsignal(number)
    settings = TrainSettings(epochs=2)
    first = make_trainer(settings=settings, folder=RunFolder(tmp_path), hooks=[Send(number, at)])
    report = first.train()
    assert report.stopped == signal.Signals(number).name
    assert report.progress.step == at
    assert signal.getsignal(number) is before
    second, whole = (
        make_trainer(settings=settings, folder=RunFolder(tmp_path)),
        make_trainer(settings=settings),
    )
    second.resume("auto")
    second.train()
    whole.train()
    assert_same(weights_of(second), weights_of(whole))


def test_second_interrupt_is_immediate(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    trainer = make_trainer(folder=RunFolder(tmp_path), hooks=[Send(signal.SIGINT, 2, times=2)])
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert trainer.progress.step == 2
    assert signal.getsignal(signal.SIGINT) is before


def test_outside_the_main_thread_it_does_nothing() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[Any] = []

    def run() -> None:
        with StopOnSignal(seen.append):
            seen.append(signal.getsignal(signal.SIGTERM) is before)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [True]


def test_forked_workers_end_on_sigterm_and_survive_ctrl_c() -> None:
    with StopOnSignal(lambda name: None):
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)  # not reached
        _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGTERM
