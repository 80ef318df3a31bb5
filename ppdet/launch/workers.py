"""The processes of one node: Paddle's launcher, what it starts, and why it has ended."""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ppdet.engine.failures import ANOTHER_PROCESS, NOTE
from ppdet.launch.network import interfaces
from ppdet.utils.cpu import usable_cores
from ppdet.utils.files import writable_folder, write_text

#: How likely it is that a reason is the one that others follow from: a message of its own; a process that
#: ended without one; a connection that broke because another process ended.
CERTAIN, SILENT, ECHO = 2, 1, 0
#: Seconds that a process may be stopped (SIGSTOP) before it counts as hanging.
STOPPED = 10.0
#: Settings of Paddle's launcher that another launcher may have left in the environment.
_FOREIGN = re.compile(
    r"POD_IP|PADDLE_(MASTER|NNODES|RANK|NPROC_PER_NODE|TRAINER.*|LOG_DIR|IPS|JOB_ID|START_PORT|CURRENT_ENDPOINT)"
)
_MESSAGE = re.compile(r"^(error: |unexpected \w+: )(?P<text>.*)")
_LONGEST_LOG = 1 << 16


@dataclass(frozen=True)
class Reason:
    """Why the processes of a node have ended.

    Attributes:
        text: A sentence about the node, without its name.
        certainty: `CERTAIN`, `SILENT` or `ECHO`.
    """

    text: str
    certainty: int


@dataclass(frozen=True)
class Place:
    """A node's place among all.

    Attributes:
        rank: Its number.
        nodes: How many there are.
        master: ``IP:PORT`` at which Paddle's launchers meet; None with one node.
        address: This node's own address; None with one node.
    """

    rank: int = 0
    nodes: int = 1
    master: Optional[str] = None
    address: Optional[str] = None


class Workers:
    """Paddle's launcher on this node, running.

    Args:
        command: Arguments after ``ppdet``, of every process.
        processes: How many to start.
        place: This node's place.
        log_folder: Where the output of every process goes.
    """

    def __init__(self, command: Sequence[str], processes: int, place: Place, log_folder: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ppdet-launch-")
        self._note = Path(self._folder.name) / "note.json"
        self._logs = log_folder
        self._sizes = {path: path.stat().st_size for path in self._log_files()}
        self._stopped: dict[int, float] = {}
        self._shown = log_folder / "workerlog.0"
        self._position = self._sizes.get(self._shown, 0)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with (writable_folder(log_folder) / "launcher.log").open("wb") as log:
            self._process = subprocess.Popen(
                launcher_command(command, processes, place, log_folder),
                env=environment(os.environ, processes, place, self._note),
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for this program, which passes it on
            )

    @property
    def status(self) -> Optional[int]:
        """Exit status of the launcher; None while it runs."""
        return self._process.poll()

    def new_output(self) -> str:
        """What the first process of this node has written since the last call."""
        try:
            with self._shown.open("rb") as file:
                file.seek(self._position)
                block = file.read()
        except OSError:  # not there yet
            return ""
        self._position += len(block)
        return self._decoder.decode(block)

    def ask_to_stop(self) -> None:
        """Let all processes of all nodes stop after this step and save, as SIGTERM does."""
        with contextlib.suppress(OSError):
            self._process.terminate()

    def end(self, reason: str, *, saves: bool) -> None:
        """Tell the processes that others are gone, so that they end by themselves.

        Args:
            reason: For their error.
            saves: Whether the first one here saves a checkpoint, in place of the first of all.
        """
        write_text(self._note, json.dumps({"reason": reason, "saves": saves}))

    def kill(self) -> None:
        """End everything at once."""
        for pid in [*descendants(self._process.pid), self._process.pid]:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Kill what still runs, and remove the note."""
        if self.status is None:
            self.kill()
        self._folder.cleanup()

    def stopped_process(self) -> Optional[str]:
        """The process that has been stopped for too long, if there is one."""
        now = time.monotonic()
        states = {pid: state_of(pid) for pid in [*descendants(self._process.pid), self._process.pid]}
        self._stopped = {
            pid: self._stopped.get(pid, now) for pid, state in states.items() if state in ("T", "t")
        }
        for pid, since in self._stopped.items():
            if now - since > STOPPED:
                return f"process {pid} has been stopped (SIGSTOP) for {now - since:.0f} s"
        return None

    def reason(self) -> Reason:
        """Why the launcher has ended with an error, from what its processes wrote."""
        echo, silent = None, None
        for path in self._log_files():
            message = self._last_message(path)
            if message is None:
                silent = f"a process ended without a message (killed? out of memory?); see {path}"
            elif ANOTHER_PROCESS in message:
                echo = f"failed: {message}"
            else:
                return Reason(f"failed: {message}; see {path}", CERTAIN)
        if silent is not None:
            return Reason(f"failed: {silent}", SILENT)
        launcher = f"Paddle's launcher ended with status {self.status}; see {self._logs / 'launcher.log'}"
        return Reason(echo or f"failed: {launcher}", ECHO)

    def _log_files(self) -> list[Path]:
        return sorted(self._logs.glob("workerlog.*"))

    def _last_message(self, path: Path) -> Optional[str]:
        """The last error that the command line printed into a log, since this start."""
        with path.open("rb") as file:
            start = self._sizes.get(path, 0)
            file.seek(max(start, path.stat().st_size - _LONGEST_LOG))
            lines = file.read().decode("utf-8", "replace").splitlines()
        found = [match["text"] for match in map(_MESSAGE.match, lines) if match]
        return found[-1] if found else None


def launcher_command(command: Sequence[str], processes: int, place: Place, log_folder: Path) -> list[str]:
    """The command line of Paddle's launcher."""
    words = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", str(processes)]
    if place.master is not None and place.address is not None:
        words += ["--nnodes", str(place.nodes), "--rank", str(place.rank)]
        words += ["--master", place.master, "--host", place.address]
    words += ["--log_dir", str(log_folder), "--log_level", "ERROR"]
    return [*words, sys.executable, "-u", "-m", "ppdet", *command]


def environment(given: os._Environ[str], processes: int, place: Place, note: Path) -> dict[str, str]:
    """The environment of the launcher and of everything that it starts.

    Connections are made at the address by which the other nodes know this one: by default Paddle takes that
    of the host name, which is a loopback address on many systems.
    """
    found = {name: value for name, value in given.items() if not _FOREIGN.fullmatch(name)}
    found[NOTE] = str(note)
    names = [name for name, address in interfaces().items() if address == place.address]
    for name in names[:1]:
        found.setdefault("GLOO_SOCKET_IFNAME", name)
        found.setdefault("NCCL_SOCKET_IFNAME", name)
    found.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // processes)))
    return found


def descendants(pid: int) -> list[int]:
    """All processes below one, where the system lists them (Linux); else none."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The name, in parentheses, may contain anything.
            parent = int(path.read_text("utf-8", "replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found, queue = [], [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def state_of(pid: int) -> str:
    """State of a process in one letter, ``T`` if it is stopped; empty if there is no telling."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        return text.rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""
