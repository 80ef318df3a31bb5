"""From a checkpoint to a repository of the Hugging Face Hub: weights, configuration, model card."""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any, Optional, Union

from ppdet.config import Spec
from ppdet.experiment.config import Experiment
from ppdet.experiment.model_card import MARK, CardFacts, dataset_of, model_card
from ppdet.experiment.sources import load_detector
from ppdet.experiment.trained import CheckpointDetector, SourceError, TrainedDetector
from ppdet.utils.errors import UserError
from ppdet.utils.files import expanded, replacing, write_text
from ppdet.utils.packages import require_packages
from ppdet.zoo.hub import WEIGHTS, hub_error, require_repository
from ppdet.zoo.locate import read_source
from ppdet.zoo.saving import save_weights

logger = logging.getLogger(__name__)

CARD, CONFIG, REPORT = "README.md", "config.yml", "evaluation.html"


@dataclass(frozen=True)
class PushOptions:
    """What a model card says beside what the checkpoint knows, and who sees it.

    Attributes:
        licence: The hub's identifier of the licence that you give the weights, e.g. ``apache-2.0``.
        dataset: What the AP was measured on; None for the name of the evaluation's annotation file.
        metrics: ``metrics.json`` of ``ppdet eval --json``; None for what the checkpoint recorded.
        report: Page of ``ppdet eval --report``, to be shared too. It shows images of the dataset.
        private: Make a new repository visible to its owners only.
    """

    licence: str
    dataset: Optional[str] = None
    metrics: Optional[Path] = None
    report: Optional[Path] = None
    private: bool = False

    def __post_init__(self) -> None:
        if re.fullmatch(r"[\w.+-]+", self.licence) is None:
            raise UserError(
                f"licence {self.licence!r}: state it as the hub spells it (licence, --licence), "
                "e.g. apache-2.0, or other"
            )
        for path in (self.metrics, self.report):
            if path is not None and not expanded(path).is_file():
                raise UserError(f"{path}: there is no such file")


@dataclass(frozen=True)
class PushResult:
    """What was shared.

    Attributes:
        url: Page of the repository; empty if nothing was sent.
        files: Size in bytes of each file.
        card: Text of the model card.
        card_kept: The repository's own card was written by hand and stays.
    """

    url: str
    files: Mapping[str, int]
    card: str
    card_kept: bool = False

    @property
    def has_numbers(self) -> bool:
        """Whether the card states an AP."""
        return "model-index:" in self.card


def push_weights(
    source: Union[str, os.PathLike[str], TrainedDetector],
    repository: str,
    options: PushOptions,
    *,
    dry_run: bool = False,
) -> PushResult:
    """Share a checkpoint on the Hugging Face Hub, where ``load_detector("hf://owner/name")`` finds it.

    The weights go as safetensors with class names and configuration inside, loaded once before they are
    sent. Absolute paths in the configuration become their last part, so that it tells nothing of your
    machine. One commit sends all files; earlier ones stay in the repository's history.

    Args:
        source: A checkpoint, or a detector from `load_detector` (to give a configuration or class names).
        repository: ``owner/name``; made if there is none.
        options: Licence, dataset, numbers.
        dry_run: Make everything and send nothing.

    Raises:
        SourceError: If it is no checkpoint.
        WeightsError: If it has no class names, or the hub refuses it.
        MissingPackageError: If huggingface_hub is not installed.
    """
    place = require_repository(repository)
    if not dry_run:
        require_packages("huggingface_hub")
    detector = source if isinstance(source, TrainedDetector) else load_detector(source)
    if not isinstance(detector, CheckpointDetector):
        raise SourceError(f"{detector.source} is an export; share the checkpoint it was made from")
    detector.require_names()
    with tempfile.TemporaryDirectory(prefix="ppdet-push-") as folder:
        card = _write(detector, place, options, Path(folder))
        sizes = {path.name: path.stat().st_size for path in sorted(Path(folder).iterdir())}
        if dry_run:
            return PushResult("", sizes, card)
        url, kept = _send(Path(folder), place, options)
    return PushResult(url, sizes, card, kept)


