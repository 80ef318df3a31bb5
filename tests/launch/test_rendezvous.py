"""Protects the meeting of nodes: who is let in, what is compared, what each is told, without any training."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from dataclasses import replace
from typing import Any, Optional

import pytest

from ppdet.launch import coordinator as coordinator_module
from ppdet.launch import network as network_module
from ppdet.launch import node as node_module
from ppdet.launch.coordinator import Coordinator
from ppdet.launch.facts import NodeFacts, disagreements
from ppdet.launch.network import (
    Endpoint,
    LaunchError,
    Link,
    LinkClosedError,
    free_port,
    interfaces,
    own_address,
    parse_master,
)

FACTS = NodeFacts(
    name="a",
    address="127.0.0.1",
    probe_port=1,
    processes=2,
    versions={"ppdet": "1.0", "paddlepaddle": "3.3.1", "Python": "3.11"},
    config="epoch: 2\nTrainDataset:\n  dataset_dir: here\n",
    data={"TrainDataset.anno_path": "12ab", "TrainDataset.dataset_dir": "1"},
    command="train -c x.yml",
)


def test_equal_nodes_agree_wherever_their_data_is() -> None:
    other = replace(
        FACTS,
        address="127.0.0.2",
        config=FACTS.config.replace("here", "there"),
        data={**FACTS.data, "TrainDataset.dataset_dir": "2"},
        processes=8,
    )
    assert disagreements([FACTS, other], [0.0, 9.0]) == []


@pytest.mark.parametrize(
    ("change", "offset", "expected"),
    [
        (
            {},
            3600.0,
            "clock: that of 127.0.0.2 (a) is 3600 s ahead of that of 127.0.0.1 (a); set it (chrony, NTP)",
        ),
        (
            {},
            -11.0,
            "clock: that of 127.0.0.2 (a) is 11 s behind that of 127.0.0.1 (a); set it (chrony, NTP)",
        ),
        (
            {"versions": {**FACTS.versions, "paddlepaddle": "3.2.2"}},
            0.0,
            "version: paddlepaddle is 3.2.2 on 127.0.0.2 (a), 3.3.1 on 127.0.0.1 (a); install the same",
        ),
        (
            {"config": FACTS.config + "seed: 3\n"},
            0.0,
            "config: `seed: 3` on 127.0.0.2 (a), `nothing` on 127.0.0.1 (a); give both the same file, "
            "-o included",
        ),
        (
            {"data": {}},
            0.0,
            "data: TrainDataset.anno_path is absent on 127.0.0.2 (a), 12ab on 127.0.0.1 (a); copy the "
            "same files "
            "there",
        ),
        (
            {"command": "eval"},
            0.0,
            "command: 127.0.0.2 (a) would run `eval`, 127.0.0.1 (a) `train -c x.yml`; give the same",
        ),
    ],
)
def test_every_difference_is_told(change: dict[str, Any], offset: float, expected: str) -> None:
    other = replace(FACTS, address="127.0.0.2", **change)
    assert disagreements([FACTS, other], [0.0, offset]) == [expected]


@pytest.mark.parametrize(
    "values", [{}, {"name": 3}, {"name": "a"}, {**FACTS.to_dict(), "more": 1}, {**FACTS.to_dict(), "data": 3}]
)
def test_what_is_no_facts_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not understood"):
        NodeFacts.from_dict(values)
    assert NodeFacts.from_dict(json.loads(json.dumps(FACTS.to_dict()))) == FACTS


def test_master_is_an_address_and_a_port() -> None:
    assert parse_master("127.0.0.1:80") == Endpoint("127.0.0.1", 80)
    assert str(parse_master("localhost")) == "127.0.0.1:29400"
    for text in ("", ":80", "10.0.0.1:", "10.0.0.1:x", "10.0.0.1:70000", "::1", "fe80::1:80"):
        with pytest.raises(LaunchError, match="expected IP:PORT"):
            parse_master(text)
    with pytest.raises(LaunchError, match="no address is known for 'no-such-host'"):
        parse_master("no-such-host")


def test_a_name_may_become_known_later(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([OSError("not yet"), "10.0.0.1"])

    def look_up(_: str) -> str:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(socket, "gethostbyname", look_up)
    monkeypatch.setattr(network_module, "_LOOK_AGAIN", 0.0)
    assert parse_master("ppdet-0.ppdet:80", wait=30.0) == Endpoint("10.0.0.1", 80)


def test_a_name_that_means_this_machine_alone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostbyname", lambda _: "127.0.1.1")
    with pytest.raises(
        LaunchError, match=r"node-a is 127\.0\.1\.1 on this machine.*/etc/hosts.*Give an address"
    ):
        parse_master("node-a:29400")


def test_own_address_is_that_of_the_route() -> None:
    assert own_address(Endpoint("127.0.0.1", 1)) == "127.0.0.1"
    assert "127.0.0.1" in interfaces().values() or not interfaces()


class Node:
    """A node that speaks the protocol and runs nothing."""

    def __init__(
        self, facts: NodeFacts, *, unreached: Optional[list[str]] = None, clock: float = 0.0
    ) -> None:
        self.facts, self.unreached, self.clock = facts, unreached or [], clock
        self.said: list[dict[str, Any]] = []
        self.link: Optional[Link] = None

    async def join(self, master: Endpoint) -> dict[str, Any]:
        """Join; the decision."""
        self.link = await Link.connect(master, timeout=5)
        self.link.send("hello", facts=self.facts.to_dict(), time=time.time() + self.clock)
        while True:
            message = await self.next()
            if message["kind"] == "peers":
                self.link.send("reached", unreached=self.unreached)
            else:
                return message

    async def next(self, *, timeout: float = 20) -> dict[str, Any]:
        assert self.link is not None
        self.said.append(await self.link.receive(timeout=timeout))
        return self.said[-1]

    async def until(self, kind: str) -> dict[str, Any]:
        while (await self.next())["kind"] != kind:
            pass
        return self.said[-1]


def nodes(count: int) -> list[Node]:
    """The first has the master's address; the others come in another order than that of their addresses."""
    return [Node(replace(FACTS, address=f"127.0.0.{i}", name=f"n{i}")) for i in (1, *range(count, 1, -1))]


