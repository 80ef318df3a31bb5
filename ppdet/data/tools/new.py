"""From a folder of labelled images to a configuration that trains: `ppdet new`."""

from __future__ import annotations

import difflib
import os
import re
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

from ppdet.config.packaged import packaged_configs
from ppdet.config.spec import Spec
from ppdet.data.datasets.base import AnnotatedDataset
from ppdet.data.datasets.coco import COCODataSet
from ppdet.data.formats.dataset import LabelledDataset
from ppdet.data.problems import REMARKS, DatasetProblemsError, describe
from ppdet.data.tools.check import check_dataset
from ppdet.data.tools.config_anchors import better_anchors
from ppdet.data.tools.input_size import InputSize, choose_input_size, resized_readers
from ppdet.data.tools.new_parts import train_and_val
from ppdet.data.tools.new_yaml import Draft, Part, config_text
from ppdet.data.tools.recipe import BACKBONE, DETECTOR, OWN, SCRATCH, fit_recipe
from ppdet.experiment.config import Experiment, load_config
from ppdet.utils.errors import DataError, FileError, UserError
from ppdet.utils.files import expanded, write_json, write_text
from ppdet.utils.machine import Machine, this_machine
from ppdet.zoo.locate import can_be_had
from ppdet.zoo.table import entries, find

#: What to train where nobody says: docs/choosing.md has the figures.
_DEFAULT, _SMALL = "ppyoloe_plus_crn_s_80e_coco", "quickstart_ppyoloe"
#: `weights` that means none.
NO_WEIGHTS = "none"
#: Problems that a training can live with, though its figures may not.
_TOLD = REMARKS | {"train-val-overlap"}


@dataclass(frozen=True)
class NewConfig:
    """What `new_config` made.

    Attributes:
        config: The configuration.
        annotations: Annotation files that were written; none where the dataset's own are used.
        commands: Train, evaluate, detect, export.
        notes: What a user should know, in sentences.
    """

    config: Path
    annotations: tuple[Path, ...]
    commands: tuple[str, ...]
    notes: tuple[str, ...]


def new_config(
    data: Union[str, os.PathLike[str]],
    *,
    kind: str = "auto",
    model: Optional[str] = None,
    output: Union[str, os.PathLike[str], None] = None,
    weights: Optional[str] = None,
    epochs: Optional[int] = None,
    val_share: float = 0.2,
    seed: int = 0,
    machine: Optional[Machine] = None,
) -> NewConfig:
    """Write a configuration that trains a detector on a dataset, with numbers that fit both and the machine.

    Args:
        data: Folder or file of a dataset in any format that ppdet reads. Images stay where they are;
            annotations are converted into a folder beside the configuration.
        kind: Its format, a key of `ppdet.data.formats.registry.FORMATS`; ``auto`` recognises it.
        model: Name of a packaged configuration; None chooses one.
        output: The configuration to write; None names it after the dataset, in the current folder.
        weights: Weights of a detector to start from: file, zoo name or URL; ``"none"`` for none. None takes
            the published ones of the model if they can be had.
        epochs: Epochs; None chooses them by the number of images.
        val_share: Share of the images to validate on, where the dataset is not split.
        seed: Of the split.
        machine: What to fit batch and loading processes to; None for this one.

    Raises:
        UserError: If the dataset cannot be read or trained on, the model is unknown, or a file is there
            already.
    """
    source = expanded(data)
    config = expanded(output) if output is not None else Path(f"{_plain(source)}.yml")
    if config.suffix not in (".yml", ".yaml"):
        raise FileError(f"{config}: a configuration is named .yml; write --output {config}.yml")
    folder = config.with_name(f"{config.stem}_annotations")
    for path in (config, folder):
        if path.exists():
            raise FileError(f"{path} is there already; name another file with --output, or remove it")
    machine = machine or this_machine()
    if not 0 < val_share < 1:
        raise DataError(f"validation share {val_share:g}: between 0 and 1")
    parts, notes = train_and_val(source, kind, val_share=val_share, seed=seed)
    choice = _choose(model, weights, machine)
    written = {name: folder / f"{name}.json" for name in parts}
    try:
        for name, part in parts.items():
            write_json(written[name], part.content)
        train, remarks = _checked(parts, written, with_masks=choice.with_masks)
        commands = _commands(config, source, parts, choice)
        draft = _draft(choice, train, parts, written, machine, epochs, source, commands)
        write_text(config, config_text(draft))
        load_config(config)
    except BaseException:
        config.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        raise
    notes += [*remarks, *_advice(draft)]
    return NewConfig(config, tuple(written.values()), commands, tuple(notes))