def _write(detector: CheckpointDetector, place: str, options: PushOptions, folder: Path) -> str:
    """The files of the repository; returns the card's text."""
    file = read_source(detector.source)
    experiment = portable(detector.experiment)
    metadata = replace(file.metadata, class_names=detector.class_names, config={"yaml": experiment.to_yaml()})
    save_weights(replace(file, metadata=metadata), folder / WEIGHTS)
    logger.info("checking that what will be sent loads")
    # Plugins are code of this machine, and a checkpoint does not run code.
    load_detector(folder / WEIGHTS, config=detector.experiment if experiment.plugins else None)
    write_text(folder / CONFIG, experiment.to_yaml())
    others = {CONFIG: "the whole configuration"}
    if options.report is not None:
        page = expanded(options.report).read_bytes()
        with replacing(folder / REPORT) as temporary:
            temporary.write_bytes(page)
        others[REPORT] = "explains the evaluation; download it and open it in a browser"
    card = model_card(
        CardFacts(
            repository=place,
            licence=options.licence,
            dataset=" ".join((options.dataset or dataset_of(experiment) or "its validation images").split()),
            metrics=_numbers(metadata.metrics if options.metrics is None else _read(options.metrics)),
            metadata=metadata,
            experiment=experiment,
            parameters=sum(tensor.size for tensor in file.tensors.values()),
            megabytes=(folder / WEIGHTS).stat().st_size / 1e6,
            files=others,
        )
    )
    write_text(folder / CARD, card)
    return card


def _read(path: Path) -> Mapping[str, Any]:
    """What ``ppdet eval --json`` wrote.

    Raises:
        UserError: If it is something else.
    """
    try:
        content = json.loads(expanded(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as the JSON of `ppdet eval --json`: {error}") from None
    numbers = _numbers(content) if isinstance(content, dict) else {}
    if not numbers:
        raise UserError(f"{path}: holds no numbers of `ppdet eval --json`, such as bbox.AP")
    return numbers


def _numbers(content: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The tasks and their numbers; speed and classes are left out."""
    return {
        task: {name: float(value) for name, value in values.items() if isinstance(value, (int, float))}
        for task, values in content.items()
        if task not in ("fps", "classwise", "analysis") and isinstance(values, Mapping)
    }


def portable(experiment: Experiment) -> Experiment:
    """A configuration whose absolute paths are their last part, so that it names no folder of a machine."""
    values = {f.name: _without_folders(getattr(experiment, f.name)) for f in fields(experiment) if f.init}
    return replace(experiment, **values)


def _without_folders(value: Any) -> Any:
    if isinstance(value, Spec):
        arguments = {key: _without_folders(item) for key, item in value.arguments.items()}
        return Spec(value.component, arguments, value.origin, value.origins)
    if isinstance(value, (list, tuple)):
        return type(value)(_without_folders(item) for item in value)
    if isinstance(value, Mapping):
        return {key: _without_folders(item) for key, item in value.items()}
    if not isinstance(value, (str, PurePath)):
        return value
    text = os.fspath(value)
    pure = PureWindowsPath(text) if "\\" in text else PurePosixPath(text)
    absolute = pure.is_absolute() or PureWindowsPath(text).is_absolute() or text.startswith("~")
    return type(value)(pure.name) if absolute else value


def _send(folder: Path, place: str, options: PushOptions) -> tuple[str, bool]:
    """Make the repository if need be, and send the files; a card that was written by hand stays."""
    from huggingface_hub import HfApi, errors

    hub = HfApi()
    try:
        repository = hub.create_repo(place, private=options.private or None, exist_ok=True)
        try:
            there = Path(hub.hf_hub_download(place, CARD)).read_text("utf-8")
        except errors.EntryNotFoundError:
            there = MARK
        kept = MARK not in there
        if kept:
            (folder / CARD).unlink()
        hub.upload_folder(repo_id=place, folder_path=folder, commit_message="Weights by ppdet")
    except (OSError, ValueError, errors.EntryNotFoundError, errors.HTTPError) as error:
        raise hub_error(error, f"hf://{place}", place) from error
    return str(repository), kept
