"""Protects micro-batches: who shares one, how long an image waits, what happens to cancelled ones."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable
from typing import Any, Callable

import numpy as np
import pytest

pytest.importorskip("prometheus_client", reason="the service needs pip install 'ppdet[serve]'")

from ppdet.serve.batcher import Batcher
from ppdet.serve.limits import ServeLimits
from ppdet.serve.metrics import Metrics
from ppdet.structures import Detections, Sample


class Network:
    """Returns the number of each sample as its only score, once the gate is open."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, samples: list[Sample]) -> list[Detections]:
        assert self.gate.wait(10)
        self.batches.append([one.image_id for one in samples])
        return [
            Detections(0, np.zeros((1, 4), np.float32), np.array([one.image_id], np.float32), np.array([0]))
            for one in samples
        ]


def sample(number: int, side: int = 32) -> Sample:
    return Sample(number, path="", image=np.zeros((side, side, 3), np.uint8))


def run(work: Callable[[Batcher, Network], Awaitable[Any]], **limits: Any) -> Any:
    """Do some work with a batcher that is stopped at the end."""

    async def whole() -> Any:
        network = Network()
        batcher = Batcher(network, lambda one: one.image.shape, ServeLimits(**limits), Metrics())
        batcher.start()
        try:
            return await asyncio.wait_for(work(batcher, network), 10)
        finally:
            network.gate.set()
            await batcher.stop()

    return asyncio.run(whole())


def test_an_image_that_is_alone_does_not_wait() -> None:
    async def work(batcher: Batcher, network: Network) -> float:
        return (await batcher.put(sample(1))).queue_seconds

    assert run(work, delay=5.0) < 2.0


def test_an_image_waits_for_one_that_is_being_decoded_and_not_longer_than_the_delay() -> None:
    async def together(batcher: Batcher, network: Network) -> list[list[int]]:
        with batcher.announced():
            first = batcher.put(sample(1))
            await asyncio.sleep(0.05)
            assert not first.done()
            second = batcher.put(sample(2))
        await asyncio.gather(first, second)
        return network.batches

    assert run(together, delay=5.0) == [[1, 2]]

    async def alone(batcher: Batcher, network: Network) -> tuple[list[list[int]], float]:
        with batcher.announced():  # one that never comes
            answer = await batcher.put(sample(1))
        return network.batches, answer.queue_seconds

    batches, waited = run(alone, delay=0.1)
    assert batches == [[1]] and waited >= 0.1


def test_a_failed_image_ends_the_wait_for_it() -> None:
    async def work(batcher: Batcher, network: Network) -> float:
        with batcher.announced():
            first = batcher.put(sample(1))
            await asyncio.sleep(0.02)
        return (await first).queue_seconds

    assert run(work, delay=5.0) < 2.0


def test_batches_are_of_one_size_full_and_in_order() -> None:
    async def work(batcher: Batcher, network: Network) -> tuple[list[list[int]], list[float]]:
        network.gate.clear()
        answers = [batcher.put(sample(0))]
        await asyncio.sleep(0.05)  # it runs alone; the others meet behind it
        answers += [batcher.put(sample(i, 64 if i % 3 == 0 else 32)) for i in range(1, 10)]
        network.gate.set()
        found = await asyncio.gather(*answers)
        return network.batches, [float(one.detections.scores[0]) for one in found]

    batches, scores = run(work, batch_size=4)
    assert batches == [[0], [1, 2, 4, 5], [3, 6, 9], [7, 8]]
    assert scores == list(range(10)), "each request has its own answer"


def test_cancelled_requests_are_not_run() -> None:
    async def work(batcher: Batcher, network: Network) -> list[list[int]]:
        network.gate.clear()
        answers = [batcher.put(sample(0))]
        await asyncio.sleep(0.05)
        answers += [batcher.put(sample(i)) for i in range(1, 5)]
        for one in answers[:3]:
            one.cancel()
        network.gate.set()
        await asyncio.gather(*answers[3:])
        return network.batches

    assert run(work, batch_size=8) == [[0], [3, 4]]


def test_stopping_cancels_what_waits() -> None:
    async def whole() -> None:
        network = Network()
        batcher = Batcher(network, lambda one: 0, ServeLimits(), Metrics())
        batcher.start()
        network.gate.clear()
        answers = [batcher.put(sample(i)) for i in range(2)]
        await asyncio.sleep(0.05)
        threading.Timer(0.05, network.gate.set).start()
        before = time.monotonic()
        await batcher.stop()
        assert time.monotonic() - before < 5
        assert all(one.cancelled() for one in answers)

    asyncio.run(whole())
