"""Protects trackers: each gets every number and picture with its step, and is off unless turned on."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from ppdet.engine.checkpoint import RunFolder
from ppdet.engine.run_facts import RunFacts
from ppdet.engine.settings import TrainSettings
from ppdet.engine.sinks import PictureFolder, Sink
from ppdet.engine.trackers import ClearMlSink, MlflowSink, WandbSink
from ppdet.utils.errors import TrainingError
from tests.engine.toys import make_trainer

IMAGE = np.zeros((4, 6, 3), np.uint8)


class Recorder:
    """Records calls of any name."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, args, kwargs))
            return self

        return call

    def of(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return [(args, kwargs) for called, args, kwargs in self.calls if called == name]


def use(sink: Sink) -> None:
    sink.open()
    sink.scalars(5, {"train/loss": 1.5, "eval/bbox.AP": 0.25})
    sink.image(5, "eval/first.jpg", IMAGE)
    sink.close()


def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Recorder()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    use(WandbSink(tmp_path / "run"))
    assert fake.of("init") == [
        ((), {"project": "ppdet", "name": "run", "dir": str(tmp_path / "run"), "resume": "auto"})
    ]
    assert fake.of("log")[0] == (({"train/loss": 1.5, "eval/bbox.AP": 0.25},), {"step": 5})
    assert fake.of("log")[1][1] == {"step": 5} and fake.of("Image")[0][0][0] is IMAGE
    assert fake.calls[-1][0] == "finish"


def test_mlflow_stays_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Recorder()
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    use(MlflowSink(tmp_path / "run"))
    assert fake.of("set_tracking_uri") == [(((tmp_path / "run/mlruns").as_uri(),), {})]
    assert fake.of("log_metrics") == [(({"train/loss": 1.5, "eval/bbox.AP": 0.25},), {"step": 5})]
    assert fake.of("log_image")[0][1] == {"artifact_file": "eval/first/00000005.png"}
    assert fake.calls[-1][0] == "end_run"
    fake.calls.clear()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    sink = MlflowSink(tmp_path / "run")
    assert fake.calls == [], "nothing starts before the training does"
    sink.open()
    assert fake.of("set_tracking_uri") == [], "the user's own address stays"


def test_clearml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Recorder()
    monkeypatch.setitem(sys.modules, "clearml", SimpleNamespace(Task=fake))  # type: ignore[arg-type]
    use(ClearMlSink(tmp_path / "run"))
    ((_, how),) = fake.of("init")
    assert how["task_name"] == "run" and how["auto_connect_frameworks"] is False, "no checkpoint is uploaded"
    assert fake.of("report_scalar") == [
        (("train", "loss", 1.5), {"iteration": 5}),
        (("eval", "bbox.AP", 0.25), {"iteration": 5}),
    ]
    assert fake.of("report_image")[0][0] == ("eval", "first.jpg")
    assert fake.calls[-1][0] == "close"


@pytest.mark.parametrize("sink", [WandbSink, MlflowSink, ClearMlSink])
def test_a_missing_tracker_says_what_to_install(
    sink: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = sink.__name__.removesuffix("Sink").lower()
    monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match=rf'pip install "ppdet\[{name}\]", or use_{name}: false'):
        sink(tmp_path)


def test_pictures_become_small_files(tmp_path: Path) -> None:
    sink = PictureFolder(tmp_path)
    sink.image(7, "eval/a.png", np.full((1000, 500, 3), (255, 0, 0), np.uint8))
    sink.image(7, "eval/b.jpg", IMAGE)
    sink.scalars(7, {"train/loss": 1.0})
    sink.close()
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.jpg")) == [
        "00000007/a.jpg",
        "00000007/b.jpg",
    ]
    large = cv2.imread(str(tmp_path / "00000007/a.jpg"))
    assert large.shape == (420, 210, 3) and large[0, 0].argmax() == 2, "red stays red"


def test_facts_and_gradient_norms_of_a_run(tmp_path: Path) -> None:
    from ppdet.engine.console import JsonLines

    trainer = make_trainer(
        settings=TrainSettings(epochs=1, log_iter=2, max_iters=4),
        folder=RunFolder(tmp_path),
        hooks=[JsonLines(tmp_path), RunFacts(tmp_path, {"model": "Toy"})],
    )
    trainer.train()
    facts = json.loads((tmp_path / "run.json").read_text("utf-8"))
    assert facts["model"] == "Toy" and facts["last_step"] == 4 and facts["versions"]["ppdet"]
    assert facts["hardware"]["cores"] >= 1 and facts["command"]
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 2 and all(row["gradient_norm"] > 0 for row in rows)


def test_gradient_norm_is_that_of_all_gradients() -> None:
    import paddle

    from ppdet.engine.step import TrainStep

    model = paddle.nn.Linear(3, 2)
    step = TrainStep(model, paddle.optimizer.SGD(0.1, parameters=model.parameters()))
    assert float(step.gradient_norm()) == 0
    (3 * model(paddle.ones([1, 3]))).sum().backward()
    assert float(step.gradient_norm()) == pytest.approx(72**0.5)  # 6 weights and 2 biases of gradient 3


def test_trackers_are_off_unless_turned_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import fields

    from ppdet.experiment.config import Experiment

    defaults = {f.name: f.default for f in fields(Experiment)}
    assert [defaults[f"use_{name}"] for name in ("wandb", "mlflow", "clearml")] == [False] * 3
    assert isinstance(sys.modules.get("wandb", ModuleType("x")), ModuleType)
