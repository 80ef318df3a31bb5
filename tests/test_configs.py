"""Protects the shipped configs: each builds its model, its readers give batches of a small dataset,
quickstarts learn, and the VOC config trains and is scored by the VOC metric.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import paddle
import pytest

import ppdet
from ppdet.experiment.build import (
    build_dataset,
    build_loader,
    build_metric,
    build_training,
)
from ppdet.experiment.config import Experiment, load_config
from ppdet.inference.predictors import predict
from ppdet.metrics.voc import VocMetric
from ppdet.structures import Detections
from tests.fake_coco import write_coco, write_split
from tests.support import ROOT

CONFIGS = sorted((ROOT / "configs").glob("*_*.yml"))
VOC_CONFIG = ROOT / "configs" / "yolov3_darknet53_270e_voc.yml"
QUICKSTARTS = [path for path in CONFIGS if path.stem.startswith("quickstart_")]
VOC_NAMES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
    "tvmonitor",
)


def named(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", CONFIGS, ids=named)
def test_the_model_builds(path: Path) -> None:
    experiment = load_config(path)
    with paddle.LazyGuard():  # drawing random weights takes seconds, and values are not looked at
        model = ppdet.build_model(experiment)
    assert model.num_classes == experiment.num_classes
    assert any(p.trainable for p in model.parameters())


def test_the_page_lists_every_config() -> None:
    page = (ROOT / "configs/README.md").read_text("utf-8")
    assert [path.name for path in CONFIGS if f"[{path.stem}]({path.name})" not in page] == []


def write_voc(folder: Path, images: int = 2) -> Path:
    """VOC's layout: one bright rectangle per image, of two classes in turn; the last one is difficult."""
    for name in ("JPEGImages", "Annotations"):
        (folder / name).mkdir(parents=True)
    lines = []
    for i in range(images):
        picture = np.full((96, 128, 3), 50, np.uint8)
        picture[20:70, 30:100] = (240, 30 * i, 80)
        (folder / "JPEGImages" / f"{i}.jpg").write_bytes(cv2.imencode(".jpg", picture)[1].tobytes())
        (folder / "Annotations" / f"{i}.xml").write_text(
            "<annotation><size><width>128</width><height>96</height><depth>3</depth></size>"
            f"<object><name>{VOC_NAMES[i % 2]}</name><difficult>{int(i == images - 1)}</difficult><bndbox>"
            "<xmin>30</xmin><ymin>20</ymin><xmax>100</xmax><ymax>70</ymax></bndbox></object></annotation>"
        )
        lines.append(f"JPEGImages/{i}.jpg Annotations/{i}.xml")
    for name in ("trainval.txt", "test.txt"):
        (folder / name).write_text("\n".join(lines) + "\n")
    (folder / "label_list.txt").write_text("\n".join(VOC_NAMES) + "\n")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small stand-ins for every dataset that configs name, under ``dataset/``."""
    folder = tmp_path_factory.mktemp("data")
    write_coco(folder / "coco", train=8)
    write_voc(folder / "voc", images=8)
    six = [{"id": i, "name": f"shape{i}"} for i in range(1, 7)]
    for split in ("train", "val"):
        write_split(folder / "quickstart", split, images=8, categories=six, size=(96, 128), seed=4)
    return folder


def on(data: Path, path: Path, *overrides: str) -> Experiment:
    """A config with its datasets replaced."""
    folder = data / Path(load_config(path).TrainDataset.arguments["dataset_dir"]).name  # type: ignore[union-attr]
    places = [f"{key}.dataset_dir={folder}" for key in ("TrainDataset", "EvalDataset", "TestDataset")]
    return load_config(path, overrides=[*places, "worker_num=0", *overrides])


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=named)
def test_the_readers_give_batches(path: Path, data: Path) -> None:
    experiment = on(data, path)
    masks = "mask" in path.stem
    train = build_dataset(experiment, "TrainDataset")
    batch = next(iter(build_loader(experiment, "TrainReader", train, with_masks=masks)))
    assert batch.targets is not None
    assert (batch.targets.labels >= 0).any()
    assert (batch.targets.polygons is not None) == masks
    assert paddle.isfinite(batch.images).all()
    evaluation = build_dataset(experiment, "EvalDataset", train.categories)
    for key in ("EvalReader", "TestReader"):
        batch = next(iter(build_loader(experiment, key, evaluation)))
        assert batch.images.shape[1] == 3
        original = (batch.image_sizes / batch.scale_factors).numpy()
        np.testing.assert_allclose(original, [[96, 128]] * len(batch), rtol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("path", QUICKSTARTS, ids=named)
def test_a_quickstart_learns(path: Path, data: Path) -> None:
    """A few steps on one batch; the AP that the header states comes from the whole run."""
    experiment = on(
        data,
        path,
        "TrainReader.batch_size=4",
        "LearningRate.schedulers=[{name: LinearWarmup, start_factor: 0.5, steps: 1000}]",
    )
    training = build_training(experiment)
    batch = next(iter(training.loader))
    training.model.train()
    totals = []
    # A decoder of queries needs some steps before its matches settle.
    for _ in range(24 if "rtdetr" in path.stem else 8):
        total = paddle.add_n(list(training.model(batch).values()))
        total.backward()
        training.optimizer.step()
        training.optimizer.clear_grad()
        totals.append(total.item())
    assert np.isfinite(totals).all()
    assert np.mean(totals[-2:]) < 0.9 * np.mean(totals[:2]), totals


@pytest.mark.parametrize(("map_type", "found_half"), [("11point", 6 / 11), ("integral", 0.5)])
def test_voc_is_scored_by_its_own_metric(data: Path, map_type: str, found_half: float) -> None:
    experiment = on(data, VOC_CONFIG, f"map_type={map_type}")
    dataset = build_dataset(experiment, "EvalDataset")
    assert dataset.categories.names == VOC_NAMES
    metric = build_metric(experiment, dataset, with_masks=False)
    assert isinstance(metric, VocMetric)
    for i in range(len(dataset)):
        target = dataset[i].target
        assert target is not None
        assert target.boxes.tolist() == [[30, 20, 100, 70]]
        # Missed: two of the four objects of class 0, and the difficult one of class 1, which does not count.
        if i not in (4, 6, 7):
            scores = np.full(1, 0.9, np.float32)
            metric.update([Detections(dataset[i].image_id, target.boxes, scores, target.labels)])
    assert metric.compute()["bbox"]["mAP"] == pytest.approx((found_half + 1) / 2)


def test_voc_trains_and_predicts(data: Path) -> None:
    """The config as it is, but for a small backbone and small images."""
    experiment = on(
        data,
        VOC_CONFIG,
        "pretrain_weights=null",
        "YOLOv3.backbone=DarkNetTiny",
        "YOLOv3.neck=YOLOv3TinyFPN",
        "YOLOv3Head.anchor_masks=[[3, 4, 5], [0, 1, 2]]",
        "TrainReader.batch_size=2",
        "TrainReader.batch_transforms.BatchRandomResize.target_size=[64, 96]",
        "EvalReader.sample_transforms.Resize.target_size=[64, 64]",
    )
    training = build_training(experiment)
    training.model.train()
    losses = training.model(next(iter(training.loader)))
    assert set(losses) == {"loss_xy", "loss_wh", "loss_obj", "loss_cls"}
    assert all(np.isfinite(loss.item()) for loss in losses.values())
    dataset = build_dataset(experiment, "EvalDataset", training.dataset.categories)
    metric = build_metric(experiment, dataset, with_masks=False)
    for batch in build_loader(experiment, "EvalReader", dataset):
        metric.update(predict(training.model, batch))
    assert 0 <= metric.compute()["bbox"]["mAP"] <= 1
