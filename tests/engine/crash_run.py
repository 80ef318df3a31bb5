"""Trains in child processes that are killed at random instants; run by `test_crash` with a folder and a seed.

An instant is a number of Python calls, drawn evenly over a few steps with their checkpoints, not a number of
seconds: the kills fall all over the run on machines of any speed, and never after its end.

Children are forked from a process that has imported Paddle but never computed with it, which saves the four
seconds that an import takes.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, Optional

from ppdet.engine.checkpoint import LEDGER, RunFolder
from ppdet.engine.console import JsonLines
from ppdet.engine.ema import EmaSettings
from ppdet.engine.hooks import Hook
from ppdet.engine.settings import TrainSettings
from tests.engine.toys import make_trainer

KILLS = 20
EPOCHS = 24
#: Three steps of two batches, and one of the last batch, in an epoch of five.
STEPS = 3 * EPOCHS
#: Steps a child may finish before it is killed, so that the run outlasts all kills.
STEPS_PER_CHILD = STEPS // KILLS
#: Calls of a child from its first step to its third; half of them are Paddle's own first imports.
CALLS = 36_000


class Doom(Hook):
    """Asks to be killed at some call, and goes on until it is, but no further than a few steps.

    Args:
        calls: Which call.
        pipe: Where to ask.
    """

    def __init__(self, calls: int, pipe: int) -> None:
        self._calls, self._pipe = calls, pipe
        self._steps = 0

    def before_train(self, trainer: Any) -> None:
        sys.setprofile(self._count)

    def _count(self, frame: Any, event: str, argument: Any) -> None:
        self._calls -= 1
        if self._calls == 0:
            os.write(self._pipe, b"now")

    def after_step(self, trainer: Any) -> None:
        self._steps += 1
        if self._steps == STEPS_PER_CHILD:
            os.write(self._pipe, b"now")
            signal.pause()


def train(folder: Path, *hooks: Hook) -> None:
    """Train on from whatever is there."""

    def evaluate() -> dict[str, dict[str, float]]:
        return {"bbox": {"AP": float(trainer.model.state_dict()["head.bias"].sum())}}

    settings = TrainSettings(
        epochs=EPOCHS,
        log_iter=1,
        seed=7,
        accumulate=2,
        snapshot_epoch=2,
        snapshot_iter=1,
        ema=EmaSettings(decay=0.9),
    )
    trainer = make_trainer(
        settings=settings,
        folder=RunFolder(folder, keep_last=2),
        evaluate=evaluate,
        hooks=[JsonLines(folder), *hooks],
    )
    if (folder / LEDGER).exists():
        trainer.resume("auto")
    trainer.train()


def in_child(folder: Path, calls: Optional[int]) -> int:
    """Train in a child; kill it about the time of that call. Returns its status."""
    asked, ask = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(asked)
            train(folder, *([] if calls is None else [Doom(calls, ask)]))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(ask)
    with os.fdopen(asked, "rb", buffering=0) as pipe:
        if pipe.read(3):  # nothing if the child has ended
            os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def main() -> None:
    """Kill, resume, then let it end; say how often it was killed."""
    # A kill, unlike a power failure, loses nothing that was written, and on a busy machine six hundred waits
    # for the disk can exceed the five minutes of the test.
    os.fsync = lambda handle: None
    folder, rng = Path(sys.argv[1]), random.Random(int(sys.argv[2]))
    for kill in range(KILLS):
        status = in_child(folder, rng.randrange(1, CALLS))
        if not os.WIFSIGNALED(status):
            raise RuntimeError(f"child ended with status {status} before kill {kill + 1}")
    status = in_child(folder, None)
    if status:
        raise RuntimeError(f"child ended with status {status} after {KILLS} kills")
    sys.stdout.write(f"{KILLS} kills\n")


if __name__ == "__main__":
    main()