async def started(count: int, wait: float = 5.0) -> tuple[Endpoint, asyncio.Future[None]]:
    master = Endpoint("127.0.0.1", free_port("127.0.0.1"))
    coordinator = Coordinator(master, count, wait)
    await coordinator.start()
    return master, asyncio.ensure_future(coordinator.run())


def test_64_nodes_are_numbered_by_address_and_told_the_same_master() -> None:
    async def meet() -> None:
        master, running = await started(64, wait=20)
        all_nodes = nodes(64)
        decisions = await asyncio.gather(*(node.join(master) for node in all_nodes))
        assert {decision["kind"] for decision in decisions} == {"go"}
        assert len({decision["master"] for decision in decisions}) == 1
        ranks = {node.facts.address: decision["rank"] for node, decision in zip(all_nodes, decisions)}
        assert ranks == {f"127.0.0.{i}": i - 1 for i in range(1, 65)}
        for node in all_nodes:
            assert node.link is not None
            node.link.send("ended", status=0)
        await asyncio.wait_for(running, 10)
        # What the first node sends does not grow with the nodes, but for the list of their addresses, once.
        texts = [len(json.dumps(m)) for m in all_nodes[5].said if m["kind"] != "peers"]
        assert max(texts) < 200
        assert len(json.dumps(next(m for m in all_nodes[5].said if m["kind"] == "peers"))) < 64 * 60

    asyncio.run(meet())


def test_missing_nodes_are_told_to_those_that_are_there() -> None:
    async def meet() -> dict[str, Any]:
        master, running = await started(3, wait=0.5)
        decision = await nodes(3)[0].join(master)
        await running
        return decision

    decision = asyncio.run(meet())
    assert decision["kind"] == "refused"
    (problem,) = decision["problems"]
    assert "1 of 3 have joined within 0 s: 127.0.0.1 (n1). Start the same command on the others" in problem


