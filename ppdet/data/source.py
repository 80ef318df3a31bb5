"""Loads one batch from its plan. This is what runs in a worker process; it must pickle and keep no state."""

from __future__ import annotations

import copy
import os
import signal
import threading
import time
import traceback
from collections.abc import Mapping, MutableSequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, Callable, Optional

import numpy as np

from ppdet.data.batching import collate
from ppdet.data.datasets.base import Dataset
from ppdet.data.finish import Parts
from ppdet.data.sampler import BatchPlan, batch_rng, sample_rng
from ppdet.structures import Sample
from ppdet.utils.errors import DataError

#: Unreadable files in a row that training replaces before it gives up.
_MOST_REPLACED = 10
#: Seconds that a worker goes on after SIGTERM.
GRACE_SECONDS = 20.0
#: Seconds between two looks of a worker at whether its main process is still there.
_LOOK_SECONDS = 2.0
#: What a worker that loads no image notes in place of the image's index.
IDLE = -1


class BatchSource:
    """Turns plans into arrays.

    Args:
        dataset: Where images come from.
        parts: Steps on each image, steps on the batch, and those that are left for `to_batch`.
        seed: Seed of all draws.
        with_masks: Collate masks.
        skip_corrupt: Do without files that cannot be read.
        replace_corrupt: And take another image in their place.
    """

    def __init__(
        self,
        *,
        dataset: Dataset,
        parts: Parts,
        seed: int,
        with_masks: bool,
        skip_corrupt: bool,
        replace_corrupt: bool,
    ) -> None:
        self._dataset = dataset
        self._sample_transforms, self._batch_transforms, self.finish = parts
        self.seed = seed
        self._with_masks = with_masks
        # Of all steps, whichever of them `with_parts` leaves: draws stay the same.
        self._joining = [step for step in (*parts.samples, *parts.batch) if step.needs_partners]
        self._skip_corrupt = skip_corrupt
        self._replace_corrupt = replace_corrupt

    @property
    def parts(self) -> Parts:
        """The steps by where they run."""
        return Parts(self._sample_transforms, self._batch_transforms, self.finish)

    def with_parts(self, parts: Parts) -> BatchSource:
        """The same source, draws included, with other steps."""
        other = copy.copy(self)
        other._sample_transforms, other._batch_transforms, other.finish = parts
        return other

    def path(self, index: int) -> str:
        """File of an image of the dataset."""
        return self._dataset[index].path

    def load(self, plan: BatchPlan, begin: Optional[Callable[[int], None]] = None) -> dict[str, Any]:
        """The batch of a plan as `collate` gives it, and the list ``skipped`` of errors that were passed
        over.

        No arrays if every image was passed over.

        Args:
            plan: The batch.
            begin: Called with the index of each image before anything is done for it.

        Raises:
            DataError: If a file cannot be read or does not fit.
            RuntimeError: If a transform fails; names the image.
        """
        skipped: list[str] = []
        samples = self.samples(plan, skipped, begin)
        if not samples:
            return {"skipped": skipped}
        return {**collate(samples, with_masks=self._with_masks, finish=self.finish), "skipped": skipped}

    def samples(
        self, plan: BatchPlan, skipped: list[str], begin: Optional[Callable[[int], None]] = None
    ) -> list[Sample]:
        """The images of a batch after all steps but the last ones on pixels; errors as of `load`.

        Args:
            plan: The batch.
            skipped: Receives the errors that were passed over.
            begin: As in `load`.
        """
        samples = []
        for position, index in zip(plan.positions, plan.images):
            if begin is not None:
                begin(index)
            sample = self._sample(index, plan.epoch, position, skipped)
            if sample is not None:
                samples.append(sample)
        rng = batch_rng(self.seed, plan.epoch, plan.index)
        try:
            for step in self._batch_transforms if samples else ():
                if step.runs_in(plan.epoch):
                    samples = step.run(samples, rng)
        except DataError:
            raise
        except Exception as error:
            paths = ", ".join(sample.path for sample in samples)
            raise RuntimeError(
                f"{type(error).__name__} in {type(step).__name__} on {paths}: {error}"
            ) from error
        return samples

    def _sample(self, index: int, epoch: int, position: int, skipped: list[str]) -> Optional[Sample]:
        rng = sample_rng(self.seed, epoch, position)
        for _ in range(_MOST_REPLACED):
            try:
                return self._transformed(index, epoch, rng)
            except DataError as error:
                if not self._skip_corrupt:
                    raise
                skipped.append(str(error))
            if not self._replace_corrupt:
                return None
            index = int(rng.integers(len(self._dataset)))
        raise DataError(f"{_MOST_REPLACED} images in a row cannot be read, last: {skipped[-1]}")

    def _transformed(self, index: int, epoch: int, rng: np.random.Generator) -> Sample:
        sample = self._dataset[index]
        count = sum(step.needs_partners for step in self._joining if step.runs_in(epoch))
        others = [int(rng.integers(len(self._dataset))) for _ in range(count)]
        sample = sample.replace(partners=tuple(self._dataset[other] for other in others))
        for transform in self._sample_transforms:
            try:
                if transform.runs_in(epoch):
                    sample = transform(sample, rng)
            except DataError:
                raise
            except Exception as error:
                raise RuntimeError(
                    f"{type(error).__name__} in {type(transform).__name__} on {sample.path} "
                    f"(image id {sample.image_id}): {error}"
                ) from error
        return sample


