"""Loads batches in worker processes, in order; the batches are the same for any number of workers."""

from __future__ import annotations

import atexit
import contextlib
import gc
import logging
import multiprocessing
import os
import shutil
import signal
import threading
import weakref
from collections.abc import Iterator, MutableSequence, Sequence
from pathlib import Path
from typing import Any, Optional, cast

import numpy as np

from ppdet.data.batching import collate
from ppdet.data.finish import Finish
from ppdet.data.sampler import BatchPlan, Sampler
from ppdet.data.source import IDLE, BatchSource, WorkerSource, disclose, only, start_worker
from ppdet.data.transforms.base import Step
from ppdet.structures import Batch, Sample
from ppdet.utils.errors import DataError

logger = logging.getLogger(__name__)

#: Seconds without a batch after which loading counts as stuck. The slowest honest batch takes some ten.
STALL_SECONDS = 300.0
#: Seconds that a worker has to end by itself.
_JOIN_SECONDS = 5.0
#: Batches that each worker prepares ahead.
_PREFETCH = 2
#: Bytes of one large image in a batch: 3 channels, 1344 x 1344 pixels, float32.
_IMAGE_BYTES = 3 * 1344 * 1344 * 4
_SHARED_MEMORY = Path("/dev/shm")


class Loader:
    """An epoch of batches per iteration.

    Training goes through epochs without stopping its workers in between: they are given the next epoch's
    batches while the last ones of this epoch are consumed.

    Args:
        source: Makes batches.
        sampler: Plans them.
        num_workers: Worker processes; 0 loads in this process.
        endless: Prepare the next epoch before the current one ends.

    Attributes:
        skipped: Unreadable images skipped so far (`skip_corrupt`).
        stall_seconds: Seconds after which a missing batch is an error.
    """

    def __init__(self, source: BatchSource, sampler: Sampler, *, num_workers: int, endless: bool) -> None:
        if num_workers < 0:
            raise DataError(f"{num_workers} loading processes: use 0 or more (worker_num)")
        self._source = source
        self._sampler = sampler
        self._num_workers = num_workers
        self._endless = endless
        self._epoch = 0
        self._first = 0
        self._stream: Optional[_WorkerStream] = None
        self.skipped = 0
        self.stall_seconds = STALL_SECONDS

    def __len__(self) -> int:
        """Batches per epoch on this rank."""
        return len(self._sampler)

    @property
    def source(self) -> BatchSource:
        """What makes a batch of a plan."""
        return self._source

    @property
    def batch_size(self) -> int:
        """Images per batch on this rank."""
        return self._sampler.batch_size

    @property
    def num_images(self) -> int:
        """Images in the dataset."""
        return self._sampler.length

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """Choose the epoch of the next iteration, and the batch it starts at (to go on after a stop).

        Batch `first_batch` of a resumed run is the batch it would have been without the stop.
        """
        if epoch < 0 or not 0 <= first_batch <= len(self):
            raise ValueError(f"epoch {epoch}, batch {first_batch} of {len(self)}")
        self._epoch, self._first = epoch, first_batch

    def __iter__(self) -> Iterator[Batch]:
        epoch, first = self._epoch, self._first
        self._first = 0
        batches = self._load_here(epoch, first) if self._num_workers == 0 else self._load_there(epoch, first)
        for arrays in batches:
            for message in arrays.pop("skipped"):
                self.skipped += 1
                logger.warning("skipped (%d so far): %s", self.skipped, message)
            if "images" in arrays:
                yield to_batch(arrays, self._source.finish)

    def _load_here(self, epoch: int, first: int) -> Iterator[dict[str, Any]]:
        for plan in self._sampler.batches(epoch, first):
            yield self._source.load(plan)

    def _load_there(self, epoch: int, first: int) -> Iterator[dict[str, Any]]:
        if self._stream is None or self._stream.next_key != (epoch, first):
            self.close()
            self._stream = _WorkerStream(self, epoch, first)
        stream = self._stream
        try:
            for _ in range(first, len(self)):
                yield stream.next()
        except GeneratorExit:
            raise  # left early; the stream knows where it is and can be gone on with
        except BaseException:
            self.close()
            raise
        if not self._endless:
            self.close()

    def plans(self, epoch: int, first: int) -> Iterator[BatchPlan]:
        """Batches from a position on; without end if `endless`."""
        yield from self._sampler.batches(epoch, first)
        while self._endless:
            epoch += 1
            yield from self._sampler.batches(epoch)

    def close(self) -> None:
        """Stop the workers. The loader can be iterated again afterwards."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # a constructor that failed
            self.close()


class _Plans:
    """A batch sampler for Paddle's loader whose every batch is one plan."""

    def __init__(self, loader: Loader, epoch: int, first: int) -> None:
        self._loader, self._epoch, self._first = loader, epoch, first

    def __iter__(self) -> Iterator[list[BatchPlan]]:
        for plan in self._loader.plans(self._epoch, self._first):
            yield [plan]

    def __len__(self) -> int:
        return len(self._loader)


