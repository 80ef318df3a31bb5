"""The evaluation of a detector: metrics, and the time of each stage from a file to its detections."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Optional, Union

from ppdet.config.overrides import Overrides
from ppdet.data.datasets.base import AnnotatedDataset, Dataset
from ppdet.data.datasets.samples import as_dataset
from ppdet.data.loader import Loader
from ppdet.data.readers import Reader
from ppdet.engine import distributed
from ppdet.engine.evaluator import SpeedReport, Stage, evaluate_single
from ppdet.engine.evaluator import evaluate as evaluate_batches
from ppdet.experiment.build import build_dataset, build_metric, loader_of, require
from ppdet.experiment.config import Experiment, as_experiment
from ppdet.experiment.sources import load_detector
from ppdet.experiment.trained import SourceError, TrainedDetector
from ppdet.export.choose import Choice
from ppdet.inference.predictors import NativePredictor
from ppdet.inference.runner import ImageRunner
from ppdet.inference.views import ViewOptions
from ppdet.metrics.analysis.analysis import Analysis
from ppdet.metrics.analysis.confusion import Confusion
from ppdet.metrics.analysis.instances import objects_of_truth, predictions_of_detections
from ppdet.metrics.analysis.operating_points import ThresholdCurve
from ppdet.metrics.analysis.tide import Errors
from ppdet.metrics.base import Metric
from ppdet.modeling.interfaces import Detector
from ppdet.report.evaluation import evaluation_page, summary
from ppdet.report.page import finite
from ppdet.structures import Categories, Detections, GroundTruth, Sample
from ppdet.utils.files import expanded, write_json, write_text

logger = logging.getLogger(__name__)

#: Kind of a problem -> what is told of the images that have it, with the first of them.
_HEADERS = {
    "image-size": "have another size than their annotation says: %s. The image's size is used; check the "
    "boxes (ppdet data check names every such image)",
    "image-corrupt": "are no images: %s. Restore or remove them (ppdet data check names every one), or set "
    "skip_corrupt: true in the reader",
}

#: What `evaluate` takes as data.
EvalData = Union[Dataset, Sequence[Sample], Experiment, str, "os.PathLike[str]", None]
#: Images whose speed is measured where batches larger than 1 are what scores.
TIMED = 100


@dataclass(frozen=True)
class EvalResult:
    """What an evaluation measured.

    Attributes:
        metrics: Numbers by task and name, each 0 to 1 or -1 where there is nothing to measure:
            ``{"bbox": {"AP": 0.37, "AP50": 0.58, ...}, "segm": {...}}``.
        per_class: AP by task and class name; None for a class without objects.
        speed: Images per second at batch 1 and milliseconds per stage; see docs/evaluation.md.
        detections: Per image, by rising image id.
        class_names: K names by label.
        results: The detections in COCO's results format: a list of plain dicts.
        truth: Annotated objects; None in processes other than the first.
        image_paths: File of each image by its id.
    """

    metrics: Mapping[str, Mapping[str, float]]
    per_class: Mapping[str, Mapping[str, Optional[float]]]
    speed: Mapping[str, Any]
    detections: Sequence[Detections]
    class_names: tuple[str, ...]
    results: Sequence[Mapping[str, Any]]
    truth: Optional[GroundTruth] = None
    image_paths: Mapping[int, str] = field(default_factory=dict)

    @property
    def has_masks(self) -> bool:
        """Whether masks were scored."""
        return "segm" in self.metrics

    @cached_property
    def analysis(self) -> Analysis:
        """Analyses of the boxes, each computed when it is first read."""
        return self.analyse()

    def analyse(self, *, masks: bool = False) -> Analysis:
        """Compare the detections with the ground truth.

        Args:
            masks: Compare masks instead of boxes.

        Raises:
            SourceError: If masks were not scored, or this is not the first process.
        """
        if self.truth is None or (masks and not self.has_masks):
            raise SourceError("nothing to analyse: no masks were scored, or another process did it")
        objects = objects_of_truth(
            self.truth, with_masks=masks, skip_difficult="mAP" in self.metrics.get("bbox", {})
        )
        paths = zip(objects.image_ids, objects.file_names)
        objects = replace(objects, file_names=tuple(self.image_paths.get(i, name) for i, name in paths))
        found = predictions_of_detections(self.detections, objects, self.class_names, with_masks=masks)
        return Analysis(objects, found)

    @property
    def errors(self) -> Errors:
        """Kinds of error and what each costs in AP50, after TIDE."""
        return self.analysis.errors

    @property
    def confusion(self) -> Confusion:
        """Confusion matrix with background, at the score threshold of the highest F1."""
        return self.analysis.confusion

    @property
    def curves(self) -> dict[str, ThresholdCurve]:
        """Precision, recall and F1 against the threshold, by class name; ``""`` for all together."""
        names = self.analysis.objects.class_names
        return {"": self.analysis.curve, **dict(zip(names, self.analysis.class_curves))}

    def to_dict(self, *, with_analysis: bool = False) -> dict[str, Any]:
        """Metrics, AP per class and speed, ready for JSON.

        Args:
            with_analysis: Add the numbers of the report as ``analysis``.
        """
        content = {**self.metrics, "fps": dict(self.speed), "classwise": dict(self.per_class)}
        return {**content, "analysis": finite(summary(self.analysis))} if with_analysis else content

    def save(self, path: Union[str, os.PathLike[str]], *, with_analysis: bool = False) -> None:
        """Write `to_dict` as JSON."""
        write_json(expanded(path), self.to_dict(with_analysis=with_analysis), indent=1)

    def save_report(self, path: Union[str, os.PathLike[str]], *, title: str = "evaluation") -> list[Path]:
        """Write the page that explains the evaluation, and ``<name>_masks.html`` where there are masks.

        Args:
            path: HTML file.
            title: Title of the page.

        Returns:
            The files that were written.

        Raises:
            ReportError: If Jinja2 is not installed.
        """
        target = expanded(path)
        pages = {target: self.analysis}
        if self.has_masks:
            pages[target.with_name(f"{target.stem}_masks{target.suffix}")] = self.analyse(masks=True)
        for file, analysis in pages.items():
            write_text(file, evaluation_page(analysis, title=title, images=Path(), speed=self.speed or None))
        return list(pages)

    def save_results(self, path: Union[str, os.PathLike[str]]) -> None:
        """Write the detections in COCO's results format."""
        write_json(expanded(path), list(self.results))


