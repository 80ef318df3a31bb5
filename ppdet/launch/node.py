"""One node of a training: joins the others, starts its processes when all agree, and ends when any ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Optional

from ppdet.launch.coordinator import BEAT, SILENCE, Coordinator
from ppdet.launch.facts import NodeFacts
from ppdet.launch.network import Endpoint, LaunchError, Link, LinkClosedError, own_address, start_server, why
from ppdet.launch.workers import CERTAIN, Place, Reason, Workers

logger = logging.getLogger(__name__)

#: Seconds between looks at the processes of this node.
_POLL = 0.25
#: Seconds that a connection attempt may take.
_CONNECT = 5.0
#: Seconds between two attempts to reach the first node.
_RETRY = 0.5
#: Seconds that processes have to save and end, before they are killed.
_GRACE = 20.0
#: Seconds to wait for what the first node says about the end of this one.
_VERDICT = 12.0
#: Exit status after a second Ctrl-C.
_INTERRUPTED = 130
#: Seconds that the first node may take to decide, beyond its own wait for nodes.
_DECISION = 30.0


@dataclass(frozen=True)
class LaunchOptions:
    """What `run_node` and `run_alone` are told.

    Attributes:
        command: Arguments after ``ppdet``, of every process.
        processes: Processes of this node.
        log_folder: Where the output of every process goes.
        show: Takes what the first process of this node writes.
        nodes: How many nodes there are.
        wait: Seconds to wait for all of them.
    """

    command: Sequence[str]
    processes: int
    log_folder: Path
    show: Callable[[str], object]
    nodes: int = 1
    wait: float = 25.0


def run_alone(options: LaunchOptions) -> int:
    """Start the processes of a training on one machine; its exit status."""
    return asyncio.run(_alone(options))


def run_node(master: Endpoint, facts: NodeFacts, options: LaunchOptions) -> int:
    """Take part in a training on many machines.

    Args:
        master: Where the first node listens; the node that has this address is the first.
        facts: What this node would run; address and port are filled in here.
        options: As of `LaunchOptions`.

    Returns:
        The exit status: 0 if the training of all nodes is complete or was stopped by a signal.

    Raises:
        LaunchError: If the nodes do not come together, do not agree, or one of them fails.
    """
    return asyncio.run(_join(master, facts, options))


async def _alone(options: LaunchOptions) -> int:
    workers = Workers(options.command, options.processes, Place(), options.log_folder)
    try:
        return await _Node(workers, None, 0, options.show).watch()
    finally:
        workers.close()


async def _join(master: Endpoint, facts: NodeFacts, options: LaunchOptions) -> int:
    address = own_address(master)
    coordinating = await _coordinate(master, options)
    link = await _reach(master, time.monotonic() + options.wait)
    probes = await start_server(_accept_probe, Endpoint(address, 0))
    try:
        facts = replace(facts, address=address, probe_port=int(probes.sockets[0].getsockname()[1]))
        link.send("hello", facts=facts.to_dict(), time=time.time())
        go = await _decision(link, facts, options.wait + _DECISION)
    finally:
        probes.close()
    place = Place(int(str(go["rank"])), options.nodes, str(go["master"]), address)
    logger.info("this is node %d of %d, %s", place.rank, place.nodes, facts)
    workers = Workers(options.command, options.processes, place, options.log_folder)
    try:
        return await _Node(workers, link, place.rank, options.show).watch()
    finally:
        workers.close()
        await link.close()
        if coordinating is not None:
            await coordinating


async def _coordinate(master: Endpoint, options: LaunchOptions) -> Optional[asyncio.Future[None]]:
    """The first node's part, if this is the first node: only there can a program listen on the address."""
    coordinator = Coordinator(master, options.nodes, options.wait)
    try:
        await coordinator.start()
    except OSError:
        return None
    return asyncio.ensure_future(coordinator.run())


async def _accept_probe(link: Link) -> None:
    await link.close()


async def _reach(master: Endpoint, deadline: float) -> Link:
    """A connection to the first node, which may start later than this one.

    Raises:
        LaunchError: If it is not there by the deadline; says how the last attempt ended.
    """
    told = False
    while True:
        try:
            return await Link.connect(master, timeout=_CONNECT)
        except OSError as error:
            reason = why(error)
            if time.monotonic() > deadline:
                raise LaunchError(
                    f"--master {master}: cannot be reached: {reason}. Is `ppdet launch` running on that "
                    "machine, with the same --master? Does a firewall block the port? --wait waits longer"
                ) from None
            if not told:
                logger.info("waiting for the first node at %s (%s)", master, reason)
                told = True
            await asyncio.sleep(_RETRY)


