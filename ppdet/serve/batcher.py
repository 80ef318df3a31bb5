"""Groups images of different requests into batches of the network, within a bound on latency.

A batch starts when it is full, when no other image is being decoded, or when its first image has waited for
the longest delay; so an image that comes alone does not wait at all. Only inputs of one padded size share a
batch, so that an image's detections do not depend on who else sends one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Callable, NamedTuple, Optional

from ppdet.serve.limits import ServeLimits
from ppdet.serve.metrics import Metrics
from ppdet.structures import Detections, Sample

#: Runs the network on prepared inputs of one size.
Detect = Callable[[list[Sample]], list[Detections]]


class Answer(NamedTuple):
    """Detections of an input.

    Attributes:
        detections: In pixels of the view.
        queue_seconds: How long it waited for its batch.
        network_seconds: How long its batch took.
    """

    detections: Detections
    queue_seconds: float
    network_seconds: float


class _Waiting(NamedTuple):
    """An input that waits for a batch."""

    key: Hashable
    sample: Sample
    since: float
    answer: asyncio.Future[Answer]


class Batcher:
    """A queue in front of a network; belongs to one event loop, and runs the network in a thread of its own.

    Args:
        detect: Runs the network.
        key_of: Inputs of equal keys may share a batch.
        limits: Size of a batch, and the longest delay.
        metrics: Counts batches.
    """

    def __init__(
        self, detect: Detect, key_of: Callable[[Sample], Hashable], limits: ServeLimits, metrics: Metrics
    ) -> None:
        self._detect, self._key_of, self._limits, self._metrics = detect, key_of, limits, metrics
        self._queue: list[_Waiting] = []
        self._coming = 0
        self._changed = asyncio.Event()
        self._network = ThreadPoolExecutor(1, "network")
        self._task: Optional[asyncio.Task[None]] = None

    def start(self) -> None:
        """Begin to take inputs."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End; inputs that still wait are cancelled."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        for one in self._queue:
            one.answer.cancel()
        self._network.shutdown()

    @contextmanager
    def announced(self) -> Iterator[None]:
        """While an input is on its way, others may wait for it."""
        self._coming += 1
        try:
            yield
        finally:
            self._coming -= 1
            self._changed.set()

    def put(self, sample: Sample) -> asyncio.Future[Answer]:
        """Queue an input; cancel the future to take it out again."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(self._key_of(sample), sample, time.perf_counter(), answer))
        self._changed.set()
        return answer

    async def _run(self) -> None:
        while True:
            await self._next_input()
            batch = await self._batch()
            if batch:
                await self._answer(batch)

    async def _next_input(self) -> None:
        while not self._queue:
            self._changed.clear()
            await self._changed.wait()

    async def _batch(self) -> list[_Waiting]:
        """The longest waiting input with others of its size, once the batch is worth starting."""
        while True:
            self._queue = [one for one in self._queue if not one.answer.done()]
            if not self._queue:
                return []
            first = self._queue[0]
            batch = [one for one in self._queue if one.key == first.key][: self._limits.batch_size]
            left = first.since + self._limits.delay - time.perf_counter()
            if len(batch) == self._limits.batch_size or not self._coming or left <= 0:
                taken = {id(one) for one in batch}
                self._queue = [one for one in self._queue if id(one) not in taken]
                return batch
            self._changed.clear()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)

    async def _answer(self, batch: list[_Waiting]) -> None:
        start = time.perf_counter()
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._network, self._detect, [one.sample for one in batch])
        except Exception as error:  # whatever a runtime raises is the answer to these requests alone
            for one in batch:
                if not one.answer.done():
                    one.answer.set_exception(error)
            return
        except asyncio.CancelledError:
            for one in batch:
                one.answer.cancel()
            raise
        seconds = time.perf_counter() - start
        self._metrics.batch_images.observe(len(batch))
        self._metrics.network_seconds.observe(seconds)
        for one, detections in zip(batch, found):
            self._metrics.queue_seconds.observe(start - one.since)
            if not one.answer.done():
                one.answer.set_result(Answer(detections, start - one.since, seconds))
