"""The evaluation of an experiment: scores, and the time of each stage from a file to its detections."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
import paddle.distributed as dist

from ppdet.data.batching import collate
from ppdet.data.datasets.base import Dataset
from ppdet.data.loader import to_batch
from ppdet.data.readers import Reader
from ppdet.data.transforms.decode import Decode
from ppdet.engine import distributed
from ppdet.engine.evaluator import SpeedReport, Stage, evaluate, evaluate_single
from ppdet.experiment import Experiment
from ppdet.modeling.detectors.predictor import NativePredictor, Predictor
from ppdet.modeling.interfaces import Detector
from ppdet.recipes import build_loader, build_metric, needs_masks, require
from ppdet.structures import Batch, Detections, Sample

#: Images whose speed is measured where batches larger than 1 are what scores.
TIMED = 100


class Evaluation:
    """Scores a detector on a dataset, as often as it is called.

    Args:
        experiment: Says how images are prepared and which metric counts.
        model: The detector.
        dataset: Annotated images.
        predictor: What runs the network; the model itself if None.

    Attributes:
        dataset: Annotated images.
        metric: Of the last call: per-class numbers and detections.
        speed: Of the last call of `score_and_time`.
    """

    def __init__(
        self,
        experiment: Experiment,
        model: Detector,
        dataset: Dataset,
        predictor: Optional[Predictor] = None,
    ) -> None:
        self.metric = build_metric(experiment, dataset, with_masks=needs_masks(model))
        self.speed: Optional[SpeedReport] = None
        self._predictor = NativePredictor(model) if predictor is None else predictor
        self.dataset = dataset
        self._reader: Reader = require(experiment, "EvalReader").build()
        self._loader = build_loader(experiment, "EvalReader", dataset)

    def __call__(self) -> dict[str, dict[str, float]]:
        """Score; images are loaded by worker processes ahead of the model."""
        return evaluate(self._predictor, self._loader, self.metric)

    def score_and_time(self) -> dict[str, dict[str, float]]:
        """Score, and measure the speed on single images that are loaded one by one.

        With batches of one image on one process both come from the same pass over all images. Otherwise the
        batches score, and the first `TIMED` images are timed.
        """
        stages = single_image_stages(self._reader, self.dataset, self._predictor)
        if self._loader.batch_size == 1 and dist.get_world_size() == 1 and not self._reader.skips_corrupt:
            self.metric.reset()
            self.speed = evaluate_single(
                range(len(self.dataset)), stages, self.metric, runtime=self._predictor.runtime
            )
            return self.metric.compute()
        scores = self()
        if not distributed.is_main():
            return scores
        timed = range(min(TIMED, len(self.dataset)))
        self.speed = evaluate_single(timed, stages, runtime=self._predictor.runtime)
        return scores


def single_image_stages(reader: Reader, dataset: Dataset, predictor: Predictor) -> list[Stage]:
    """The way from the index of an image to its detections, for `evaluate_single`.

    Args:
        reader: How images are prepared.
        dataset: Where they come from.
        predictor: What runs the network.
    """
    rng = np.random.default_rng(0)
    steps = list(reader.sample_transforms)
    decodes = [step for step in steps if isinstance(step, Decode)][:1]
    rest = [step for step in steps if step not in decodes]

    def read(index: int) -> Sample:
        sample = dataset[index]
        for step in decodes:
            sample = step(sample, rng)
        return sample

    def preprocess(sample: Sample) -> Batch:
        for step in rest:
            sample = step(sample, rng)
        samples = [sample]
        for batch_step in reader.batch_transforms:
            samples = batch_step.run(samples, rng)
        return to_batch(collate(samples, with_masks=False))

    def forward(batch: Batch) -> Any:
        return batch, predictor.run(batch)

    def post(found: Any) -> list[Detections]:
        return predictor.finish(*found)

    return [
        Stage("read", read),
        Stage("preprocess", preprocess),
        Stage("forward", forward, on_device=True),
        Stage("post", post),
    ]
