"""Ends a run at the next step when the system or the user asks: SIGTERM, Ctrl-C."""

from __future__ import annotations

import logging
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Callable, Optional

logger = logging.getLogger(__name__)

#: Signals that ask for an end; SIGTERM is what pre-emptible machines send before they go.
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopOnSignal:
    """While active, the first signal calls `stop`; a second Ctrl-C ends at once with KeyboardInterrupt.

    Does nothing outside the main thread, where Python allows no handlers.

    Args:
        stop: Called with the signal's name.
    """

    def __init__(self, stop: Callable[[str], None]) -> None:
        self._stop = stop
        self._count = 0
        self._process = os.getpid()
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopOnSignal:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: Optional[FrameType]) -> None:
        if os.getpid() != self._process:
            self._handle_in_worker(number)
            return
        self._count += 1
        name = signal.Signals(number).name
        if self._count > 1 and number == signal.SIGINT:
            raise KeyboardInterrupt
        logger.warning("%s: saving after this step; Ctrl-C once more stops at once", name)
        self._stop(name)

    def _handle_in_worker(self, number: int) -> None:
        # Loader processes are forked and inherit this handler. Ctrl-C reaches them too, but they are still
        # needed for the step in progress; their parent ends them.
        if number == signal.SIGTERM:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