def evaluate(
    detector: Union[TrainedDetector, Experiment, str, os.PathLike[str]],
    dataset: EvalData = None,
    *,
    weights: Optional[str] = None,
    overrides: Overrides = (),
    runtime: Choice = "auto",
    device: str = "auto",
    views: ViewOptions = ViewOptions(),  # noqa: B008  (immutable)
    allow_partial: bool = False,
) -> EvalResult:
    """Measure the AP and the speed of a detector.

    Args:
        detector: A detector from `load_detector`, or a configuration whose `weights` are evaluated.
        dataset: Annotated images: a `ppdet.Dataset`, a sequence of `ppdet.Sample`, or a configuration whose
            EvalDataset they are; None for the EvalDataset of the detector's own configuration. Classes are
            matched by name.
        weights: Weights to evaluate in place of those that the configuration names.
        overrides: Changes to the configuration, as in `ppdet.load_config`.
        runtime: What runs the network, for a configuration; see `load_detector`.
        device: Where to compute, for a configuration; see `load_detector`.
        views: Test-time augmentation.
        allow_partial: Accept weights that leave parts of the model as they are.

    Returns:
        The measurements. In processes other than the first of a distributed evaluation, the metrics alone.

    Raises:
        UserError: If the weights, the configuration or the dataset are missing or do not fit each other.
    """
    distributed.start()
    if not isinstance(detector, TrainedDetector):
        experiment = as_experiment(detector, overrides)
        dataset = experiment if dataset is None else dataset  # an export has none of its own
        detector = load_detector(
            weights_of(experiment, weights),
            config=experiment,
            runtime=runtime,
            device=device,
            allow_partial=allow_partial,
        )
    evaluation = _evaluation_of(detector, dataset, views)
    if distributed.is_main():
        compare_sizes({"evaluation": evaluation.dataset})
    metrics = evaluation.score_and_time()
    names = evaluation.dataset.categories.names
    if evaluation.speed is None:
        return EvalResult(metrics, {}, {}, (), names, ())
    samples = (evaluation.dataset[index] for index in range(len(evaluation.dataset)))
    return EvalResult(
        metrics=metrics,
        per_class=evaluation.metric.classwise(),
        speed=evaluation.speed.to_dict(),
        detections=evaluation.metric.detections,
        class_names=names,
        results=evaluation.metric.results(),
        truth=evaluation.metric.truth,
        image_paths={sample.image_id: sample.path for sample in samples},
    )


def compare_sizes(datasets: Mapping[str, Optional[Dataset]]) -> None:
    """Warn of images that are none, and of annotations that give another size than their image has.

    Args:
        datasets: By what messages call their images.
    """
    for name, dataset in datasets.items():
        if not isinstance(dataset, AnnotatedDataset):
            continue
        problems, compared = dataset.header_problems()
        for kind, words in _HEADERS.items():
            texts = [problem.text for problem in problems if problem.kind == kind]
            if texts:
                logger.warning("%d of %d %s images compared " + words, len(texts), compared, name, texts[0])


