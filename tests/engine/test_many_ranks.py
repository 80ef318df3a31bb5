"""Protects what grows with the number of processes: nothing but lists with one entry for each."""

from __future__ import annotations

import logging
import pickle
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any, Callable

import numpy as np
import paddle.distributed as dist
import pytest

from ppdet.data.sampler import Sampler
from ppdet.engine import distributed
from ppdet.engine.evaluator import evaluate
from ppdet.structures import Detections

RANKS = 64
IMAGES = 1000


class FakeProcesses:
    """Threads that take themselves for processes; what they send each other is pickled and counted.

    Attributes:
        received: Bytes that each rank has received.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
        self._here = threading.local()
        self._barrier = threading.Barrier(count, timeout=60)
        self._boxes: list[bytes] = [b""] * count
        self._count = count
        self.received: Counter[int] = Counter()
        monkeypatch.setattr(dist, "get_rank", lambda: self._here.rank)
        monkeypatch.setattr(dist, "get_world_size", lambda: count)
        monkeypatch.setattr(dist, "all_gather_object", self._gather)
        monkeypatch.setattr(dist, "broadcast_object_list", self._broadcast)

    def _gather(self, lists: list[Any], value: Any) -> None:
        self._boxes[self._here.rank] = pickle.dumps(value)
        self._barrier.wait()
        lists += [pickle.loads(box) for box in self._boxes]
        self.received[self._here.rank] += sum(map(len, self._boxes))
        self._barrier.wait()

    def _broadcast(self, box: list[Any], src: int) -> None:
        if self._here.rank == src:
            self._boxes[0] = pickle.dumps(box[0])
        self._barrier.wait()
        box[0] = pickle.loads(self._boxes[0])
        self.received[self._here.rank] += len(self._boxes[0])
        self._barrier.wait()

    def run(self, task: Callable[[int], Any]) -> list[Any]:
        """The task's result in every process."""
        results: list[Any] = [None] * self._count

        def one(rank: int) -> None:
            self._here.rank = rank
            results[rank] = task(rank)

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(self._count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        return results


class Tally:
    """A metric that counts images and detections."""

    computed = 0

    def __init__(self) -> None:
        self.images: list[int] = []
        self.found = 0

    def reset(self) -> None:
        self.images, self.found = [], 0

    def update(self, detections: Any) -> None:
        for one in detections:
            self.images.append(one.image_id)
            self.found += len(one.scores)

    def compute(self) -> dict[str, dict[str, float]]:
        Tally.computed += 1
        return {"bbox": {"images": len(set(self.images)), "found": self.found}}


def detections_of(image: int) -> Detections:
    rng = np.random.default_rng(image)
    count = int(rng.integers(0, 100))
    boxes = rng.random((count, 4)).astype(np.float32)
    return Detections(image, boxes, rng.random(count).astype(np.float32), np.zeros(count, np.int64))


class Share:
    """The batches of one rank."""

    def __init__(self, rank: int, ranks: int) -> None:
        self._sampler = Sampler(IMAGES, 2, 0, False, False, False, rank, ranks)

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        return (plan.images for plan in self._sampler.batches(0))


def scores(rank: int, ranks: int) -> dict[str, dict[str, float]]:
    return evaluate(lambda images: [detections_of(i) for i in images], Share(rank, ranks), Tally())


def test_an_evaluation_sends_every_detection_once_to_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = scores(0, 1)
    everything = len(pickle.dumps([detections_of(i) for i in range(IMAGES)]))
    Tally.computed = 0
    processes = FakeProcesses(monkeypatch, RANKS)
    results = processes.run(lambda rank: scores(rank, RANKS))
    assert results == [alone] * RANKS
    assert alone["bbox"]["images"] == IMAGES
    assert Tally.computed == 1
    # A pickle of a part names its classes once more; that, and the scores, is all that the number costs.
    assert max(processes.received.values()) < everything + 400 * RANKS
    assert len(set(processes.received.values())) == 1


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_share_of_an_epoch_needs_no_other(shuffle: bool) -> None:
    samplers = [Sampler(IMAGES, 2, 3, shuffle, True, True, rank, RANKS) for rank in range(RANKS)]
    whole = Sampler(IMAGES, 2 * RANKS, 3, shuffle, True, True)
    assert {len(sampler) for sampler in samplers} == {len(whole)} == {7}
    for index, together in enumerate(whole.batches(5)):
        parts = [next(iter(sampler.batches(5, index))).images for sampler in samplers]
        assert tuple(image for part in parts for image in part) == together.images


def test_only_the_first_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("ppdet")
    before = logger.level
    processes = FakeProcesses(monkeypatch, 2)
    levels = []
    for wanted in (0, 1):

        def start(rank: int, wanted: int = wanted) -> None:
            if rank == wanted:
                logger.setLevel(logging.INFO)
                distributed.start()
                levels.append(logger.level)

        processes.run(start)
    logger.setLevel(before)
    assert levels == [logging.INFO, logging.WARNING]