@dataclass(frozen=True)
class _Choice:
    """A model and what it starts from.

    Attributes:
        model: Name of the packaged configuration.
        base: The configuration.
        start: One of the starts of `recipe`.
        weights: What it starts from; None for nothing.
        reason: Why this model.
    """

    model: str
    base: Experiment
    start: str
    weights: Optional[str]
    reason: str

    @property
    def with_masks(self) -> bool:
        """Whether the model learns masks."""
        dataset = self.base.TrainDataset
        return dataset is not None and "gt_poly" in (dataset.arguments.get("data_fields") or ())


def _choose(model: Optional[str], weights: Optional[str], machine: Machine) -> _Choice:
    if model is not None:
        return _started(model, weights, "The model is the one that was named.")
    small = "A small network, which a CPU trains in minutes"
    if weights is None and not machine.gpus:
        chosen = _started(_DEFAULT, None, "")
        if chosen.start != DETECTOR:
            why = f"{small}: there is no GPU here, and the weights of larger ones cannot be had."
            return _started(_SMALL, None, why)
    elif weights == NO_WEIGHTS and not machine.gpus:
        return _started(_SMALL, weights, f"{small}: there is no GPU here, and no weights to start from.")
    why = "The choice for data of one's own: good and fast (docs/choosing.md compares the others)."
    return _started(_DEFAULT, weights, why)


