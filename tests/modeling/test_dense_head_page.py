"""Protects docs/dense_head.md: its head, as printed, learns the synthetic data, detects, exports."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import paddle
import pytest

import ppdet
from ppdet.data.tools.synth import SyntheticOptions, write_dataset
from ppdet.engine.hooks import Hook, Run, StepLog
from ppdet.engine.settings import TrainSettings
from ppdet.engine.trainer import Trainer
from ppdet.experiment.build import Training, build_training
from ppdet.inference.predictors import predict
from tests.modeling.small_rcnn import small_batch
from tests.support import ROOT
from tests.support_sync import count_host_syncs


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """The page's detector over four small pictures."""
    folder = tmp_path_factory.mktemp("page")
    page = (ROOT / "docs" / "dense_head.md").read_text("utf-8")
    files = re.findall(r"`([\w./]+)`:\n\n```(?:python|yaml)\n(.*?)```", page, re.DOTALL)
    assert [name for name, _ in files] == ["my_head.py", "my_detector.yml"]
    for name, text in files:
        (folder / name).write_text(text.replace("configs/", f"{ROOT}/configs/"), "utf-8")
    write_dataset(folder / "data", SyntheticOptions(train=4, val=1, height=64, width=64))
    overrides = [f"TrainDataset.dataset_dir={folder / 'data'}", "TrainReader.batch_size=4", "worker_num=0"]
    overrides += [
        "LearningRate.schedulers.LinearWarmup.steps=3",
        "LearningRate.schedulers.CosineDecay.max_epochs=30",
    ]
    return build_training(ppdet.load_config(folder / "my_detector.yml", overrides))


@pytest.mark.slow
def test_it_learns_the_synthetic_data(training: Training) -> None:
    logs: list[dict[str, float]] = []

    class Recorder(Hook):
        def after_log(self, trainer: Run, log: StepLog) -> None:
            logs.append(dict(log.losses))

    settings = TrainSettings(epochs=30, log_iter=1)
    hooks = [Recorder()]
    Trainer(
        training.model, training.optimizer, training.schedule, training.loader, settings, hooks=hooks
    ).train()
    assert set(logs[0]) == {"loss", "loss_cls", "loss_box", "loss_centerness"}
    for name in ("loss_cls", "loss_box"):
        assert np.mean([log[name] for log in logs[-5:]]) < 0.7 * np.mean([log[name] for log in logs[:5]])


@pytest.mark.parametrize("boxes", [[[[10, 10, 50, 40], [60, 5, 90, 60]], []], [[], []]])
def test_losses_are_finite_and_nothing_waits_for_the_device(
    training: Training, boxes: list[list[list[float]]]
) -> None:
    model = training.model
    model.train()
    with count_host_syncs() as reads:
        losses = model(small_batch(boxes))
        paddle.add_n(list(losses.values())).backward()
    assert not reads, reads
    assert all(np.isfinite(float(loss)) for loss in losses.values())
    assert all(np.isfinite(p.grad.numpy()).all() for p in model.dense_head.parameters())
    for parameter in model.parameters():
        parameter.clear_gradient()


def test_a_cell_belongs_to_the_smallest_object_around_its_centre(training: Training) -> None:
    head = training.model.dense_head
    batch = small_batch([[[0, 0, 60, 60], [20, 20, 44, 44]]], size=(64, 64))
    outputs = training.model.raw_outputs(batch.images)
    assert batch.targets is not None
    positive, index = (value.numpy()[0] for value in head._assign(outputs, batch.targets))
    points, strides = outputs.points.numpy(), outputs.strides.numpy()
    # Of stride 8: inside of the small object; the large one is for stride 16 where a side is 64 pixels away.
    inside = ((points > 20) & (points < 44)).all(axis=1)
    fine = strides == 8
    assert (index[fine & inside] == 1).all()
    assert (positive[fine & inside] == 1).all()
    assert (index[fine & ~inside & (positive == 1)] == 0).all()
    assert not positive[(points > 60).any(axis=1)].any()


def test_it_detects_and_says_what_it_offers(training: Training) -> None:
    model = training.model
    model.eval()
    batch = small_batch([[[10, 10, 50, 40]], []])
    detections = predict(model, batch)
    assert [one.image_id for one in detections] == [0, 1]
    assert model.final_nms is not None
    assert model.final_nms.keep_top_k == 100
    assert not model.has_masks


@pytest.mark.slow
def test_it_exports_with_sizes_unknown(training: Training, tmp_path: Path) -> None:
    from ppdet.export.program import DetectionProgram, save_program

    model = training.model
    model.eval()
    save_program(DetectionProgram(model), tmp_path / "model", uint8_input=False)
    loaded = paddle.jit.load(str(tmp_path / "model"))
    for size in ((64, 96), (96, 64)):
        batch = small_batch([[], []], size=size)
        boxes, scores, _ = loaded(batch.images, batch.image_sizes, batch.scale_factors)
        with paddle.no_grad():
            expected = model.detect(batch.images, batch.image_sizes, batch.scale_factors)
        np.testing.assert_allclose(scores.numpy(), expected.scores.numpy(), atol=1e-5)
        np.testing.assert_allclose(boxes.numpy(), expected.boxes.numpy(), atol=1e-2)
