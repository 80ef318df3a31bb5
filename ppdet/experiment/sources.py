"""From a checkpoint, an export, a zoo name, a URL or the hub to a trained detector."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Optional, Union

from ppdet.config.overrides import Overrides
from ppdet.engine.checkpoint import BEST, FINAL
from ppdet.experiment.build import build_model, set_device
from ppdet.experiment.config import Experiment, as_experiment, load_config_text
from ppdet.experiment.trained import CheckpointDetector, ExportedDetector, SourceError, TrainedDetector
from ppdet.export.choose import Choice
from ppdet.export.info import FILE_NAME
from ppdet.modeling.initial_weights import without_random_weights
from ppdet.utils.errors import DataError
from ppdet.utils.files import expanded
from ppdet.zoo import ZooEntry, class_names_of, load_weights, locate
from ppdet.zoo.locate import read_located
from ppdet.zoo.weight_file import WeightFile

logger = logging.getLogger(__name__)


def load_detector(
    source: Union[str, os.PathLike[str]],
    *,
    config: Union[str, os.PathLike[str], Experiment, None] = None,
    overrides: Overrides = (),
    classes: Union[str, Sequence[str], None] = None,
    runtime: Choice = "auto",
    device: str = "auto",
    allow_partial: bool = False,
) -> TrainedDetector:
    """Load a trained detector.

    Args:
        source: A checkpoint (``output/x/best_model``, with or without its ending), the folder of an export,
            the name of published weights (`ppdet weights list`), a URL, or ``hf://owner/name`` for the
            Hugging Face Hub (maybe with ``@revision`` and ``/file``).
        config: Configuration to use in place of the one that the checkpoint carries: for weights of other
            programs, which carry none. Published weights have one in the zoo table.
        overrides: Changes to the configuration, as in `ppdet.load_config`.
        classes: Class names, for weights that carry none: a sequence, a file with one name a line, ``a,b,c``
            or the name of a data set.
        runtime: ``auto``, ``native`` (Paddle, operation by operation), ``paddle`` (Paddle Inference),
            ``paddle-bf16``, ``onnx`` (ONNX Runtime), ``openvino``.
        device: ``auto``, ``cpu``, ``gpu`` or ``gpu:i``.
        allow_partial: Accept weights that leave parts of the model as they are.

    Raises:
        WeightsError: If there are no such weights, they do not fit the configuration, or nothing says what
            their classes are called.
        ConfigError: If the configuration is not in order.
        SourceError: If nothing says which model the weights belong to.
    """
    exported = _export_folder(source)
    if exported is not None:
        set_device(device)
        return ExportedDetector(exported, runtime=runtime)
    experiment = None if config is None else as_experiment(config, overrides)
    located = locate(os.fspath(source))
    file = read_located(located)
    if experiment is None:
        experiment = _own_experiment(file, located.entry, overrides)
    set_device(device, use_gpu=experiment.use_gpu)
    conventions = file.metadata.conventions
    if conventions:
        logger.info("these weights use the %s box conventions; the model is built with them", conventions)
        experiment = experiment.with_shared("conventions", conventions)
    names = _names(file, experiment, classes)
    with nullcontext() if allow_partial else without_random_weights():
        model = build_model(experiment)
    report = load_weights(model, file, class_names=names, allow_partial=allow_partial)
    return CheckpointDetector(model, experiment, class_names=names, source=report.source, runtime=runtime)


def files_read(detector: TrainedDetector, experiment: Optional[Experiment] = None) -> list[Path]:
    """Files that a detector and its evaluation are made from, which no result may be written over.

    Args:
        detector: The detector.
        experiment: The configuration whose EvalDataset is read; None for the detector's own.
    """
    source = Path(detector.source)
    weights = [source / FILE_NAME, *source.rglob("model.*")] if source.is_dir() else [source]
    experiments = [one for one in (detector.experiment, experiment) if one is not None]
    configs = [place.file for one in experiments for place in one.origins.values()]
    read = [*weights, *map(Path, configs), *(one.source for one in experiments)]
    if experiments and experiments[-1].EvalDataset is not None:
        given = experiments[-1].EvalDataset.arguments
        parts = [expanded(given.get(key) or "") for key in ("dataset_dir", "anno_path")]
        read.append(parts[0] / parts[1])
    return [path for path in dict.fromkeys(read) if path.is_file()]


def _export_folder(source: Union[str, os.PathLike[str]]) -> Optional[Path]:
    """The folder of an export; None for other sources."""
    folder = Path(os.path.expandvars(os.fspath(source))).expanduser()
    if not folder.is_dir():
        return None
    if (folder / FILE_NAME).is_file():
        return folder
    # The best and the last one first, then the newest.
    newest = sorted(folder.glob("*.pdparams"), key=lambda path: path.stat().st_mtime, reverse=True)
    there = sorted((path.stem for path in newest), key=lambda name: (name != BEST, name != FINAL))
    cure = f"name a checkpoint in it: {', '.join(str(folder / name) for name in there[:3])}"
    raise SourceError(
        f"{folder} is a folder without {FILE_NAME}, so not an export; "
        + (cure if there else "it has no checkpoint (.pdparams) either")
    )


def _own_experiment(file: WeightFile, entry: Optional[ZooEntry], overrides: Overrides) -> Experiment:
    """The configuration that weights carry, or that the zoo table names for them."""
    text = file.metadata.config.get("yaml")
    if isinstance(text, str):
        return load_config_text(text, f"config of {file.path}", overrides)
    if entry is not None and entry.config is not None:
        return as_experiment(entry.config, overrides)
    raise SourceError(
        f"{file.path}: carries no configuration, so nothing says which model these weights belong to; "
        "name one (config=, -c): a YAML, or one of `ppdet configs list`"
    )


def _names(
    file: WeightFile, experiment: Experiment, classes: Union[str, Sequence[str], None]
) -> tuple[str, ...]:
    """Class names of the weights, of the caller, or of the configuration's TestDataset; empty for none."""
    given = classes if classes is None or isinstance(classes, str) else ",".join(classes)
    if given or file.metadata.class_names:
        return class_names_of(file, classes=given, num_classes=experiment.num_classes)
    if experiment.TestDataset is not None:
        try:
            names = experiment.TestDataset.build().categories.names
        except DataError as error:
            logger.debug("TestDataset gives no class names: %s", error)
            return ()
        return names if len(names) == experiment.num_classes else ()
    return ()
