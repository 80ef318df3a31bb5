"""What two processes do in `test_distributed`; run by paddle.distributed.launch, with a task and a folder."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from ppdet.data.datasets.coco import COCODataSet
from ppdet.engine import distributed
from ppdet.engine.checkpoint import RunFolder
from ppdet.engine.evaluator import evaluate, mean_losses
from ppdet.engine.hooks import Hook
from ppdet.engine.settings import TrainSettings
from ppdet.metrics.coco import CocoMetric
from ppdet.structures import Batch, Detections
from tests.data.support import coco_content, eval_reader, write_coco
from tests.engine.test_evaluator import Counter, nothing
from tests.engine.toys import ToyDetector, ToyLoader, make_trainer


class Masked(ToyDetector):
    """Losses that are 0, but there, where a batch has no objects."""

    def __init__(self) -> None:
        super().__init__(noise=False, norm=False)

    def forward(self, batch: Batch) -> dict[str, Any]:
        out = self.head(self.frozen(paddle.nn.functional.relu(self.conv(batch.images)).mean([2, 3])))
        assert batch.targets is not None
        real = (batch.targets.labels[:, 0] >= 0).astype("float32")
        error = (out[:, :4] - batch.targets.boxes[:, 0]).abs().mean(-1)
        return {
            "loss_box": (error * real).mean(),
            "loss_score": paddle.nn.functional.softplus(-out[:, 4]).mean(),
        }


class Share(ToyLoader):
    """This rank's half of the batches of 4; rank 1 has no objects in its first batch."""

    def __init__(self, rank: int, world: int) -> None:
        super().__init__(batches=5, size=4)
        self._rank, self._world = rank, world

    def batch(self, epoch: int, index: int) -> Batch:
        whole = super().batch(epoch, index)
        assert whole.targets is not None
        if index == 0:
            whole.targets.labels[2:] = -1
        size = 4 // self._world
        rows = slice(self._rank * size, (self._rank + 1) * size)
        targets = type(whole.targets)(
            **{n: getattr(whole.targets, n)[rows] for n in ("boxes", "labels", "is_crowd", "weights")}
        )
        return Batch(
            **{n: getattr(whole, n)[rows] for n in ("images", "image_sizes", "scale_factors")},
            image_ids=whole.image_ids[rows],
            paths=whole.paths[rows],
            targets=targets,
        )


def train(folder: Path, rank: int, world: int, settings: TrainSettings, *hooks: Hook) -> Any:
    paddle.seed(5)
    return make_trainer(
        model=Masked(),
        loader=Share(rank, world),
        settings=settings,
        folder=RunFolder(folder),
        hooks=hooks,
    )


def run_equal(folder: Path, rank: int, world: int) -> None:
    """10 steps, and 10 batches in windows of 2; evaluation and validation loss."""
    for name, accumulate in (("plain", 1), ("accumulated", 2)):
        settings = TrainSettings(epochs=2, log_iter=1, accumulate=accumulate)
        trainer = train(folder / name / str(world), rank, world, settings)
        trainer.train()
        np.savez(
            folder / f"{name}_{world}_{rank}.npz",
            **{k: v.numpy() for k, v in trainer.model.state_dict().items()},
        )
    metric = Counter()
    metric.reset()
    loader = Share(rank, world)
    found = evaluate(lambda batch: [nothing(i) for i in batch.image_ids], loader, metric)
    losses = mean_losses(trainer.model, loader)
    values = [found["bbox"]["AP"], losses["loss"]["loss"], losses["loss"]["loss_box"]]
    np.save(folder / f"scores_{world}_{rank}.npy", np.array(values))


def run_score(folder: Path, rank: int, world: int) -> None:
    """COCO's AP of boxes near the annotated ones, over 13 images in batches of 2: shares are not equal."""
    if not (folder / "anno.json").exists():
        write_coco(folder, coco_content(13))
    dataset = COCODataSet(dataset_dir=str(folder), image_dir="images", anno_path="anno.json")
    loader = eval_reader(batch_size=2).loader(dataset, seed=0, num_workers=0, rank=rank, world_size=world)
    seen: list[int] = []

    def predict(batch: Batch) -> list[Detections]:
        seen.extend(batch.image_ids)
        return [near_the_truth(dataset, image_id) for image_id in batch.image_ids]

    metric = CocoMetric(truth=dataset.ground_truth())
    scores = evaluate(predict, loader, metric)["bbox"]
    (folder / f"ap_{world}_{rank}.json").write_text(json.dumps({"scores": scores, "seen": seen}))


def near_the_truth(dataset: COCODataSet, image_id: int) -> Detections:
    """Annotated boxes, some moved and some of another class, and one where nothing is; always the same."""
    rng = np.random.default_rng(image_id)
    samples = (dataset[index] for index in range(len(dataset)))
    truth = next(sample.target for sample in samples if sample.image_id == image_id)
    assert truth is not None
    boxes = np.concatenate([truth.boxes + rng.normal(size=truth.boxes.shape) * 0.5, [[30, 20, 38, 28]]])
    labels = np.append(truth.labels, 0)
    labels[rng.random(len(labels)) < 0.1] = 2
    order = np.argsort(-(scores := rng.random(len(boxes))))
    return Detections(
        image_id, boxes[order].astype(np.float32), scores[order].astype(np.float32), labels[order]
    )


class Fail(Hook):
    def __init__(self, how: str, folder: Path) -> None:
        self._how, self._folder = how, folder

    def after_step(self, trainer: Any) -> None:
        if distributed.rank() == 1 and trainer.progress.step == 3:
            (self._folder / "failed_at.txt").write_text(repr(time.time()))
            if self._how == "raise":
                raise MemoryError("rank 1 has no room")
            if self._how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGTERM)


def run_failing(folder: Path, rank: int, world: int, how: str) -> None:
    trainer = train(folder, rank, world, TrainSettings(epochs=100, log_iter=1), Fail(how, folder))
    report = trainer.train()
    (folder / f"stopped_{rank}.txt").write_text(f"{report.progress.step} {report.stopped}")


def main() -> None:
    """Run a task."""
    task, folder = sys.argv[1], Path(sys.argv[2])
    distributed.start()
    rank, world = distributed.rank(), distributed.world_size()
    if task == "equal":
        run_equal(folder, rank, world)
        run_score(folder / "coco", rank, world)
    else:
        run_failing(folder, rank, world, task)


if __name__ == "__main__":
    main()
