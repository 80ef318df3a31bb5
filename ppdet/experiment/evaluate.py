"""The evaluation of an experiment: scores, and the time of each stage from a file to its detections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Optional

import paddle.distributed as dist

from ppdet.data.datasets.base import Dataset
from ppdet.data.readers import Reader
from ppdet.engine import distributed
from ppdet.engine.evaluator import SpeedReport, Stage, evaluate, evaluate_single
from ppdet.experiment.build import build_loader, build_metric, require
from ppdet.experiment.config import Experiment
from ppdet.inference.predictors import NativePredictor, Predictor
from ppdet.inference.runner import ImageRunner
from ppdet.inference.views import Views, fitted, views_of
from ppdet.modeling.interfaces import Detector
from ppdet.structures import Detections

#: Images whose speed is measured where batches larger than 1 are what scores.
TIMED = 100


class Evaluation:
    """Scores a detector on a dataset, as often as it is called.

    Args:
        experiment: Says how images are prepared and which metric counts.
        model: The detector.
        dataset: Annotated images.
        predictor: What runs the network; the model itself if None.
        views: How often each image is looked at; None for what the reader asks for, merged as the model's
            own NMS would.

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
        views: Optional[Views] = None,
    ) -> None:
        self.metric = build_metric(experiment, dataset, with_masks=model.has_masks)
        self.speed: Optional[SpeedReport] = None
        self._predictor = NativePredictor(model) if predictor is None else predictor
        self.dataset = dataset
        self._reader: Reader = require(experiment, "EvalReader").build()
        self._loader = build_loader(experiment, "EvalReader", dataset)
        self._views = fitted(views_of(self._reader), model) if views is None else views

    def __call__(self) -> dict[str, dict[str, float]]:
        """Score; worker processes load images ahead of the model, or threads where it looks several times."""
        if self._views.single:
            return evaluate(self._predictor, self._loader, self.metric)
        share = _Share(ImageRunner(self._reader, self._predictor, self._views), self.dataset)
        return evaluate(list, share, self.metric)

    def score_and_time(self) -> dict[str, dict[str, float]]:
        """Score, and measure the speed on single images that are loaded one by one.

        With batches of one image on one process both come from the same pass over all images. Otherwise the
        batches score, and the first `TIMED` images are timed.
        """
        stages = single_image_stages(self._reader, self.dataset, self._predictor, self._views)
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


class _Share:
    """Detections of this process's share of a dataset, in the place of its batches."""

    def __init__(self, runner: ImageRunner, dataset: Dataset) -> None:
        self._runner, self._dataset = runner, dataset
        self._indices = range(distributed.rank(), len(dataset), distributed.world_size())

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[Sequence[Detections]]:
        for found in self._runner.stream(self._dataset[index] for index in self._indices):
            yield [found.detections]


def single_image_stages(
    reader: Reader, dataset: Dataset, predictor: Predictor, views: Optional[Views] = None
) -> list[Stage]:
    """The way from the index of an image to its detections, for `evaluate_single`.

    Args:
        reader: How images are prepared.
        dataset: Where they come from.
        predictor: What runs the network.
        views: How often each image is looked at; None for what the reader asks for.
    """
    runner = ImageRunner(reader, predictor, views)
    return [
        Stage("read", lambda index: runner.decode(dataset[index])),
        Stage("preprocess", runner.prepare),
        Stage("forward", runner.forward, on_device=True),
        Stage("post", runner.finish),
    ]
