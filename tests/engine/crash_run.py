"""Trains in child processes that are killed at random instants; run by `test_crash` with a folder and a seed.

Children are forked from a process that has imported Paddle but never computed with it, which saves the four
seconds that an import takes.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from ppdet.engine.checkpoint import LEDGER, RunFolder
from ppdet.engine.console import JsonLines
from ppdet.engine.ema import EmaSettings
from ppdet.engine.hooks import Hook
from ppdet.engine.settings import TrainSettings
from tests.engine.toys import make_trainer

KILLS = 20


class Slow(Hook):
    """Stretches the run, so that kills fall all over it."""

    def after_step(self, trainer: Any) -> None:
        time.sleep(0.03)


def train(folder: Path, *, slow: bool = True) -> None:
    """Train on from whatever is there."""

    def evaluate() -> dict[str, dict[str, float]]:
        return {"bbox": {"AP": float(trainer.model.state_dict()["head.bias"].sum())}}

    settings = TrainSettings(
        epochs=24,
        log_iter=1,
        seed=7,
        accumulate=2,
        snapshot_epoch=2,
        snapshot_iter=2,
        ema=EmaSettings(decay=0.9),
    )
    trainer = make_trainer(
        settings=settings,
        folder=RunFolder(folder, keep_last=2),
        evaluate=evaluate,
        hooks=[JsonLines(folder), *([Slow()] if slow else [])],
    )
    if (folder / LEDGER).exists():
        trainer.resume("auto")
    trainer.train()


def in_child(folder: Path, seconds: float) -> int:
    """Train in a child; kill it after so many seconds. Returns its status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            train(folder)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def main() -> None:
    """Kill, resume, and say how many kills hit a run that was not over."""
    folder, rng = Path(sys.argv[1]), random.Random(int(sys.argv[2]))
    kills = 0
    for _ in range(200):
        status = in_child(folder, rng.uniform(0.1, 0.45) if kills < KILLS else 1e9)
        if os.WIFSIGNALED(status):
            kills += 1
        elif status != 0:
            raise RuntimeError(f"child failed with status {status} after {kills} kills")
        elif kills >= KILLS:
            break
        else:  # over before the kills were
            break
    sys.stdout.write(f"{kills} kills\n")


if __name__ == "__main__":
    main()
