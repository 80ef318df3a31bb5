"""Protects curves: every log and evaluation arrives with its step, once a run is resumed too."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ppdet.engine.checkpoint import RunFolder
from ppdet.engine.settings import TrainSettings
from ppdet.engine.sinks import Sink, SinkHook, TensorBoardSink, VisualDlSink
from ppdet.utils.errors import TrainingError
from tests.engine.toys import make_trainer


class Memory(Sink):
    def __init__(self) -> None:
        self.rows: list[tuple[int, str]] = []
        self.closed = False

    def scalars(self, step: int, values: Any) -> None:
        self.rows += [(step, name) for name in values]

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        self.rows.append((step, f"image {name} {image.shape}"))

    def close(self) -> None:
        self.closed = True


def run(tmp_path: Path, sink: Sink, *, max_iters: int, resume: bool) -> None:
    trainer = make_trainer(
        settings=TrainSettings(epochs=2, log_iter=3, max_iters=max_iters),
        folder=RunFolder(tmp_path),
        evaluate=lambda: {"bbox": {"AP": 0.5}},
        hooks=[SinkHook([sink], lambda: {"first": np.zeros((4, 6, 3), np.uint8)})],
    )
    if resume:
        trainer.resume("auto")
    trainer.train()


def test_steps_go_on_after_a_resume(tmp_path: Path) -> None:
    sink = Memory()
    run(tmp_path, sink, max_iters=5, resume=False)
    run(tmp_path, sink, max_iters=10, resume=True)
    assert [step for step, name in sink.rows if name == "train/loss"] == [3, 5, 6, 9, 10]
    assert {name for _, name in sink.rows} >= {
        "train/learning_rate",
        "time/data",
        "time/batch",
        "train/loss_box",
    }
    assert [row for row in sink.rows if "image" in row[1] or "eval" in row[1]] == [
        (step, name) for step in (5, 10) for name in ("eval/bbox.AP", "image first (4, 6, 3)")
    ]
    assert sink.closed


def tensorboard_values(folder: Path) -> list[tuple[int, str]]:
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    (path,) = folder.iterdir()
    data, place, found = path.read_bytes(), 0, []
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        event = event_pb2.Event.FromString(data[place + 12 : place + 12 + length])
        place += length + 16
        found += [(event.step, value.tag) for value in event.summary.value]
    return found


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    sink = TensorBoardSink(tmp_path)
    sink.open()
    sink.scalars(7, {"train/loss": 1.5})
    sink.image(7, "drawn", np.zeros((4, 4, 3), np.uint8))
    sink.close()
    assert tensorboard_values(tmp_path) == [(7, "train/loss"), (7, "drawn")]


def test_visualdl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    class LogWriter:
        def __init__(self, *, logdir: str) -> None:
            calls.append(logdir)

        def add_scalar(self, *, tag: str, value: float, step: int) -> None:
            calls.append((tag, value, step))

        def add_image(self, *, tag: str, img: np.ndarray, step: int) -> None:
            calls.append((tag, img.shape, step))

        def close(self) -> None:
            calls.append("closed")

    module = ModuleType("visualdl")
    module.LogWriter = LogWriter  # type: ignore[attr-defined]  # a stand-in for the module
    monkeypatch.setitem(sys.modules, "visualdl", module)
    sink = VisualDlSink(tmp_path)
    sink.open()
    sink.scalars(7, {"train/loss": 1.5})
    sink.image(7, "drawn", np.zeros((4, 4, 3), np.uint8))
    sink.close()
    assert calls == [str(tmp_path), ("train/loss", 1.5, 7), ("drawn", (4, 4, 3), 7), "closed"]


@pytest.mark.parametrize(("sink", "module"), [(VisualDlSink, "visualdl"), (TensorBoardSink, "tensorboardX")])
def test_missing_package_is_named(
    sink: Any, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(TrainingError, match=r"pip install \"ppdet\[logging\]\""):
        sink(tmp_path)
