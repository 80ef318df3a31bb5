"""Curves and pictures for VisualDL and TensorBoard, behind one small interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np

from ppdet.engine.hooks import Hook, Run, StepLog
from ppdet.utils.errors import TrainingError
from ppdet.utils.files import replacing
from ppdet.utils.scores import flatten


class Sink(ABC):
    """Takes numbers and pictures by step."""

    def open(self) -> None:  # noqa: B027  (a sink that writes nowhere has nothing to open)
        """Open files or connections, once before the first step; the constructor opens none."""

    @abstractmethod
    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name; a slash groups names."""

    @abstractmethod
    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """An ``[H, W, 3]`` uint8 RGB picture."""

    @abstractmethod
    def close(self) -> None:
        """Write what is left."""


class VisualDlSink(Sink):
    """Records for ``visualdl --logdir FOLDER``.

    Args:
        folder: Where records go.

    Raises:
        TrainingError: If VisualDL is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from visualdl import LogWriter
        except ImportError:
            raise _missing("VisualDL", "use_vdl") from None
        self._make_writer: Callable[[], Any] = lambda: LogWriter(logdir=str(folder))
        self._writer: Any = None

    def open(self) -> None:
        """Create the folder and its first file."""
        self._writer = self._make_writer()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name."""
        for name, value in values.items():
            self._writer.add_scalar(tag=name, value=value, step=step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """A picture."""
        self._writer.add_image(tag=name, img=image, step=step)

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()


class TensorBoardSink(Sink):
    """Events for ``tensorboard --logdir FOLDER``.

    Args:
        folder: Where events go.

    Raises:
        TrainingError: If tensorboardX is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise _missing("TensorBoard", "use_tensorboard") from None
        self._make_writer: Callable[[], Any] = lambda: SummaryWriter(str(folder))
        self._writer: Any = None

    def open(self) -> None:
        """Create the folder and its first file."""
        self._writer = self._make_writer()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, global_step=step)

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """A picture."""
        self._writer.add_image(name, image, global_step=step, dataformats="HWC")

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()


class PictureFolder(Sink):
    """Pictures as files, ``STEP/NAME.jpg``, small enough to keep many; numbers are in the JSON lines already.

    Args:
        folder: Where they go.
    """

    #: Longer side in pixels at most.
    SIDE = 420

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Nothing."""

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Write a picture."""
        import cv2

        scale = min(1.0, self.SIDE / max(image.shape[:2]))
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        pixels = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
        data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 75])[1].tobytes()
        path = self._folder / f"{step:08d}" / f"{Path(name).stem}.jpg"
        with replacing(path) as temporary:
            temporary.write_bytes(data)

    def close(self) -> None:
        """Nothing is left to write."""


def _missing(name: str, key: str) -> TrainingError:
    return TrainingError(f'{name} is not installed: pip install "ppdet[logging]", or {key}: false')


class SinkHook(Hook):
    """Feeds sinks with every log and evaluation; steps go on where a resumed run goes on.

    Args:
        sinks: Where to.
        images: Pictures to add after an evaluation, by name, e.g. drawn predictions; None for none.
    """

    def __init__(
        self, sinks: Sequence[Sink], images: Optional[Callable[[], Mapping[str, np.ndarray]]] = None
    ) -> None:
        self._sinks = tuple(sinks)
        self._images = images

    def before_train(self, trainer: Run) -> None:
        """Open the sinks."""
        for sink in self._sinks:
            sink.open()

    def after_log(self, trainer: Run, log: StepLog) -> None:
        """Losses, rate and times."""
        values = {f"train/{name}": value for name, value in log.losses.items()}
        values["train/learning_rate"] = log.learning_rate
        values["time/data"] = log.data_time
        values["time/batch"] = log.batch_time
        for sink in self._sinks:
            sink.scalars(log.step, values)

    def after_evaluation(self, trainer: Run, metrics: Mapping[str, Mapping[str, float]]) -> None:
        """Scores and pictures."""
        step = trainer.progress.step
        values = {f"eval/{name}": value for name, value in flatten(metrics).items()}
        images = {} if self._images is None else self._images()
        for sink in self._sinks:
            sink.scalars(step, values)
            for name, image in images.items():
                sink.image(step, name, image)

    def after_train(self, trainer: Run) -> None:
        """Write what is left."""
        for sink in self._sinks:
            sink.close()