def _started(model: str, weights: Optional[str], reason: str) -> _Choice:
    """The model with the first weights that can be had: as named, of the detector, of its backbone."""
    packaged = packaged_configs()
    name = model[: -len(".yml")] if model.endswith(".yml") else model
    if name not in packaged:
        near = difflib.get_close_matches(name, packaged, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(
            f"there is no packaged configuration {model!r}{hint} (`ppdet configs list` shows them)"
        )
    base = load_config(name)
    if weights is not None and weights != NO_WEIGHTS:
        if not can_be_had(weights):
            raise UserError(f"weights {weights}: their server cannot be reached")
        return _Choice(name, base, DETECTOR, weights, reason)
    if weights is None:
        fitting = [entry for entry in entries() if entry.config == f"{name}.yml" and not entry.conventions]
        candidates = [(DETECTOR, entry.name) for entry in fitting if entry.class_names]
        if base.pretrain_weights is not None:
            candidates.append((BACKBONE, base.pretrain_weights))
        for start, candidate in candidates:
            if can_be_had(candidate):
                return _Choice(name, base, start, candidate, reason)
    start = OWN if base.pretrain_weights is None else SCRATCH
    return _Choice(name, base, start, None, reason)


def _checked(
    parts: Mapping[str, LabelledDataset], written: Mapping[str, Path], *, with_masks: bool
) -> tuple[AnnotatedDataset, list[str]]:
    """The training set as a training would read it, and what is odd about it.

    Raises:
        DatasetProblemsError: If a training would stop, or learn something wrong.
    """
    fields = ["image", "gt_bbox", "gt_class", "is_crowd", *(["gt_poly"] if with_masks else [])]
    built: list[AnnotatedDataset] = []
    for name, part in parts.items():
        built.append(
            COCODataSet(
                dataset_dir=".",
                image_dir=part.image_dir.as_posix(),
                anno_path=written[name].as_posix(),
                data_fields=fields,
                categories=built[0].categories if built else None,
            )
        )
    try:
        odd = check_dataset(built[0], built[1], with_masks=with_masks)
    except DatasetProblemsError as error:
        odd = list(error.problems)
        grave = [problem for problem in odd if problem.kind not in _TOLD]
        if grave:
            raise DatasetProblemsError(error.source, grave) from None
    return built[0], [describe("dataset", odd)] if odd else []


def _draft(
    choice: _Choice,
    train: AnnotatedDataset,
    parts: Mapping[str, LabelledDataset],
    written: Mapping[str, Path],
    machine: Machine,
    epochs: Optional[int],
    source: Path,
    commands: tuple[str, ...],
) -> Draft:
    base = choice.base
    size = choose_input_size(base, train)
    recipe = fit_recipe(
        base,
        images=len(train),
        start=choice.start,
        machine=machine,
        epochs=epochs,
        enlarged=size.enlarged,
    )
    backbone = base.architecture.arguments.get("backbone")
    frozen = isinstance(backbone, Spec) and backbone.arguments.get("freeze_norm")
    return Draft(
        model=choice.model,
        reason=choice.reason,
        source=source.name or str(source.resolve().name),
        classes=train.categories.names,
        parts={
            name: Part(
                written[name], part.image_dir, len(part.content["images"]), len(part.content["annotations"])
            )
            for name, part in parts.items()
        },
        with_masks=choice.with_masks,
        size=size,
        readers=resized_readers(base, size),
        recipe=recipe,
        weights=choice.weights,
        reference_batch=base.reference_batch_size,
        anchors=_anchors(choice, train, size),
        thawed=backbone if frozen and choice.start == SCRATCH else None,
        machine=machine,
        commands=commands,
    )


def _anchors(
    choice: _Choice, train: AnnotatedDataset, size: InputSize
) -> Optional[tuple[str, dict[str, Any], str]]:
    """Anchors and why, where those of the packaged configuration are no better.

    Anchors stay where the weights of a detector are the start: it has learnt what they are.
    """
    if choice.start == DETECTOR:
        return None
    try:
        found = better_anchors(choice.base, train, size)
    except DataError:  # too few objects of different sizes
        return None
    if found is None or found.fitted.mean_iou <= found.today.mean_iou:
        return None
    why = (
        f"Anchors from the objects: mean best IoU {found.fitted.mean_iou:.2f}, "
        f"with the packaged ones {found.today.mean_iou:.2f}."
    )
    return found.block, found.arguments, why


def _commands(
    config: Path, source: Path, parts: Mapping[str, LabelledDataset], choice: _Choice
) -> tuple[str, ...]:
    best = f"output/{config.stem}/best_model"
    classes = " --classes-from" if choice.start == DETECTOR and find(str(choice.weights)) else ""
    images = shlex.quote(parts["val"].image_dir.as_posix())
    return (
        f"ppdet train -c {shlex.quote(str(config))} --eval{classes}",
        f"ppdet eval --weights {shlex.quote(best)} --classwise",
        f"ppdet infer --weights {shlex.quote(best)} --infer_dir {images}",
        f"ppdet export --weights {shlex.quote(best)} --output_dir exported",
    )


def _advice(draft: Draft) -> list[str]:
    """What the numbers of the training and of the data ask for."""
    notes = []
    if draft.recipe.start == SCRATCH:
        notes.append(
            f"No weights of {draft.model} can be had here (no network?), so training starts from random "
            "ones and takes longer; `ppdet weights download` where there is a network, or --weights FILE"
        )
    elif draft.recipe.start == BACKBONE:
        notes.append(f"Weights of the detector cannot be had here, so only the backbone's ({draft.weights})")
    if draft.size.too_small:
        notes.append(
            f"Many objects are smaller than {draft.size.smallest:.0f} pixels at the input size "
            f"{draft.size.size}; `ppdet data slice` cuts large images into tiles"
        )
    return notes


def _plain(source: Path) -> str:
    """A name for files, from that of a dataset."""
    name = source.resolve().name if source.is_dir() else source.stem
    if source.is_file() and name in ("data", "annotations", "instances_train", "_annotations.coco"):
        name = source.resolve().parent.name
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "dataset"
