"""Two machines in one: network namespaces on one bridge, with a node of a training in each."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import select
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.support import ROOT

#: Of Linux: an ioctl that makes a TAP device, and its flags.
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 2, 0x1000


def _can_make_namespaces() -> bool:
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    made = subprocess.run(["ip", "netns", "add", "ppdet-try"], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "del", "ppdet-try"], capture_output=True, check=False)
    return made.returncode == 0


requires_namespaces = pytest.mark.skipif(
    not _can_make_namespaces(), reason="network namespaces need root, iproute2 and a kernel that allows them"
)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Machine:
    """A network namespace with one interface."""

    def __init__(self, name: str, address: str, link: str) -> None:
        self.name = name
        self.address = address
        self.link = link

    def plug_in(self, *, mtu: int = 1500) -> None:
        """Move its interface in, and switch it on."""
        ip("link", "set", self.link, "netns", self.name)
        ip("-n", self.name, "addr", "add", f"{self.address}/24", "dev", self.link)
        ip("-n", self.name, "link", "set", self.link, "mtu", str(mtu), "up")

    def remove(self) -> None:
        """End its processes, then itself."""
        with contextlib.suppress(subprocess.CalledProcessError):
            while self.signal(signal.SIGKILL):
                time.sleep(0.1)
            ip("netns", "del", self.name)

    def python(self, *words: str, cwd: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
        """``python WORDS`` on this machine."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.name, sys.executable, *words],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
        )

    def signal(self, number: int, *, among: str = "") -> int:
        """Send a signal to the processes of this machine whose command has some words; how many there are."""
        listed = subprocess.run(
            ["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True
        )
        pids = [int(pid) for pid in listed.stdout.split() if among in _command_of(pid)]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return len(pids)

    def cut(self) -> None:
        """Take the network away, as a pulled cable does."""
        ip("-n", self.name, "link", "set", self.link, "down")


@contextlib.contextmanager
def two_machines() -> Iterator[list[Machine]]:
    """Machines 10.77.0.1 and 10.77.0.2, joined by a cable."""
    with _namespaces() as made:
        ends = [machine.link for machine in made]
        ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for machine in made:
            machine.plug_in()
        yield made


@contextlib.contextmanager
def two_far_machines(*, delay: float, loss: float) -> Iterator[list[Machine]]:
    """As `two_machines`, with a network between them that is slow and loses packets.

    In place of ``tc netem``, which many kernels lack: a thread carries every frame from one machine's TAP
    device to the other's.

    Args:
        delay: Seconds that a frame is under way.
        loss: Share of frames that never arrive.
    """
    with _namespaces() as made:
        files = [_tap(machine.link) for machine in made]
        for machine in made:
            machine.plug_in(mtu=9000)
        over = threading.Event()
        carrier = threading.Thread(target=_carry, args=(files, delay, loss, over), daemon=True)
        carrier.start()
        try:
            yield made
        finally:
            over.set()
            carrier.join()
            for file in files:
                os.close(file)


@contextlib.contextmanager
def _namespaces() -> Iterator[list[Machine]]:
    key = f"pp{os.getpid() % 100000}"
    made = [Machine(f"{key}n{i}", f"10.77.0.{i}", f"{key}v{i}") for i in (1, 2)]
    try:
        for machine in made:
            ip("netns", "add", machine.name)
            ip("-n", machine.name, "link", "set", "lo", "up")
        yield made
    finally:
        for machine in made:
            machine.remove()


def _tap(name: str) -> int:
    """A new TAP device; reading the file gives the frames that are sent to it."""
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(file, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TAP | _IFF_NO_PI))
    return file


def _carry(files: list[int], delay: float, loss: float, over: threading.Event) -> None:
    """Carry frames between two devices, each `delay` seconds later or, by chance, never."""
    rng = random.Random(7)
    waiting: deque[tuple[float, int, bytes]] = deque()
    while not over.is_set():
        rest = max(0.0, waiting[0][0] - time.monotonic()) if waiting else 0.05
        ready, _, _ = select.select(files, [], [], min(rest, 0.05))
        for file in ready:
            with contextlib.suppress(OSError):
                while True:
                    frame = os.read(file, 65536)
                    if rng.random() >= loss:
                        other = files[1 - files.index(file)]
                        waiting.append((time.monotonic() + delay, other, frame))
        while waiting and waiting[0][0] <= time.monotonic():
            _, other, frame = waiting.popleft()
            with contextlib.suppress(OSError):
                os.write(other, frame)


def _command_of(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


class Node:
    """``ppdet launch`` on one machine."""

    def __init__(self, machine: Machine, folder: Path, *words: str) -> None:
        self.machine = machine
        self._log = folder / f"{machine.name}.txt"
        with self._log.open("wb") as log:
            self._process = machine.python("-m", "ppdet", "launch", *words, cwd=folder, log=log)

    @property
    def text(self) -> str:
        """What it has printed."""
        return self._log.read_text("utf-8", "replace")

    def wait_for(self, text: str, *, seconds: float = 120.0) -> None:
        """Wait until it has printed a text."""
        end = time.monotonic() + seconds
        while text not in self.text:
            assert self._process.poll() is None, f"ended without {text!r}:\n{self.text}"
            assert time.monotonic() < end, f"no {text!r} in {seconds} s:\n{self.text}"
            time.sleep(0.1)

    def ended(self, *, seconds: float) -> int:
        """Its exit status; fails if it has not ended in time."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {seconds} s:\n{self.text}") from None


def start(where: list[Machine], index: int, folder: Path, options: str, command: str) -> Node:
    """One machine's part of a training on all; it writes its logs into ``log<index>``."""
    words = [f"--nnodes={len(where)}", f"--master={where[0].address}", f"--log_dir=log{index}"]
    return Node(where[index], folder, *words, *options.split(), "--", *command.split())


def launch(where: list[Machine], folder: Path, options: str, command: str) -> list[Node]:
    """The same training on all machines."""
    return [start(where, index, folder, options, command) for index in range(len(where))]
