"""A lock between processes, so that two of them do not download one file at the same time."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ppdet.utils.errors import WeightsError

logger = logging.getLogger(__name__)


@contextmanager
def file_lock(path: Path, *, timeout: float = 3600.0, poll: float = 0.2) -> Iterator[None]:
    """Hold an exclusive lock on `path` while the block runs.

    The operating system drops the lock when its process ends, however it ends, so a crash leaves nothing
    to clean up. The empty lock file stays: removing it would let a third process lock another file of
    the same name.

    Args:
        path: Lock file; made if absent.
        timeout: Longest wait in seconds.
        poll: Seconds between tries.

    Raises:
        WeightsError: If the lock is not free in time, or the file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise WeightsError(
            f"{path}: cannot be made: {error.strerror}; set PPDET_HOME to a writable folder"
        ) from None
    try:
        end, reported = time.monotonic() + timeout, False
        while not _try_lock(descriptor):
            if not reported:
                logger.info("another process holds %s; waiting for it", path)
                reported = True
            if time.monotonic() > end:
                raise WeightsError(f"{path}: still held by another process after {timeout:.0f} s")
            time.sleep(poll)
        yield
    finally:
        os.close(descriptor)  # which also unlocks


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
