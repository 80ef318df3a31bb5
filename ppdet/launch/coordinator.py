"""The first node's part: gathers all nodes, decides whether they start, and tells all why they end."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from dataclasses import dataclass, field
from typing import Optional

from ppdet.launch.facts import NodeFacts, disagreements
from ppdet.launch.network import Endpoint, Link, LinkClosedError, free_port, start_server
from ppdet.launch.workers import CERTAIN, ECHO

logger = logging.getLogger(__name__)

#: Seconds between signs of life, and of silence after which a node counts as lost.
BEAT, SILENCE = 2.0, 20.0
#: Seconds that a connection may take to say what it is.
_HELLO = 10.0
#: Seconds that nodes have to reach each other.
_PROBES = 12.0
#: Seconds to wait for a better reason than that the connection to another process is lost.
_BETTER_REASON = 8.0


@dataclass(frozen=True)
class Failure:
    """Why a node's processes have ended, or it is lost.

    Attributes:
        rank: The node.
        text: The reason, as a sentence about the node.
        certainty: Of the reason being the first one; see `ppdet.launch.workers.Reason`.
        time: When it was known, on this machine's monotonic clock.
    """

    rank: int
    text: str
    certainty: int
    time: float


@dataclass
class Member:
    """A node that has joined.

    Attributes:
        link: Its connection.
        facts: What it says of itself.
        offset: Seconds that its clock is ahead.
        rank: Its number, once all have joined.
        unreached: Nodes that it cannot reach and why; None until it has tried.
        heard: When it was last heard of, on this machine's monotonic clock.
        ended: Whether its processes have ended.
    """

    link: Link
    facts: NodeFacts
    offset: float
    rank: int = -1
    unreached: Optional[list[str]] = None
    heard: float = field(default_factory=time.monotonic)
    ended: bool = False


class Coordinator:
    """Knows all nodes.

    Args:
        endpoint: Where it listens: the address that the user gave as ``--master``.
        nodes: How many to wait for.
        wait: Seconds to wait for them.
    """

    def __init__(self, endpoint: Endpoint, nodes: int, wait: float) -> None:
        self._endpoint = endpoint
        self._nodes = nodes
        self._wait = wait
        self._members: list[Member] = []
        self._changed = asyncio.Event()
        self._server: Optional[asyncio.base_events.Server] = None
        self._failures: list[Failure] = []
        self._started = False

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: If the address is not this machine's, or something listens there already.
        """
        self._server = await start_server(self._serve, self._endpoint)

    async def run(self) -> None:
        """Gather, decide, watch, until all nodes have ended."""
        assert self._server is not None
        try:
            problems = await self._gather() or await self._try_network() or self._compare()
            if problems:
                self._tell_all("refused", problems=problems)
            else:
                self._go()
                await self._watch()
            for member in self._members:
                await member.link.close()
        finally:
            self._server.close()

    async def _serve(self, link: Link) -> None:
        """Everything that one node says."""
        try:
            hello = await link.receive(timeout=_HELLO)
            facts = NodeFacts.from_dict(hello.get("facts") or {})
            offset = float(hello.get("time", 0.0)) - time.time()
        except (LinkClosedError, ValueError, TypeError) as error:
            logger.debug("%s: no node of a training: %s", link.peer, error)
            await link.close()
            return
        if len(self._members) == self._nodes:
            problem = f"{facts} comes too late: all {self._nodes} nodes are there; is --nnodes right?"
            link.send("refused", problems=[problem])
            await link.close()
            return
        member = Member(link, facts, offset)
        self._members.append(member)
        logger.info("%d of %d nodes: %s, %d process(es)", len(self._members), self._nodes, *_who(member))
        self._changed.set()
        try:
            while True:
                message = await link.receive()
                member.heard = time.monotonic()
                self._take(member, message)
                self._changed.set()
        except LinkClosedError:
            if not self._started and member in self._members:
                self._members.remove(member)
            elif not member.ended:
                self._fail(member, "has gone: it was switched off, or its launcher was killed", CERTAIN)
            self._changed.set()

    def _take(self, member: Member, message: dict[str, object]) -> None:
        if message["kind"] == "reached":
            unreached = message.get("unreached")
            member.unreached = [str(text) for text in unreached] if isinstance(unreached, list) else []
        elif message["kind"] == "ended":
            member.ended = True
            if message.get("status") != 0:
                certainty = message.get("certainty")
                self._fail(
                    member, str(message.get("reason")), certainty if isinstance(certainty, int) else ECHO
                )

    def _fail(self, member: Member, text: str, certainty: int) -> None:
        member.ended = True
        self._failures.append(Failure(member.rank, f"{member.facts} {text}", certainty, time.monotonic()))

    async def _until(self, deadline: float) -> bool:
        """Wait for a message, or until the deadline; whether there is time left."""
        self._changed.clear()
        try:
            await asyncio.wait_for(self._changed.wait(), max(0.0, deadline - time.monotonic()))
        except asyncio.TimeoutError:
            return False
        return True

    async def _gather(self) -> list[str]:
        deadline = time.monotonic() + self._wait
        while len(self._members) < self._nodes:
            if not await self._until(deadline):
                there = ", ".join(str(member.facts) for member in self._members) or "none"
                return [
                    f"nodes: {len(self._members)} of {self._nodes} have joined within {self._wait:.0f} s: "
                    f"{there}. Start the same command on the others, let them through the firewall to port "
                    f"{self._endpoint.port} of {self._endpoint.host}, or wait longer (--wait)"
                ]
        # The first node is the one that the master's address belongs to; it keeps its number at a restart.
        self._members.sort(
            key=lambda m: (m.facts.address != self._endpoint.host, ipaddress.ip_address(m.facts.address))
        )
        for rank, member in enumerate(self._members):
            member.rank = rank
        self._started = True
        return []

    async def _try_network(self) -> list[str]:
        """Let every node connect to every other one: gradients do not travel by way of the first."""
        places = [[m.facts.address, m.facts.probe_port, str(m.facts)] for m in self._members]
        self._tell_all("peers", peers=places)
        deadline = time.monotonic() + _PROBES
        while any(m.unreached is None and not m.ended for m in self._members):
            if not await self._until(deadline):
                break
        silent = [f"network: {m.facts} did not answer" for m in self._members if m.unreached is None]
        return silent + [
            f"network: {m.facts} cannot reach {text}; open the ports above 1024 between the nodes"
            for m in self._members
            for text in m.unreached or ()
        ]

    def _compare(self) -> list[str]:
        return disagreements([m.facts for m in self._members], [m.offset for m in self._members])

    def _go(self) -> None:
        address = self._members[0].facts.address
        master = str(Endpoint(address, free_port(address)))
        now = time.monotonic()
        for member in self._members:
            member.heard = now
            member.link.send("go", rank=member.rank, master=master)
        total = sum(member.facts.processes for member in self._members)
        logger.info("all nodes agree; %d processes start", total)

    async def _watch(self) -> None:
        while not all(member.ended for member in self._members) or self._failures:
            await self._until(time.monotonic() + BEAT)
            for member in self._members:
                member.link.send("beat")
                silent = time.monotonic() - member.heard
                if not member.ended and silent > SILENCE:
                    reason = f"has been silent for {silent:.0f} s: it hangs, or the network to it is cut"
                    self._fail(member, reason, CERTAIN)
            failure = self._first_failure()
            if failure is not None:
                failed = {failure.rank for failure in self._failures if failure.certainty != ECHO}
                rest = [member.rank for member in self._members if member.rank not in failed]
                self._tell_all("end", reason=failure.text, saver=min(rest, default=0))
                return

    def _first_failure(self) -> Optional[Failure]:
        """The failure that led to the others; None if there is none, or a better reason may still come."""
        best = min(self._failures, key=lambda failure: (-failure.certainty, failure.time), default=None)
        if best is None or best.certainty == CERTAIN:
            return best
        waited = time.monotonic() - min(failure.time for failure in self._failures)
        return best if waited > _BETTER_REASON or all(m.ended for m in self._members) else None

    def _tell_all(self, kind: str, **content: object) -> None:
        for member in self._members:
            member.link.send(kind, **content)


def _who(member: Member) -> tuple[str, int]:
    return str(member.facts), member.facts.processes
