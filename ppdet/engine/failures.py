"""Why a training with several processes ends: what each process leaves behind for the others.

A process that fails takes the others with it: they see a broken connection, or none at all and wait. So
each leaves a note of its own reason. Under `ppdet launch`, the launcher also writes a note when another
machine has failed or is silent; then this process closes its connections, and what waits for the others fails
too.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import paddle.distributed as dist

from ppdet.utils.errors import TrainingError
from ppdet.utils.files import write_text

logger = logging.getLogger(__name__)

#: Environment variable with the path of the launcher's note.
NOTE = "PPDET_LAUNCH_NOTE"
#: In the message of every process that ends because of another one.
ANOTHER_PROCESS = "because another process failed"
#: Words of gloo's and nccl's errors when a peer is gone.
_BROKEN_CONNECTION = ("gloo", "nccl", "connection reset", "connection refused", "tcpstore", "broken pipe")
#: Seconds to wait for the note of the process that failed: it is mostly there before the connection breaks,
#: and Paddle's launcher ends this process soon.
_NOTE_SECONDS = 1.0
#: Seconds to wait for the launcher's note, which comes from another machine.
_LAUNCH_NOTE_SECONDS = 5.0
_POLL = 0.25


@dataclass(frozen=True)
class Ending:
    """How this process ends because of another one.

    Attributes:
        reason: What is known of the other one's failure.
        saves: Whether this process saves a checkpoint.
    """

    reason: str
    saves: bool

    def error(self) -> TrainingError:
        """The error that says so."""
        return TrainingError(f"training ended, {ANOTHER_PROCESS}:\n{self.reason}")


def clear_failures(folder: Path) -> None:
    """Forget what processes of an earlier run failed of."""
    for path in folder.glob("failure_rank*.txt"):
        with contextlib.suppress(OSError):
            path.unlink()


def note_failure(error: BaseException, folder: Path) -> Optional[Ending]:
    """Leave a note of why this process fails, or find out which other one failed.

    Args:
        error: What this process fails of.
        folder: Where notes are left; must be the same for all processes, as that of checkpoints is.

    Returns:
        How to end, if another process's failure is the reason; None if the error is this process's own.
    """
    if dist.get_world_size() == 1 or not isinstance(error, Exception):
        return None
    rank = dist.get_rank()
    if not any(word in str(error).lower() for word in _BROKEN_CONNECTION):
        text = f"process {rank}: {type(error).__name__}: {error}"
        write_text(folder / f"failure_rank{rank}.txt", text)
        return None
    deadline = time.monotonic() + (_LAUNCH_NOTE_SECONDS if NOTE in os.environ else _NOTE_SECONDS)
    while time.monotonic() < deadline:
        notes = sorted(folder.glob("failure_rank*.txt"))
        launch = _launch_note()
        if launch is not None:
            return launch
        if notes:
            return Ending("\n".join(path.read_text("utf-8") for path in notes), rank == 0)
        time.sleep(0.05)
    reason = "another process ended without reporting an error (killed? out of memory?); see its workerlog"
    return Ending(reason, rank == 0)


def _launch_note() -> Optional[Ending]:
    """What the launcher has written; the first process of the node that it names saves."""
    path = Path(os.environ.get(NOTE, ""))
    if not path.is_file():
        return None
    note = json.loads(path.read_text("utf-8"))
    first_here = os.environ.get("PADDLE_LOCAL_RANK") == "0"
    return Ending(str(note["reason"]), bool(note["saves"]) and first_here)


def watch_launcher() -> None:
    """Start to watch for the launcher's note, if `ppdet launch` has started this process."""
    if NOTE in os.environ:
        threading.Thread(target=_watch, name="ppdet-launch", daemon=True).start()


def _watch() -> None:
    while not Path(os.environ[NOTE]).is_file():
        time.sleep(_POLL)
    closed = close_connections()
    logger.debug("the launcher ends this process: %d connections to other machines closed", closed)


def close_connections() -> int:
    """Shut all TCP connections of this process that lead to another address than loopback.

    A collective operation that waits for another process has no time limit of use (half an hour), and nothing
    else makes it return.

    Returns:
        How many there were.
    """
    count = 0
    for descriptor in _descriptors():
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as connection:
            if connection.type == socket.SOCK_STREAM and connection.family == socket.AF_INET:
                peer = connection.getpeername()[0]
                if not peer.startswith("127."):
                    connection.shutdown(socket.SHUT_RDWR)
                    count += 1
    return count


def _descriptors() -> list[int]:
    """Open files of this process, where the system lists them."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            return [int(path.name) for path in Path(folder).iterdir()]
    return []