#: Streams whose workers share memory with this process. A training's goes on while an evaluation's ends.
_OPEN: weakref.WeakSet[_WorkerStream] = weakref.WeakSet()


class _WorkerStream:
    """Batches from worker processes, from one position on."""

    def __init__(self, loader: Loader, epoch: int, first: int) -> None:
        from paddle.io import DataLoader

        self._length = len(loader)
        self._patience = loader.stall_seconds
        self._position = (epoch, first)
        self._workers: list[Any] = []
        self._stalled = False
        self._source = loader._source
        self._notes = cast(
            "MutableSequence[int]", multiprocessing.RawArray("q", [IDLE] * loader._num_workers)
        )
        # The collector writes to each object it looks at, and processes would no longer share its memory.
        gc.freeze()
        _OPEN.add(self)
        # Paddle's annotations ask for its own base classes; it only iterates and indexes.
        with _own_child_signals():
            self._batches: Iterator[Any] = iter(
                DataLoader(
                    cast(Any, WorkerSource(loader._source, loader.num_images, self._notes)),
                    batch_sampler=cast(Any, _Plans(loader, epoch, first)),
                    collate_fn=cast(Any, only),
                    num_workers=loader._num_workers,
                    use_shared_memory=shared_memory_suffices(loader.batch_size, loader._num_workers),
                    prefetch_factor=_PREFETCH,
                    worker_init_fn=start_worker,
                )
            )
        self._workers = list(getattr(self._batches, "_workers", ()))
        # Registered after multiprocessing's own, so it runs before: that one waits for workers without end.
        atexit.register(self.close)

    @property
    def next_key(self) -> tuple[int, int]:
        """(epoch, batch) that comes next."""
        epoch, index = self._position
        return (epoch, index) if index < self._length else (epoch + 1, 0)

    def next(self) -> dict[str, Any]:
        """The next batch.

        Raises:
            DataError: If a file cannot be read, workers are gone, or no batch comes.
            RuntimeError: If a transform fails.
        """
        epoch, index = self.next_key
        watch = threading.Timer(self._patience, self._give_up)
        watch.daemon = True
        watch.start()
        try:
            batch: dict[str, Any] = next(self._batches)
        except (StopIteration, SystemError) as error:
            raise self._why_no_batch(epoch, index, error) from error
        finally:
            watch.cancel()
        if "failure" in batch:
            fault, text = batch["failure"]
            raise DataError(text) if fault == "user" else RuntimeError(text)
        if tuple(batch["key"]) != (epoch, index):
            raise RuntimeError(f"batch {batch['key']} came in place of {[epoch, index]}")
        self._position = (epoch, index + 1)
        return disclose(batch) if "enclosed" in batch else batch

    def _give_up(self) -> None:
        """Called after too long a wait: ending the workers ends the wait, which cannot be interrupted."""
        self._stalled = True
        logger.error("no batch for %.0f s; ending the loading processes", self._patience)
        for worker in self._workers:
            worker.kill()

    def _why_no_batch(self, epoch: int, index: int, error: BaseException) -> DataError:
        where = f"batch {index} of epoch {epoch}"
        if self._stalled:
            return DataError(
                f"{where}: no batch within {self._patience:.0f} s{self._busy_with(self._workers)}. Does the "
                "disk or network drive respond? worker_num: 0 loads in the main process and shows where it "
                "waits"
            )
        lost = [worker for worker in self._workers if worker.exitcode]
        codes = ", ".join(str(worker.exitcode) for worker in lost)
        return DataError(
            f"{where}: a loading process ended unexpectedly{self._busy_with(lost)} (exit status "
            f"{codes or 'unknown'}; -9 is mostly the system out of memory). Use fewer processes (worker_num) "
            f"or a smaller batch_size. {error}"
        )

    def _busy_with(self, workers: list[Any]) -> str:
        """The files that some workers were loading, as a part of a sentence."""
        images = (self._notes[self._workers.index(worker)] for worker in workers)
        paths = [self._source.path(image) for image in images if image != IDLE]
        return f" while loading {', '.join(paths)}" if paths else ""

    def close(self) -> None:
        """End the workers."""
        atexit.unregister(self.close)
        _OPEN.discard(self)
        if not _OPEN:
            gc.unfreeze()
        # Dropping the iterator is not enough: a thread of Paddle's holds on to it, and with it to the
        # workers.
        shutdown = getattr(self._batches, "_try_shutdown_all", None)
        self._batches = iter(())
        if shutdown is not None:
            shutdown(_JOIN_SECONDS)
        for worker in self._workers:
            if worker.is_alive():
                worker.kill()
                worker.join(_JOIN_SECONDS)


