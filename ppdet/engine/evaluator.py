"""Scores a predictor on a loader, and measures its speed on single images."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, Optional, Protocol

import numpy as np
import paddle
from paddle import Tensor, nn

from ppdet.engine import distributed
from ppdet.engine.state_dicts import seed_step
from ppdet.structures import Detections
from ppdet.utils.cpu import usable_cores
from ppdet.utils.progress import progress

#: Images that are run before the clock starts.
WARM_UP = 5


class Metric(Protocol):
    """What evaluation needs of a metric."""

    def update(self, detections: Iterable[Detections]) -> None: ...

    def compute(self) -> dict[str, dict[str, float]]: ...

    def reset(self) -> None: ...


class Batches(Protocol):
    """What evaluation needs of a loader."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Any: ...


def evaluate(
    predict: Callable[[Any], Sequence[Detections]], loader: Batches, metric: Metric
) -> dict[str, dict[str, float]]:
    """Run a predictor over all batches of a loader and score its detections.

    With several processes each runs its share of the images. The first process scores the detections of all,
    each image once, and sends the numbers to the others.

    Args:
        predict: From a batch, or whatever the loader gives, to the detections of its images.
        loader: Every image once, over all processes together.
        metric: Emptied first.

    Returns:
        Numbers by task and name, the same in every process.
    """
    metric.reset()
    main = distributed.is_main()
    batches = progress(loader, total=len(loader), desc="evaluate", unit="batch", quiet=not main)
    if distributed.world_size() == 1:
        for batch in batches:
            metric.update(predict(batch))
        return metric.compute()
    metric.update(distributed.gather([one for batch in batches for one in predict(batch)]))
    return distributed.from_main(metric.compute() if main else {})


@paddle.no_grad()
def mean_losses(model: nn.Layer, loader: Batches, *, seed: int = 0) -> dict[str, dict[str, float]]:
    """Validation loss: the training losses on other images, with the model in evaluation mode.

    Args:
        model: Gives named losses for a batch.
        loader: Batches with targets.
        seed: Of the draws that losses make (sampled regions), so that two evaluations can be compared.

    Returns:
        ``{"loss": {term: mean over images, "loss": their sum}}``, over all processes.
    """
    training = model.training
    model.eval()
    sums: dict[str, Tensor] = {}
    images = 0
    for index, batch in enumerate(loader):
        seed_step(seed, index, distributed.rank())
        for name, value in model(batch).items():
            weighted = value.astype("float32") * len(batch)
            sums[name] = sums[name] + weighted if name in sums else weighted
        images += len(batch)
    if training:
        model.train()
    names = list(sums)
    table = paddle.stack([*(sums[name] for name in names), paddle.to_tensor(float(images))])
    *values, images_of_all = (float(value) for value in distributed.mean(table).numpy())
    terms = {name: value / images_of_all for name, value in zip(names, values)}
    return {"loss": {**terms, "loss": sum(terms.values())}}


@dataclass(frozen=True)
class Stage:
    """A part of the way from a file to detections.

    Attributes:
        name: ``read``, ``preprocess``, ``forward`` or ``post``.
        run: Takes what the stage before gave; the first one takes an item.
        on_device: Whether it launches work on the device that must be waited for.
    """

    name: str
    run: Callable[[Any], Any]
    on_device: bool = False


@dataclass
class SpeedReport:
    """Times of single images.

    Attributes:
        seconds: Per stage, one time per image after the warm-up.
        device: Where the forward pass ran, as Paddle calls it.
        runtime: What ran it.
        notes: More about the circumstances.
    """

    seconds: dict[str, list[float]]
    device: str = ""
    runtime: str = "paddle dygraph"
    notes: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For the ``fps`` entry of a metrics file; times in milliseconds."""
        table = np.array(list(self.seconds.values())) * 1e3
        total = table.sum(axis=0)
        split = {name: _spread(row) for name, row in zip(self.seconds, table)}
        return {
            "fps": 1e3 * total.size / float(total.sum()) if total.size else 0.0,
            "batch_size": 1,
            "images": int(total.size),
            "warm_up": WARM_UP,
            "total_ms": _spread(total),
            "split_ms": split,
            "device": self.device,
            "runtime": self.runtime,
            "hardware": hardware(),
            "versions": versions(),
            **self.notes,
        }


def _spread(values: np.ndarray) -> dict[str, float]:
    if not values.size:
        return {"mean": 0.0, "p50": 0.0, "p95": 0.0}
    p50, p95 = np.percentile(values, [50, 95])
    return {"mean": float(values.mean()), "p50": float(p50), "p95": float(p95)}


def evaluate_single(
    items: Sequence[Any],
    stages: Sequence[Stage],
    metric: Optional[Metric] = None,
    *,
    runtime: str = "paddle dygraph",
    warm_up: int = WARM_UP,
) -> SpeedReport:
    """Run images one by one, as a user who waits for each would, and time every stage.

    The first `warm_up` images are run once more before the clock starts, so caches, allocators and
    compilers are warm and still every image is timed and scored. After a stage with `on_device` the device
    is waited for, so that the next one is not charged for it.

    Args:
        items: What the first stage takes, one per image.
        stages: In order; the last one gives the detections of one image as a list.
        metric: Is given the detections; None only measures.
        runtime: Name for the report.
        warm_up: Images to run before.

    Returns:
        The times; scores are in `metric`.
    """
    for index in range(min(warm_up, len(items))):
        _run(items[index], stages)
    seconds: dict[str, list[float]] = {stage.name: [] for stage in stages}
    for index in progress(range(len(items)), total=len(items), desc="evaluate", unit="img"):
        found, times = _run(items[index], stages)
        for name, value in zip(seconds, times):
            seconds[name].append(value)
        if metric is not None:
            metric.update(found)
    return SpeedReport(seconds, device=paddle.get_device(), runtime=runtime)


def _run(item: Any, stages: Sequence[Stage]) -> tuple[Any, list[float]]:
    times = []
    value = item
    for stage in stages:
        before = time.perf_counter()
        value = stage.run(value)
        if stage.on_device:
            synchronize()
        times.append(time.perf_counter() - before)
    return value, times


def synchronize() -> None:
    """Wait until the device has done what was launched."""
    if paddle.get_device().startswith("gpu"):
        paddle.device.synchronize()


def hardware() -> dict[str, Any]:
    """Processor, number of cores this process may use, graphics card."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123  # not a file of ours
            name = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()  # the first starts a program
    found: dict[str, Any] = {"cpu": name, "cores": usable_cores()}
    if paddle.get_device().startswith("gpu"):
        found["gpu"] = paddle.device.cuda.get_device_name()
    return found


def versions() -> dict[str, str]:
    """Versions that a speed depends on."""
    from ppdet import __version__

    return {
        "ppdet": __version__,
        "paddle": paddle.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