async def _decision(link: Link, facts: NodeFacts, timeout: float) -> dict[str, object]:
    """What the first node decides.

    Raises:
        LaunchError: If the nodes do not start; says all that is wrong.
    """
    while True:
        try:
            message = await link.receive(timeout=timeout)
        except LinkClosedError:
            raise LaunchError(
                "the first node ended before it decided; see what it says, and start all again"
            ) from None
        if message["kind"] == "peers":
            link.send("reached", unreached=await _unreached(message["peers"], facts))
        elif message["kind"] == "refused":
            problems = [str(problem) for problem in message["problems"]]
            raise LaunchError(
                f"{len(problems)} reason(s) not to start, found from {facts} and the others:\n  "
                + "\n  ".join(problems)
            )
        elif message["kind"] == "go":
            return message


async def _unreached(peers: Sequence[Sequence[object]], facts: NodeFacts) -> list[str]:
    """Nodes that this one cannot connect to, and why."""

    async def probe(address: str, port: int, name: str) -> Optional[str]:
        try:
            link = await Link.connect(Endpoint(address, port), timeout=_CONNECT)
        except OSError as error:
            return f"{name} at port {port}: {why(error)}"
        await link.close()
        return None

    others = [
        (str(a), int(str(p)), str(n)) for a, p, n in peers if (a, p) != (facts.address, facts.probe_port)
    ]
    results = await asyncio.gather(*(probe(*other) for other in others))
    return [text for text in results if text is not None]


class _Node:
    """Watches the processes of this node and the connection to the first one.

    Args:
        workers: Paddle's launcher, running.
        link: To the first node; None with one node.
        rank: Number of this node.
        show: As of `LaunchOptions`.
    """

    def __init__(
        self, workers: Workers, link: Optional[Link], rank: int, show: Callable[[str], object]
    ) -> None:
        self._workers = workers
        self._show = show
        self._link = link
        self._rank = rank
        self._heard = self._looked = time.monotonic()
        self._end: Optional[str] = None
        self._ended = asyncio.Event()
        self._saver = 1  # where the first node goes without a word
        self._signals = 0

    async def watch(self) -> int:
        """Until the processes have ended.

        Returns:
            Exit status.

        Raises:
            LaunchError: If they ended because something failed, here or on another node.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        listener = asyncio.ensure_future(self._listen())
        try:
            while self._workers.status is None and self._end is None:
                await asyncio.sleep(_POLL)
                self._show(self._workers.new_output())
                self._look()
            if self._workers.status is None:
                await self._end_workers()
            self._show(self._workers.new_output())
            return await self._report()
        finally:
            listener.cancel()

    def _on_signal(self) -> None:
        self._signals += 1
        if self._signals == 1:
            logger.warning("stopping after this step, on every node; once more ends this one at once")
            self._workers.ask_to_stop()
        else:
            self._workers.kill()

    async def _listen(self) -> None:
        """What the first node says, for as long as it lives."""
        try:
            while self._link is not None:
                message = await self._link.receive()
                self._heard = time.monotonic()
                if message["kind"] == "end":
                    self._saver = int(message["saver"])
                    self._end_with(str(message["reason"]))
        except LinkClosedError:
            self._end_with("the first node has gone: it was switched off, or its launcher was killed")

    def _end_with(self, reason: str) -> None:
        if self._end is None:
            self._end = reason
        self._ended.set()

    def _look(self) -> None:
        """Every other second: say that this node lives, and see whether the first one and the workers do."""
        now = time.monotonic()
        if now - self._looked < BEAT:
            return
        self._looked = now
        stopped = self._workers.stopped_process()
        if stopped is not None:
            self._tell(Reason(stopped, CERTAIN))
            self._end_with(f"on this node, {stopped}")
        if self._link is not None:
            self._link.send("beat")
            if now - self._heard > SILENCE:
                self._end_with(
                    f"no sign of the first node for {SILENCE:.0f} s: it hangs, or the network is cut"
                )

    async def _end_workers(self) -> None:
        self._workers.end(str(self._end), saves=self._saver == self._rank)
        deadline = time.monotonic() + _GRACE
        while self._workers.status is None and time.monotonic() < deadline:
            await asyncio.sleep(_POLL)
        if self._workers.status is None:
            logger.warning("its processes did not end within %.0f s and were killed", _GRACE)
            self._workers.kill()

    async def _report(self) -> int:
        """Tell the first node how this one ended, and the user why."""
        # After a signal the launcher's status says nothing: it has ended its processes.
        if self._end is None and (self._signals == 1 or self._workers.status == 0):
            self._tell(None)
            return 0
        if self._signals > 1:
            self._tell(Reason("was stopped at once by its user", CERTAIN))
            return _INTERRUPTED
        if self._end is None:
            reason = self._workers.reason()
            self._tell(reason)
            if self._link is None:
                raise LaunchError(f"the training {reason.text}")
            # Perhaps another node failed first, which the first node knows.
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._ended.wait(), _VERDICT)
            self._end_with(reason.text)
        raise LaunchError(f"the training has ended on every node: {self._end}")

    def _tell(self, reason: Optional[Reason]) -> None:
        if self._link is None:
            return
        if reason is None:
            self._link.send("ended", status=0)
        else:
            self._link.send("ended", status=1, reason=reason.text, certainty=reason.certainty)
