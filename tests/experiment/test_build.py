"""Protects the Python API: images in, detections out; datasets that do not fit the config are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
import pytest

import ppdet
from ppdet.config import ConfigError
from ppdet.data.datasets.samples import SampleDataset, as_dataset
from ppdet.data.transforms.decode import Decode
from ppdet.engine.hooks import Run
from ppdet.experiment.build import (
    DeviceError,
    build_dataset,
    build_loader,
    build_metric,
    build_training,
    require,
    set_device,
)
from ppdet.experiment.evaluate import training_evaluation
from ppdet.experiment.run import build_hooks, build_trainer
from ppdet.structures import Categories, Sample, Target
from ppdet.utils.errors import DataError, TrainingError
from tests.cli.small import NAMES, make_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config and its dataset."""
    return make_project(tmp_path_factory.mktemp("recipes"))


@pytest.fixture(autouse=True)
def in_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in the config are relative to the project."""
    monkeypatch.chdir(project)


def test_classes_must_be_as_many_as_the_config_says() -> None:
    experiment = ppdet.load_config("small.yml", overrides=["num_classes=4"])
    with pytest.raises(DataError, match=r"3 categories \(cat, dog, bird\).* num_classes is 4 \(override\)"):
        build_dataset(experiment, "TrainDataset")


def test_validation_uses_the_classes_of_training_by_name() -> None:
    experiment = ppdet.load_config("small.yml")
    own = build_dataset(experiment, "EvalDataset")
    turned = Categories.from_names(NAMES[::-1])
    shared = build_dataset(experiment, "EvalDataset", turned)
    for i in range(len(own)):
        mine, theirs = own[i].target, shared[i].target
        assert mine is not None
        assert theirs is not None
        assert [NAMES[k] for k in mine.labels] == [turned.names[k] for k in theirs.labels]
    with pytest.raises(DataError, match="bird"):
        build_dataset(experiment, "EvalDataset", Categories.from_names(["cat", "dog", "fish"]))


def test_perfect_detections_score_one() -> None:
    experiment = ppdet.load_config("small.yml")
    dataset = build_dataset(experiment, "EvalDataset")
    metric = build_metric(experiment, dataset, with_masks=False)
    for i in range(len(dataset)):
        target = dataset[i].target
        assert target is not None
        metric.update(
            [
                ppdet.structures.Detections(
                    dataset[i].image_id, target.boxes, np.ones(len(target), np.float32), target.labels
                )
            ]
        )
    assert metric.compute()["bbox"]["AP"] == pytest.approx(1.0)


def test_samples_in_memory_are_evaluated_like_the_files_they_come_from() -> None:
    experiment = ppdet.load_config("small.yml")
    model = ppdet.build_model(experiment)
    files = build_dataset(experiment, "EvalDataset")
    decode = Decode()
    samples = [decode(files[i], np.random.default_rng(0)) for i in range(len(files))]
    in_memory = as_dataset(samples, categories=files.categories)
    one, other = (training_evaluation(experiment, model, dataset) for dataset in (in_memory, files))
    assert one() == other()
    assert [row["score"] for row in one.metric.results()] == [row["score"] for row in other.metric.results()]
    assert len(one.metric.results()) > 0


def test_loader_gives_every_image_once() -> None:
    experiment = ppdet.load_config("small.yml")
    dataset = build_dataset(experiment, "EvalDataset")
    loader = build_loader(experiment, "EvalReader", dataset)
    assert sorted(i for batch in loader for i in batch.image_ids) == [1, 2]


def test_missing_parts_are_named(tmp_path: Path) -> None:
    assert not ppdet.build_model(ppdet.load_config("small.yml")).has_masks
    text = Path("small.yml").read_text("utf-8").replace("TestReader: *eval\n", "")
    (tmp_path / "short.yml").write_text(text, "utf-8")
    with pytest.raises(ConfigError, match="TestReader is missing"):
        require(ppdet.load_config(tmp_path / "short.yml"), "TestReader")


class Recorder(ppdet.Hook):
    """Keeps the step of every call."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def after_step(self, trainer: Run) -> None:
        """Keep it."""
        self.steps.append(trainer.progress.step)


def test_hook_objects_run_beside_the_hooks_of_the_yaml(tmp_path: Path) -> None:
    experiment = ppdet.load_config("small.yml", overrides=["max_iters=2"])
    recorder = Recorder()
    build_trainer(experiment, build_training(experiment), tmp_path / "run", hooks=[recorder]).train()
    assert recorder.steps == [1, 2]


def test_a_hook_class_is_not_a_hook(tmp_path: Path) -> None:
    experiment = ppdet.load_config("small.yml")
    with pytest.raises(TrainingError, match=r"hooks\[0\]: expected an object .*; pass an object, Recorder\("):
        build_hooks(experiment, tmp_path, hooks=[Recorder])  # type: ignore[list-item]
    with pytest.raises(TrainingError, match=r"hooks\[1\]: expected an object .*, got 'log'$"):
        build_hooks(experiment, tmp_path, hooks=[Recorder(), "log"])  # type: ignore[list-item]


@pytest.mark.parametrize("device", ["gpu0", "cuda", "", "cpu:1", "gpu:", "gpu:-1"])
def test_unknown_devices_are_named(device: str) -> None:
    with pytest.raises(DeviceError, match="expected auto, cpu, gpu or gpu:i"):
        set_device(device)


def test_a_missing_gpu_is_an_error_only_if_it_is_named() -> None:
    assert set_device("cpu") == "cpu"
    if not paddle.is_compiled_with_cuda():
        assert set_device("auto") == "cpu"
        with pytest.raises(DeviceError, match="CPU build"):
            set_device("gpu:0")


def test_use_gpu_decides_what_auto_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[str] = []
    monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
    monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(paddle, "set_device", chosen.append)
    monkeypatch.delenv("FLAGS_selected_gpus", raising=False)
    for device, use_gpu in [("auto", True), ("auto", False), ("gpu:1", False), ("cpu", True)]:
        assert set_device(device, use_gpu=use_gpu) == chosen[-1]
    assert chosen == ["gpu:0", "cpu", "gpu:1", "cpu"]
    with pytest.raises(DeviceError, match=r"shows 2 GPU"):
        set_device("gpu:2")


def test_nothing_to_score_against_is_an_error_before_training() -> None:
    """An AP of -1 would stand as the best one, and `patience` would stop the training."""
    samples = [Sample(1, "a.jpg", original_size=(9, 9), target=Target.empty())]
    with pytest.raises(DataError, match="1 images without an object of the model's classes"):
        build_metric(None, SampleDataset(samples, ["cat"]), with_masks=False)
