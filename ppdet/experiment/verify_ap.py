"""The AP of an export beside that of the model it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ppdet.engine.evaluator import evaluate
from ppdet.experiment.build import build_dataset, build_loader, build_metric
from ppdet.experiment.trained import CheckpointDetector
from ppdet.export.errors import VerifyError
from ppdet.export.info import FILE_NAME
from ppdet.export.runtime import ExportedPredictor
from ppdet.export.sessions import Runtime
from ppdet.inference.predictors import NativePredictor, Predictor
from ppdet.structures import Categories
from ppdet.utils.tables import text_table

#: Largest allowed difference of an AP, which goes from 0 to 1: a tenth of what papers call a point.
AP = 1e-3


def verify_ap(detector: CheckpointDetector, folder: Path, runtimes: Sequence[Runtime]) -> str:
    """Evaluate a detector and its exports on the EvalDataset of its configuration.

    Args:
        detector: The detector.
        folder: Of the export, which was compared on images before.
        runtimes: What was exported.

    Returns:
        A table of AP by runtime and task, in hundredths.

    Raises:
        ExportError: If the export takes uint8 images.
        VerifyError: With the table, if a difference is larger than `AP`. The folder is no export then: its
            ``export.json`` is removed.
    """
    predictors: dict[str, Predictor] = {"native": NativePredictor(detector.model)}
    predictors.update({runtime: ExportedPredictor(folder, runtime) for runtime in runtimes})
    measured, images = average_precisions(detector, predictors)
    tasks = list(measured["native"])
    rows = [[f"AP on {images} images", *tasks]]
    rows += [[name, *(f"{100 * row[task]:.3f}" for task in tasks)] for name, row in measured.items()]
    rows.append(["limit", *[f"{100 * AP:.3f}"] * len(tasks)])
    table = text_table(rows)
    if any(abs(row[task] - measured["native"][task]) > AP for row in measured.values() for task in tasks):
        (folder / FILE_NAME).unlink()
        raise VerifyError(f"the export in {folder} has another AP than the model:\n{table}")
    return table


def average_precisions(
    detector: CheckpointDetector, predictors: Mapping[str, Predictor]
) -> tuple[dict[str, dict[str, float]], int]:
    """The AP of predictors of one detector on the EvalDataset of its configuration.

    Returns:
        By predictor and task, 0 to 1; and the number of images.
    """
    experiment = detector.experiment
    dataset = build_dataset(experiment, "EvalDataset", Categories.from_names(detector.class_names))
    metric = build_metric(experiment, dataset, with_masks=detector.model.has_masks)
    measured: dict[str, dict[str, float]] = {}
    for name, predictor in predictors.items():
        loader = build_loader(experiment, "EvalReader", dataset)
        scores = evaluate(predictor, loader, metric)
        measured[name] = {task: next(iter(numbers.values())) for task, numbers in scores.items()}
    return measured, len(dataset)