def test_nodes_that_cannot_reach_each_other_do_not_start() -> None:
    async def meet() -> list[dict[str, Any]]:
        master, running = await started(2)
        pair = nodes(2)
        pair[1].unreached = ["127.0.0.1 (n1) at port 4000: Connection refused"]
        decisions = list(await asyncio.gather(*(node.join(master) for node in pair)))
        await running
        return decisions

    for decision in asyncio.run(meet()):
        assert decision["problems"] == [
            "network: 127.0.0.2 (n2) cannot reach 127.0.0.1 (n1) at port 4000: Connection refused; "
            "open the ports "
            "above 1024 between the nodes"
        ]


def test_strangers_and_one_too_many_disturb_nothing() -> None:
    async def meet() -> None:
        master, running = await started(2)
        for junk in (b"", b"GET / HTTP/1.1\r\n\r\n", b"{}\n", b'{"kind": "hello"}\n', b"[1]\n", b"\xff\n"):
            reader, writer = await asyncio.open_connection(master.host, master.port)
            writer.write(junk)
            if not junk:
                writer.close()
            assert junk == b"" or await asyncio.wait_for(reader.read(), 5) == b""
        pair = nodes(2)
        decisions = await asyncio.gather(*(node.join(master) for node in pair))
        assert [decision["kind"] for decision in decisions] == ["go", "go"]
        late = await Node(replace(FACTS, address="127.0.0.9")).join(master)
        assert "comes too late: all 2 nodes are there; is --nnodes right?" in late["problems"][0]
        for node in pair:
            assert node.link is not None
            node.link.send("ended", status=0)
        await asyncio.wait_for(running, 10)

    asyncio.run(meet())


def test_the_first_reason_is_told_and_not_what_follows_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator_module, "BEAT", 0.05)

    async def meet() -> None:
        master, running = await started(3)
        three = nodes(3)
        await asyncio.gather(*(node.join(master) for node in three))
        for node, reason, certainty in (
            (three[0], "failed: because another process failed", 0),
            (three[2], "failed: no room", 2),
        ):
            assert node.link is not None
            node.link.send("ended", status=1, reason=reason, certainty=certainty)
        end = await three[1].until("end")
        assert end["reason"] == "127.0.0.2 (n2) failed: no room"
        assert end["saver"] == 0
        await asyncio.wait_for(running, 10)

    asyncio.run(meet())


def test_a_silent_node_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator_module, "BEAT", 0.05)
    monkeypatch.setattr(coordinator_module, "SILENCE", 0.5)

    async def meet() -> dict[str, Any]:
        master, running = await started(2)
        pair = nodes(2)
        await asyncio.gather(*(node.join(master) for node in pair))

        async def live() -> None:
            while True:
                assert pair[1].link is not None
                pair[1].link.send("beat")
                await asyncio.sleep(0.1)

        living = asyncio.ensure_future(live())
        end = await pair[1].until("end")
        living.cancel()
        await asyncio.wait_for(running, 10)
        return end

    end = asyncio.run(meet())
    assert end["reason"].startswith("127.0.0.1 (n1) has been silent for ")
    assert end["saver"] == 1


def test_a_node_says_that_the_first_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    master = Endpoint("127.0.0.1", free_port("127.0.0.1"))
    with (
        caplog.at_level(logging.INFO),
        pytest.raises(LaunchError, match=r"cannot be reached: Connection refused"),
    ):
        asyncio.run(node_module._reach(master, time.monotonic() + 0.2))
    assert f"waiting for the first node at {master} (Connection refused)" in caplog.text


def test_links_refuse_what_is_no_message() -> None:
    async def meet() -> None:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"hello\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(speak, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        link = await Link.connect(Endpoint("127.0.0.1", port), timeout=5)
        with pytest.raises(LinkClosedError):
            await link.receive(timeout=5)
        await link.close()
        server.close()

    asyncio.run(meet())