@contextlib.contextmanager
def _own_child_signals() -> Iterator[None]:
    """Keep the handler of SIGCHLD.

    Paddle's raises when a worker is gone, whatever the main process is doing just then. The loader sees that
    by itself within seconds.
    """
    number = getattr(signal, "SIGCHLD", None)
    before = None if number is None else signal.getsignal(number)
    yield
    if number is not None and signal.getsignal(number) is not before:
        signal.signal(number, before)


def shared_memory_suffices(batch_size: int, num_workers: int) -> bool:
    """Whether batches fit in shared memory. Containers often have 64 MB of it, and overrunning it kills."""
    if os.name != "posix" or not _SHARED_MEMORY.is_dir():
        return os.name != "posix"
    needed = batch_size * _IMAGE_BYTES * (_PREFETCH * num_workers + 1)
    free = shutil.disk_usage(_SHARED_MEMORY).free
    if free >= needed:
        return True
    logger.warning(
        "%s has %.0f MB free, up to %.0f MB may be needed: batches travel through pipes instead, which "
        "is slower (docker run --shm-size=8g)",
        _SHARED_MEMORY,
        free / 2**20,
        needed / 2**20,
    )
    return False


def to_batch(arrays: dict[str, Any], finish: Optional[Finish] = None) -> Batch:
    """A batch from the arrays or tensors that `collate` names, given the same `finish`."""
    if finish is not None:
        arrays = {**arrays, "images": finish(arrays["images"], arrays["content_sizes"])}
    return Batch.from_arrays(arrays)


def batch_of(
    samples: list[Sample], steps: Sequence[Step], rng: np.random.Generator, finish: Optional[Finish] = None
) -> Batch:
    """Run transforms on samples for inference and put them into one batch.

    Args:
        samples: Images of the batch.
        steps: Transforms still to be done.
        rng: For those that draw.
        finish: The last steps on pixels, where they run on the batch.
    """
    for step in steps:
        samples = step.run(samples, rng)
    return to_batch(collate(samples, with_masks=False, finish=finish), finish)
