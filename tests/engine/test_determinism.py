"""Protects repeatability: the same losses from a seed, for any number of loading processes, after a stop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import pytest

from ppdet.config.spec import Spec
from ppdet.data.datasets.coco import COCODataSet
from ppdet.data.loader import Loader
from ppdet.data.readers import TrainReader
from ppdet.data.transforms.decode import Decode
from ppdet.data.transforms.flip import RandomFlip
from ppdet.data.transforms.normalize import NormalizeImage, Permute
from ppdet.data.transforms.resize import BatchRandomResize, Resize
from ppdet.engine.checkpoint import RunFolder
from ppdet.engine.determinism import make_deterministic, seed_everything
from ppdet.engine.hooks import Hook, StepLog
from ppdet.engine.settings import TrainSettings
from tests.engine.toys import ToyDetector, make_trainer
from tests.fake_coco import write_coco

STEPS = 50


class Losses(Hook):
    def __init__(self) -> None:
        self.rows: list[Mapping[str, float]] = []

    def after_log(self, trainer: Any, log: StepLog) -> None:
        self.rows.append(dict(log.losses))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    categories = [{"id": 1, "name": "box"}, {"id": 2, "name": "other"}]
    return write_coco(tmp_path_factory.mktemp("coco"), train=14, val=1, categories=categories, size=(64, 80))


def loader(folder: Path, num_workers: int) -> Loader:
    dataset = COCODataSet(
        dataset_dir=str(folder), image_dir="train2017", anno_path="annotations/instances_train2017.json"
    )
    reader = TrainReader(
        sample_transforms=[
            Spec.of(Decode),
            Spec.of(RandomFlip),
            Spec.of(Resize, target_size=[32, 32], keep_ratio=False),
        ],
        batch_transforms=[
            Spec.of(BatchRandomResize, target_size=[32, 64], random_size=True, random_interp=True),
            Spec.of(NormalizeImage),
            Spec.of(Permute),
        ],
        batch_size=2,
    )
    return reader.loader(dataset, seed=5, num_workers=num_workers)


def run(
    folder: Path,
    num_workers: int,
    *,
    run_folder: Optional[Path] = None,
    resume: bool = False,
    steps: int = STEPS,
) -> list[Mapping[str, float]]:
    make_deterministic()
    seed_everything(11)
    losses, batches = Losses(), loader(folder, num_workers)
    trainer = make_trainer(
        model=ToyDetector(),
        loader=batches,
        settings=TrainSettings(epochs=99, max_iters=steps, log_iter=1, seed=5),
        folder=None if run_folder is None else RunFolder(run_folder),
        hooks=[losses],
    )
    if resume:
        trainer.resume("auto")
    trainer.train()
    batches.close()
    return losses.rows


@pytest.fixture(scope="module")
def reference(folder: Path) -> list[Mapping[str, float]]:
    return run(folder, 0)


@pytest.mark.parametrize("num_workers", [0, 1, 4])
def test_fifty_steps_are_the_same_for_any_number_of_workers(
    folder: Path, reference: list[Mapping[str, float]], num_workers: int
) -> None:
    assert len(reference) == STEPS
    assert len({row["loss"] for row in reference}) == STEPS
    assert run(folder, num_workers) == reference


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stop_inside_an_epoch_changes_nothing(
    folder: Path, reference: list[Mapping[str, float]], num_workers: int, tmp_path: Path
) -> None:
    first = run(folder, num_workers, run_folder=tmp_path, steps=17)  # an epoch has 7 batches
    second = run(folder, num_workers, run_folder=tmp_path, resume=True)
    assert [*first, *second] == reference
