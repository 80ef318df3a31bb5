"""From uploaded images to detections: decoding in threads, batches, merging of views."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Callable, NamedTuple, TypeVar

import numpy as np

from ppdet.data.transforms.base import pixels
from ppdet.data.transforms.pad import PadBatch
from ppdet.experiment.trained import TrainedDetector
from ppdet.inference.drawing import draw_detections
from ppdet.inference.runner import THREADS
from ppdet.inference.views import View
from ppdet.serve.batcher import Batcher
from ppdet.serve.images import Upload, check_header, decoded
from ppdet.serve.limits import ServeLimits
from ppdet.serve.metrics import Metrics
from ppdet.structures import Detections, Sample
from ppdet.utils.colours import class_colour

T = TypeVar("T")
#: About how many images a service sees: enough for `auto` to make a fast export.
_MANY = 1_000_000
#: (height, width) of the image that is run before the service says that it is ready.
_WARM_UP = (480, 640)


class Found(NamedTuple):
    """An image of a request, with its detections.

    Attributes:
        name: What the client calls it.
        size: (height, width) in pixels.
        detections: In its pixels, of at least the threshold.
        picture: ``[H, W, 3]`` uint8 RGB with the detections drawn; empty if that was not requested.
        seconds: Times by stage: decode (and preparation), queue, network.
    """

    name: str
    size: tuple[int, int]
    detections: Detections
    picture: np.ndarray
    seconds: dict[str, float]


class _Prepared(NamedTuple):
    """A decoded image and its views, ready for the network."""

    sample: Sample
    views: list[View]
    inputs: list[Sample]
    seconds: float


class DetectionService:
    """A detector that many requests share. Belongs to one event loop, between `start` and `stop`.

    One image is run at once, for warming up.

    Args:
        detector: From `load_detector`.
        limits: What it accepts.
        metrics: What it counts.

    Raises:
        UserError: If the detector has no class names, or its runtime cannot run it.
    """

    def __init__(self, detector: TrainedDetector, limits: ServeLimits, metrics: Metrics) -> None:
        detector.require_names()
        self.detector, self.limits, self.metrics = detector, limits, metrics
        self._runner = detector.runner(_MANY, skip_corrupt=False)
        pads = [step.pad_to_stride for step in self._runner.reader.find(PadBatch)]
        self._stride = max([1, *pads])
        # So that no client waits for what runtimes do at their first image, and faults end the program here.
        gray = np.full((*_WARM_UP, 3), 114, np.uint8)
        _, inputs = self._runner.inputs(self._runner.decode(Sample(0, path="warm-up", image=gray)))
        self._runner.detect(inputs)

    @property
    def runtime(self) -> str:
        """What runs the network."""
        return self._runner.predictor.runtime

    @property
    def classes(self) -> list[dict[str, object]]:
        """Label, name and colour, as ``#rrggbb``, of each class."""
        return [
            {"label": label, "name": name, "colour": "#%02x%02x%02x" % class_colour(label)}  # noqa: UP031
            for label, name in enumerate(self.detector.class_names)
        ]

    async def start(self) -> None:
        """Start the threads."""
        self._slots = asyncio.Semaphore(self.limits.decoded_images)
        self._threads = ThreadPoolExecutor(THREADS, "images")
        self._batcher = Batcher(self._runner.detect, self._size_of, self.limits, self.metrics)
        self._batcher.start()

    async def stop(self) -> None:
        """End the threads; images that still wait are cancelled."""
        await self._batcher.stop()
        self._threads.shutdown()

    async def detect(self, uploads: Sequence[Upload], *, threshold: float, draw: bool) -> list[Found]:
        """Detect objects in all images of a request.

        Args:
            uploads: The images.
            threshold: Lowest score that is returned and drawn.
            draw: Draw them.

        Raises:
            RefusalError: If an image is not accepted; all headers are read before the first is decoded.
        """
        for upload in uploads:
            await self._in_thread(check_header, upload, self.limits)
        found = await _all([self._one(upload, threshold, draw=draw) for upload in uploads])
        self.metrics.images.inc(len(found))
        return found

    async def _one(self, upload: Upload, threshold: float, *, draw: bool) -> Found:
        async with self._slots:
            with self._batcher.announced():
                prepared = await self._in_thread(self._prepare, upload, draw)
            answers = await _all([self._batcher.put(one) for one in prepared.inputs])
            sample, times = prepared.sample, {"decode": prepared.seconds}
            times["queue"] = sum(one.queue_seconds for one in answers)
            times["network"] = sum(one.network_seconds for one in answers)
            found, picture = await self._in_thread(
                self._finish, prepared, [one.detections for one in answers], threshold
            )
            return Found(upload.name, sample.original_size, found, picture, times)

    def _prepare(self, upload: Upload, keep_pixels: bool) -> _Prepared:
        start = time.perf_counter()
        sample = self._runner.decode(Sample(0, path=upload.name, image=decoded(upload, self.limits)))
        views, inputs = self._runner.inputs(sample)
        if not keep_pixels:
            sample = sample.replace(image=None)
        return _Prepared(sample, views, inputs, time.perf_counter() - start)

    def _finish(
        self, prepared: _Prepared, detections: list[Detections], threshold: float
    ) -> tuple[Detections, np.ndarray]:
        sample, names = prepared.sample, self.detector.class_names
        merged = self._runner.merged(sample, detections, prepared.views)
        found = replace(merged.filter(score=threshold), class_names=names)
        if sample.image is None:
            return found, np.zeros((0, 0, 3), np.uint8)
        return found, draw_detections(sample.image, found, names, threshold=threshold)

    def _size_of(self, sample: Sample) -> Hashable:
        """The shape of an input in the network, in strides; the channels do not tell inputs apart."""
        return tuple(-(-side // self._stride) for side in pixels(sample).shape)

    async def _in_thread(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)


async def _all(jobs: Sequence[Awaitable[T]]) -> list[T]:
    """Results of all; the first error cancels the others."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
