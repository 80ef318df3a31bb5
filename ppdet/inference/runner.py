"""Images in, detections out: decoding, preparation, the network and merging, in a stream of bounded length.

Files are read and prepared by threads ahead of the network; OpenCV and NumPy leave Python's lock for it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, NamedTuple, Optional, TypeVar

import numpy as np

from ppdet.data.loader import batch_of
from ppdet.data.readers import Reader
from ppdet.data.transforms.decode import Decode
from ppdet.data.transforms.resize import Resize, resize
from ppdet.inference.merging import merge
from ppdet.inference.predictors import Predictor
from ppdet.inference.views import View, Views, cut_view, views_of
from ppdet.structures import Batch, Detections, Sample
from ppdet.utils.errors import DataError

logger = logging.getLogger(__name__)

#: Threads that read and prepare. More do not help: the network uses the cores.
THREADS = 2

A = TypeVar("A")
B = TypeVar("B")


class Prediction(NamedTuple):
    """A decoded image with its detections.

    Attributes:
        sample: The image.
        detections: In pixels of the image.
    """

    sample: Sample
    detections: Detections


class Prepared(NamedTuple):
    """All views of one image, ready for the network.

    Attributes:
        sample: The image, decoded.
        views: The views.
        batches: Their inputs, in batches of the reader's size.
    """

    sample: Sample
    views: list[View]
    batches: list[Batch]


class _Input(NamedTuple):
    """A prepared view of an image, and whether it is the last one of the image."""

    owner: Sample
    view: View
    prepared: Sample
    last: bool


class ImageRunner:
    """Detects objects in images, in one view of each or several.

    Args:
        reader: Prepares images; its batch size is the number of views that the network runs at once.
        predictor: What runs the network.
        views: The views; None for those of the reader, which may have a `MultiscaleTestResize`.
        skip_corrupt: Skip images that cannot be read; None for the setting of the reader.

    Attributes:
        reader: Prepares images.
        predictor: Runs the network.
        views: The views of an image.
        skips_corrupt: Whether images that cannot be read are skipped.
        skipped: Number of skipped images.
    """

    def __init__(
        self,
        reader: Reader,
        predictor: Predictor,
        views: Optional[Views] = None,
        *,
        skip_corrupt: Optional[bool] = None,
    ) -> None:
        self.skips_corrupt = reader.skips_corrupt if skip_corrupt is None else skip_corrupt
        self.views = views_of(reader) if views is None else views
        self.skipped = 0
        self.reader = reader
        self.predictor = predictor
        # Preparation draws nothing; transforms want a generator nevertheless.
        self._rng = np.random.default_rng(0)
        samples, self._batch_steps, self._finish = reader.parts
        self._rest = [step for step in samples if not isinstance(step, Decode)]
        self._decode = [step for step in samples if isinstance(step, Decode)]

    def stream(self, samples: Iterable[Sample]) -> Iterator[Prediction]:
        """Detections of images one after the other, with few of them in memory at a time.

        Args:
            samples: Files or pixels; read from the iterable as they are needed.

        Raises:
            DataError: If an image cannot be read and the reader does not skip those.
        """
        with ThreadPoolExecutor(THREADS) as pool:
            ahead = 2 * max(THREADS, self.reader.batch_size)
            inputs = _ahead(
                pool, self._prepare, self._view_inputs(_ahead(pool, self._read, samples, ahead)), ahead
            )
            detections: list[Detections] = []
            views: list[View] = []
            for some in _grouped(inputs, self.reader.batch_size):
                batch = self._batch([one.prepared for one in some])
                for one, result in zip(some, self.predictor(batch)):
                    detections.append(result)
                    views.append(one.view)
                    if one.last:
                        yield Prediction(one.owner, self.merged(one.owner, detections, views))
                        detections, views = [], []

    def decode(self, sample: Sample) -> Sample:
        """The first stage of a single image: reading its file."""
        for step in self._decode:
            sample = step(sample, self._rng)
        return sample

    def prepare(self, sample: Sample) -> Prepared:
        """The second stage: batches of all views of a decoded image."""
        views, prepared = self.inputs(sample)
        batches = [self._batch(some) for some in _grouped(prepared, self.reader.batch_size)]
        return Prepared(sample, views, batches)

    def inputs(self, sample: Sample) -> tuple[list[View], list[Sample]]:
        """The views of a decoded image, and what each is once it is prepared, for `detect` and `merged`."""
        views = self.views.of(*sample.original_size)
        return views, [self._prepare((sample, view, False)).prepared for view in views]

    def detect(self, inputs: list[Sample]) -> list[Detections]:
        """Detections of prepared views, of one image or several, in one batch."""
        return self.predictor(self._batch(inputs))

    def forward(self, work: Prepared) -> Any:
        """The third stage: the network, once per batch."""
        return work, [self.predictor.run(batch) for batch in work.batches]

    def finish(self, work: Any) -> list[Detections]:
        """The last stage: unpadding, masks, merging; the detections of the one image."""
        prepared, raws = work
        detections = [
            one for batch, raw in zip(prepared.batches, raws) for one in self.predictor.finish(batch, raw)
        ]
        return [self.merged(prepared.sample, detections, prepared.views)]

    def _read(self, sample: Sample) -> Optional[Sample]:
        try:
            return self.decode(sample)
        except DataError as error:
            if not self.skips_corrupt:
                raise
            self.skipped += 1
            logger.warning("skipped (%d so far): %s", self.skipped, error)
            return None

    def _view_inputs(self, samples: Iterable[Optional[Sample]]) -> Iterator[tuple[Sample, View, bool]]:
        for sample in samples:
            if sample is not None:
                views = self.views.of(*sample.original_size)
                for index, view in enumerate(views):
                    yield sample, view, index == len(views) - 1

    def _prepare(self, task: tuple[Sample, View, bool]) -> _Input:
        sample, view, last = task
        prepared = cut_view(sample, view)
        for step in self._rest:
            if view.size is not None and isinstance(step, Resize):
                prepared = resize(prepared, view.size)
            else:
                prepared = step(prepared, self._rng)
        return _Input(sample, view, prepared, last)

    def _batch(self, samples: list[Sample]) -> Batch:
        return batch_of(samples, self._batch_steps, self._rng, self._finish)

    def merged(self, sample: Sample, detections: list[Detections], views: list[View]) -> Detections:
        """The detections of an image, from those of its views."""
        return merge(detections, views, self.views, image_id=sample.image_id, size=sample.original_size)


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[A], B], items: Iterable[A], depth: int
) -> Iterator[B]:
    """Results in the order of the items, with at most `depth` of them under way."""
    waiting: deque[Future[B]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _grouped(items: Iterable[A], count: int) -> Iterator[list[A]]:
    group: list[A] = []
    for item in items:
        group.append(item)
        if len(group) == count:
            yield group
            group = []
    if group:
        yield group
