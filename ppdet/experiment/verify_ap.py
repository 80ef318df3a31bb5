"""Has an export the AP of its model?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ppdet.data.datasets.base import Dataset
from ppdet.engine.evaluator import evaluate
from ppdet.experiment.build import build_loader, build_metric
from ppdet.experiment.config import Experiment
from ppdet.export.errors import VerifyError
from ppdet.export.info import FILE_NAME
from ppdet.export.runtime import ExportedPredictor, Runtime
from ppdet.inference.predictors import NativePredictor, Predictor
from ppdet.modeling.interfaces import Detector

#: Largest allowed difference of an AP, which goes from 0 to 1: a tenth of what papers call a point.
AP = 1e-3


def verify_ap(
    model: Detector, folder: Path, experiment: Experiment, dataset: Dataset, runtimes: Sequence[Runtime]
) -> str:
    """Evaluate the model and its exports on a dataset.

    Args:
        model: The model.
        folder: Of the export, which was compared on images before.
        experiment: Says how images are prepared (`EvalReader`) and what is measured.
        dataset: Annotated images.
        runtimes: What was exported.

    Returns:
        A table of AP by runtime and task, in hundredths.

    Raises:
        ExportError: If the export takes bytes.
        VerifyError: With the table, if a difference is larger than `AP`. The folder is no export then: it has
            no ``export.json``.
    """
    with_masks = model.has_masks
    metric = build_metric(experiment, dataset, with_masks=with_masks)
    predictors: dict[str, Predictor] = {"native": NativePredictor(model)}
    predictors.update({runtime: ExportedPredictor(folder, runtime) for runtime in runtimes})
    found: dict[str, dict[str, float]] = {}
    for name, predictor in predictors.items():
        loader = build_loader(experiment, "EvalReader", dataset)
        scores = evaluate(predictor, loader, metric)
        found[name] = {task: next(iter(numbers.values())) for task, numbers in scores.items()}
    tasks = list(found["native"])
    lines = [f"{'AP on ' + str(len(dataset)) + ' images':<24}" + "".join(f"{task:>10}" for task in tasks)]
    lines += [
        f"{name:<24}" + "".join(f"{100 * row[task]:>10.3f}" for task in tasks) for name, row in found.items()
    ]
    lines.append(f"{'limit':<24}" + f"{100 * AP:>10.3f}" * len(tasks))
    table = "\n".join(lines)
    if any(abs(row[task] - found["native"][task]) > AP for row in found.values() for task in tasks):
        (folder / FILE_NAME).unlink()
        raise VerifyError(f"the export in {folder} has another AP than the model:\n{table}")
    return table