@dataclass(frozen=True)
class Enclosed:
    """Arrays that Paddle's loader does not look into: they travel with the message, not in shared memory.

    For each array in shared memory a loading process of Paddle 3.3 keeps a kilobyte for ever, and the system
    makes a file; that is worth it for images alone.
    """

    arrays: dict[str, np.ndarray]


def enclose(batch: Mapping[str, Any]) -> dict[str, Any]:
    """A batch whose arrays other than ``images`` are in one `Enclosed`."""
    small = {name: v for name, v in batch.items() if isinstance(v, np.ndarray) and name != "images"}
    return {**{name: v for name, v in batch.items() if name not in small}, "enclosed": Enclosed(small)}


def disclose(batch: Mapping[str, Any]) -> dict[str, Any]:
    """What `enclose` was given."""
    rest = {name: v for name, v in batch.items() if name != "enclosed"}
    return {**rest, **batch["enclosed"].arrays}


class WorkerSource:
    """A `BatchSource` as `paddle.io.DataLoader` wants it.

    Paddle raises a worker's exception in a thread of its own, and the caller sees that a queue was killed. So
    failures travel as data: ``failure`` is [whose fault, text].

    Args:
        source: Makes batches.
        length: Images in the dataset.
        notes: Memory shared with the main process: which image each worker is busy with, or `IDLE`, so that
            the image is known when a worker is gone.
    """

    def __init__(self, source: BatchSource, length: int, notes: MutableSequence[int]) -> None:
        self._source = source
        self._length = length
        self._notes = notes

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, plan: BatchPlan) -> dict[str, Any]:
        from paddle.io import get_worker_info

        key = [plan.epoch, plan.index]
        worker = get_worker_info().id
        try:
            batch = self._source.load(plan, lambda index: self._notes.__setitem__(worker, index))
            self._notes[worker] = IDLE
            if "images" in batch:
                return enclose({**batch, "key": key})
            return {**batch, "key": key, "nothing": np.zeros(1, np.float32)}
        except DataError as error:
            failure = ["user", str(error)]
        except Exception as error:
            failure = ["program", f"{error}\n{traceback.format_exc()}"]
        # Paddle's queue does not take a batch without an array.
        return {"failure": failure, "key": key, "nothing": np.zeros(1, np.float32)}


def only(items: list[Any]) -> Any:
    """The one item of a list: collation for a DataLoader whose items are whole batches."""
    return items[0]


def start_worker(worker_id: int) -> None:
    """One thread per worker: OpenCV's thread pool does not survive a fork. And no hurry to end.

    Ctrl-C reaches every process of a terminal. What it means is decided by the main process, which ends its
    workers (`Loader.close`); one that ends by itself can leave the queue it shares with others locked.
    """
    import cv2

    del worker_id
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGTERM, _end_later)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """A main process that is killed, or that crashes in a library, ends none of its workers."""
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))  # at once; Windows has no SIGKILL


def _end_later(number: int, frame: Optional[FrameType]) -> None:
    """Schedulers send SIGTERM to all processes of a job; training still needs this one for its last step."""
    del frame
    signal.signal(number, signal.SIG_DFL)  # a second one ends at once
    signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)  # and SIGALRM ends what nobody has ended by then
