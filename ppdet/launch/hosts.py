"""Starts every node from one machine: a command for each host, printed or run by ssh."""

from __future__ import annotations

import asyncio
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from ppdet.launch.network import LaunchError, parse_master
from ppdet.utils.errors import UserError

#: Seconds that nodes have to save and end after Ctrl-C.
_GRACE = 40.0


@dataclass(frozen=True)
class HostCommand:
    """What one host runs.

    Attributes:
        host: As ssh takes it: ``name`` or ``user@name``.
        line: A line for its shell.
    """

    host: str
    line: str


def commands_for(
    hosts: Sequence[str], options: Sequence[str], command: Sequence[str], port: int
) -> list[HostCommand]:
    """The command of every host; the first host is the first node.

    Args:
        hosts: As ssh takes them.
        options: Of ``ppdet launch``, without those that say which nodes there are.
        command: What every process runs, after ``ppdet``.
        port: At which the first host listens.

    Raises:
        LaunchError: If a host is given twice, or the first one's address cannot be found.
    """
    wrong = [host or "an empty name" for host in hosts if not host or hosts.count(host) > 1]
    if wrong:
        raise LaunchError(f"--hosts {','.join(hosts)}: {wrong[0]} is there; name every machine once")
    master = parse_master(f"{hosts[0].rpartition('@')[2]}:{port}")
    words = [sys.executable, "-m", "ppdet", "launch", "--nnodes", str(len(hosts)), "--master", str(master)]
    line = shlex.join([*words, *options, "--", *command])
    return [HostCommand(host, f"cd {shlex.quote(str(Path.cwd()))} && exec {line}") for host in hosts]


def run_by_ssh(commands: Sequence[HostCommand], write: Callable[[str], object]) -> int:
    """Run each host's command by ssh until all have ended.

    Args:
        commands: As of `commands_for`.
        write: Takes each line of output, with its host in front.

    Returns:
        0, or the exit status of the first host that ended with another one.

    Raises:
        UserError: If there is no ssh.
    """
    return asyncio.run(_run_all(commands, write))


async def _run_all(commands: Sequence[HostCommand], write: Callable[[str], object]) -> int:
    width = max(len(command.host) for command in commands)
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        processes = [await _start(command) for command in commands]
    except FileNotFoundError:
        raise UserError("--hosts needs ssh, which is not installed; --print gives the commands") from None
    runs = [
        asyncio.ensure_future(_follow(process, f"[{c.host:<{width}}] ", write))
        for process, c in zip(processes, commands)
    ]
    stop = asyncio.ensure_future(stopping.wait())
    while not stopping.is_set() and not all(run.done() for run in runs):
        waiting = {stop, *(run for run in runs if not run.done())}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    if stopping.is_set():
        # The terminal at the other end is hung up, which a node takes as SIGTERM: it saves and ends all.
        for process in processes:
            if process.returncode is None:
                process.terminate()
        await asyncio.wait(runs, timeout=_GRACE)
    stop.cancel()
    return next((status for status in await asyncio.gather(*runs) if status), 0)


async def _start(command: HostCommand) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *("ssh", "-tt", "-o", "BatchMode=yes", command.host, command.line),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C is for this program
    )


async def _follow(process: asyncio.subprocess.Process, prefix: str, write: Callable[[str], object]) -> int:
    assert process.stdout is not None
    while True:
        block = await process.stdout.readline()
        if not block:
            return await process.wait()
        write(prefix + block.decode("utf-8", "replace").rstrip("\r\n"))
