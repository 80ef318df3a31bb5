"""Every public name of ppdet in one script: own data and parts, training, evaluation, detection, export."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np

import ppdet
from ppdet.config import Derived
from ppdet.structures import GroundTruth


def square(index: int) -> ppdet.Sample:
    """Noise with one bright square, and its box."""
    rng = np.random.default_rng(index)
    image = rng.integers(0, 80, (96, 96, 3), dtype=np.uint8)
    x, y = (int(n) for n in rng.integers(8, 56, 2))
    image[y : y + 32, x : x + 32] = 230
    box = np.array([[x, y, x + 32, y + 32]], np.float32)
    target = ppdet.Target(boxes=box, labels=np.zeros(1, np.int64), is_crowd=np.zeros(1, bool))
    return ppdet.Sample(image_id=index, path=f"square {index}", image=image, target=target)


@ppdet.register
class Count(ppdet.Metric):
    """Detections per image; the least useful metric there is."""

    def __init__(self, *, truth: Derived[GroundTruth]) -> None:
        super().__init__(truth)

    def compute(self) -> dict[str, dict[str, float]]:
        return {"count": {"mean": float(np.mean([len(found) for found in self.detections]))}}


class Print(ppdet.Hook):
    """Shows where checkpoints are saved."""

    def after_save(self, trainer: object, path: object) -> None:
        print("saved", path)


print(ppdet.__version__, len(ppdet.packaged_configs()), "packaged configs")
changes = {"num_classes": 1, "max_iters": 2, "worker_num": 0, "filename": "squares"}
cfg: ppdet.Experiment = ppdet.load_config("quickstart_faster_rcnn", changes)
train: ppdet.Dataset = ppdet.SampleDataset([square(i) for i in range(16)], ["square"], name="squares")
categories: ppdet.Categories = train.categories
val = ppdet.SampleDataset([square(i) for i in range(100, 104)], categories)
run: ppdet.TrainResult = ppdet.train(cfg, datasets={"train": train, "eval": val}, hooks=[Print()])
detector: ppdet.TrainedDetector = ppdet.load_detector(f"{run.folder}/model_final", runtime="native")
result: ppdet.EvalResult = ppdet.evaluate(detector, val)
print(result.metrics["bbox"]["AP"], result.per_class)
image = square(200).image
assert image is not None
tiles = ppdet.ViewOptions(tile_size=(64, 64))
detections: ppdet.Detections = detector(image, threshold=0.0, views=tiles)[0]
best: list[ppdet.Detection] = list(detections.filter(score=0.0, classes=["square"]))[:1]
print(best, ppdet.draw(image, detections[:3]).shape)
options = ppdet.PredictOptions(threshold=0.0, formats=("json", "csv"))
written: ppdet.PredictResult = ppdet.predict(detector, [image], "squares", options)
print(written.files)
shared: ppdet.PushResult = ppdet.push_weights(
    f"{run.folder}/model_final", "me/squares", ppdet.PushOptions("apache-2.0"), dry_run=True
)
print(shared.files)
model = ppdet.build_model(cfg)
print(ppdet.load_weights(model, f"{run.folder}/model_final").table())
stop = threading.Timer(5, os.kill, (os.getpid(), signal.SIGTERM))  # as `docker stop` does
stop.start()
ppdet.serve_detector(detector, ppdet.ServeOptions(port=0, limits=ppdet.ServeLimits(batch_size=2)))
try:
    detector.export("squares/exported", formats=["paddle"], verify=False)
    ppdet.load_config("no_such_config")
except ppdet.UserError as error:
    print(error)
try:
    made: ppdet.NewConfig = ppdet.new_config("dataset/mine")
    print(made.commands)
except ppdet.UserError as error:
    print(error)  # there is no such folder