def weights_of(experiment: Experiment, weights: Optional[str]) -> str:
    """The weights to evaluate or run: those given, else those that the configuration names.

    Raises:
        SourceError: If there are none.
    """
    chosen = weights or experiment.weights
    if not chosen:
        raise SourceError(
            f"{experiment.source} names no weights; give some (weights=, --weights): a file, zoo name or URL"
        )
    return chosen


def _evaluation_of(detector: TrainedDetector, dataset: EvalData, views: ViewOptions) -> Evaluation:
    # Labels are the classes of the weights; datasets are matched with them by name.
    categories = Categories.from_names(detector.class_names) if detector.class_names else None
    experiment = detector.experiment
    if dataset is None or isinstance(dataset, (Experiment, str, os.PathLike)):
        experiment = experiment if dataset is None else as_experiment(dataset)
        if experiment is None:
            raise SourceError(
                f"{detector.source} is an export, which has no EvalDataset; name a dataset or a configuration"
            )
        images = build_dataset(experiment, "EvalDataset", categories)
    else:
        images = as_dataset(dataset, categories=categories)
    runner = detector.runner(len(images), views=views, reader="EvalReader")
    metric = build_metric(experiment, images, with_masks=detector.has_masks)
    return Evaluation(images, metric, runner, loader_of(runner.reader, images, experiment))


def training_evaluation(experiment: Experiment, model: Detector, dataset: Dataset) -> Evaluation:
    """The evaluation of a model in training, as often as it is called.

    Args:
        experiment: Says how images are prepared and which metric counts.
        model: The detector.
        dataset: Annotated images.
    """
    reader: Reader = require(experiment, "EvalReader").build()
    views = ViewOptions().views(reader, model.final_nms)
    runner = ImageRunner(reader, NativePredictor(model), views)
    metric = build_metric(experiment, dataset, with_masks=model.has_masks)
    return Evaluation(dataset, metric, runner, loader_of(reader, dataset, experiment))


class Evaluation:
    """Scores a detector on a dataset, as often as it is called.

    Args:
        dataset: Annotated images.
        metric: Scores detections against them.
        runner: Prepares images and runs the network.
        loader: Batches of the dataset, prepared by the runner's reader.

    Attributes:
        dataset: Annotated images.
        metric: Of the last call: per-class numbers and detections.
        speed: Of the last call of `score_and_time`.
    """

    def __init__(self, dataset: Dataset, metric: Metric, runner: ImageRunner, loader: Loader) -> None:
        self.dataset = dataset
        self.metric = metric
        self.speed: Optional[SpeedReport] = None
        self._runner = runner
        self._loader = loader

    def __call__(self) -> dict[str, dict[str, float]]:
        """Score; processes load images ahead of the model, or threads with test-time augmentation."""
        self._runner.predictor.refresh()
        if self._runner.views.single:
            return evaluate_batches(self._runner.predictor, self._loader, self.metric)
        return evaluate_batches(list, _Share(self._runner, self.dataset), self.metric)

    def score_and_time(self) -> dict[str, dict[str, float]]:
        """Score, and measure the speed on single images that are loaded one by one.

        With batches of one image on one process both come from the same pass over all images. Otherwise the
        batches score, and the first `TIMED` images are timed.
        """
        self._runner.predictor.refresh()
        stages = single_image_stages(self._runner, self.dataset)
        runtime = self._runner.predictor.runtime
        one_pass = self._loader.batch_size == 1 and distributed.world_size() == 1
        if one_pass and not self._runner.skips_corrupt:
            self.metric.reset()
            self.speed = evaluate_single(range(len(self.dataset)), stages, self.metric, runtime=runtime)
            return self.metric.compute()
        scores = self()
        if distributed.is_main():
            timed = range(min(TIMED, len(self.dataset)))
            self.speed = evaluate_single(timed, stages, runtime=runtime)
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


def single_image_stages(runner: ImageRunner, dataset: Dataset) -> list[Stage]:
    """The way from the index of an image to its detections, for `evaluate_single`.

    Args:
        runner: Prepares images and runs the network.
        dataset: Where they come from.
    """
    return [
        Stage("read", lambda index: runner.decode(dataset[index])),
        Stage("preprocess", runner.prepare),
        Stage("forward", runner.forward, on_device=True),
        Stage("post", runner.finish),
    ]
