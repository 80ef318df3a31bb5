"""Loads the tensors of a weight file into a model, and reports each."""

from __future__ import annotations

import enum
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Union

import numpy as np
from paddle import nn

from ppdet.utils.errors import WeightsError
from ppdet.zoo.class_rows import class_axis, take_class_rows
from ppdet.zoo.locate import read_source
from ppdet.zoo.matching import BACKBONE, match_keys
from ppdet.zoo.report import Entry, LoadReport, Outcome, some
from ppdet.zoo.weight_file import WeightFile

logger = logging.getLogger(__name__)

#: Least part of a backbone's tensors that must come from the file (REQUIREMENTS 26).
BACKBONE_SHARE = 0.95

#: Predictors whose outputs mean boxes or anchors; they say little in other box conventions.
_BOUND_TO_BOXES = re.compile(r"(^|\.)(rpn_rois_(score|delta)|bbox_delta(_stage\d+)?)\.")


class Purpose(enum.Enum):
    """What the weights are for."""

    EVALUATE = "evaluate"  #: the model is used as it is: every tensor must come from the file
    FINETUNE = "finetune"  #: training goes on from here: heads may start anew, the backbone may not


def load_weights(
    model: nn.Layer,
    source: Union[str, Path, WeightFile],
    *,
    purpose: Purpose = Purpose.EVALUATE,
    class_names: Sequence[str] = (),
    classes_from: Sequence[str] = (),
    allow_partial: bool = False,
) -> LoadReport:
    """Load weights into a model.

    Nothing changes in the model unless everything is in order.

    Args:
        model: A detector, or a backbone alone.
        source: Zoo name, URL, path with or without suffix, or a file already read.
        purpose: Whether missing heads are an error.
        class_names: The model's class names by label, where stored.
        classes_from: Class names of the file by label. When given, predictor rows are taken over by class
            name; otherwise only tensors of the same shape are.
        allow_partial: Accept a model of which less is loaded than `purpose` requires.

    Returns:
        The outcome of every tensor.

    Raises:
        WeightsError: If the file cannot be found or read; if less than 95 % of the backbone is in it; if
            `purpose` is EVALUATE and a tensor of the model is not in it; names the keys and the cure.
    """
    file = source if isinstance(source, WeightFile) else read_source(source)
    state = model.state_dict()
    plan = _Plan(file, {key: tuple(value.shape) for key, value in state.items()})
    plan.match()
    foreign = file.metadata.conventions
    if foreign and foreign != conventions_of(model):
        if purpose is Purpose.EVALUATE and not allow_partial:
            own = conventions_of(model) or "the normal"
            raise WeightsError(
                f"{file.path}: these weights use the {foreign!r} box conventions, the model is built with "
                f"{own} ones; put `conventions: {foreign}` in the config"
            )
        plan.leave_box_predictors(foreign)
    elif conventions_of(model) and not foreign:
        plan.notes.append(
            f"the {conventions_of(model)!r} box conventions are those of the config; the file states none"
        )
    if classes_from and class_names:
        plan.map_classes({k: v.numpy() for k, v in state.items() if class_axis(k)}, classes_from, class_names)
    report = plan.report(class_names)
    if not allow_partial:
        _check_backbone(report, state)
        if purpose is Purpose.EVALUATE:
            _check_complete(report)
    for key, value in plan.values.items():
        dtype = str(state[key].dtype).rpartition(".")[2]
        state[key].set_value(np.ascontiguousarray(value, dtype))
    logger.log(logging.WARNING if report.notes else logging.INFO, "%s", report.table())
    return report


class _Plan:
    """Which tensor goes where, and why; pure, so that errors come before changes."""

    def __init__(self, file: WeightFile, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.file = file
        self.shapes = shapes
        self.values: dict[str, np.ndarray] = {}
        self.entries: dict[str, Entry] = {}
        self.matches = match_keys(shapes, file.tensors)
        self.notes: list[str] = []

    def match(self) -> None:
        for key, shape in self.shapes.items():
            name = self.matches.get(key)
            if name is None:
                self.entries[key] = Entry(key, Outcome.MISSING, "not in the file")
                continue
            value = self.file.tensors[name]
            if value.shape != shape:
                reason = f"file has {list(value.shape)}, model {list(shape)}; keeps its initial values"
                self.entries[key] = Entry(key, Outcome.MISSING, reason)
                continue
            how = self.file.converted.get(name, "")
            outcome = Outcome.CONVERTED if how else Outcome.LOADED
            if not how and name != key:
                how = f"named {name} in the file"
            self.entries[key] = Entry(key, outcome, how, name if name != key else "")
            self.values[key] = value

    def leave_box_predictors(self, conventions: str) -> None:
        """Keep the initial values of layers whose outputs mean boxes in other conventions."""
        left = [key for key in self.values if _BOUND_TO_BOXES.search(key)]
        for key in left:
            del self.values[key], self.matches[key]
            reason = f"means boxes in the {conventions!r} conventions; keeps its initial values"
            self.entries[key] = Entry(key, Outcome.MISSING, reason)
        what = "what depends on anchors and box coding was left out" if left else "all of it was taken over"
        self.notes.append(
            f"weights of the {conventions!r} box conventions in a model of other ones: {what}, "
            f"and has to be trained before it is of use"
        )

    def map_classes(
        self, initial: Mapping[str, np.ndarray], file_names: Sequence[str], model_names: Sequence[str]
    ) -> None:
        for key, start in initial.items():
            name = self.matches.get(key)
            if name is None:
                continue
            value = self.file.tensors[name]
            taken = take_class_rows(key, value, start, file_names=file_names, model_names=model_names)
            if taken is None:
                continue
            shared = len(set(model_names) & set(file_names))
            reason = f"{shared} of {len(model_names)} classes by name; the others keep their initial values"
            self.values[key] = taken[0]
            self.entries[key] = Entry(key, Outcome.RESHAPED, reason, name if name != key else "")

    def report(self, class_names: Sequence[str]) -> LoadReport:
        file = self.file
        entries = list(self.entries.values())
        used = set(self.matches.values())
        entries += [Entry(k, Outcome.SKIPPED, why) for k, why in file.dropped.items()]
        entries += [
            Entry(k, Outcome.SKIPPED, "the model has no such tensor") for k in file.tensors if k not in used
        ]
        return LoadReport(
            source=str(file.path),
            layout=file.layout.value,
            conventions=file.metadata.conventions,
            class_names=file.metadata.class_names,
            entries=tuple(entries),
            notes=tuple(self._notes(class_names)),
        )

    def _notes(self, class_names: Sequence[str]) -> list[str]:
        notes = list(self.notes)
        stored = self.file.metadata.class_names
        taken_whole = any(
            class_axis(key) and key in self.values and self.entries[key].outcome is not Outcome.RESHAPED
            for key in self.shapes
        )
        if stored and class_names and tuple(stored) != tuple(class_names) and taken_whole:
            notes.append(
                f"the file's classes ({some(stored)}) are not the model's ({some(class_names)}); "
                f"classes_from (--classes-from) takes over only those of the same name"
            )
        return notes


def _check_backbone(report: LoadReport, state: Mapping[str, object]) -> None:
    keys = [key for key in state if key.startswith(BACKBONE)] or list(state)
    taken = set(report.taken)
    lost = [key for key in keys if key not in taken]
    if len(lost) > (1 - BACKBONE_SHARE) * len(keys):
        raise WeightsError(
            f"{report.source}: only {len(keys) - len(lost)} of the {len(keys)} tensors of the backbone are "
            f"in the file; missing are {some(lost)}. Are these weights of another backbone? "
            f"allow_partial (--allow-partial) loads them nevertheless.\n{report.table()}"
        )


def _check_complete(report: LoadReport) -> None:
    if report.missing:
        raise WeightsError(
            f"{report.source}: {len(report.missing)} tensors of the model are not loaded: "
            f"{some(report.missing)}. Evaluating them would give noise. Use the config and the number of "
            f"classes that belong to these weights, or allow_partial (--allow-partial).\n{report.table()}"
        )


def conventions_of(model: nn.Layer) -> str:
    """Name of the box conventions a model was built in; "" for the normal ones."""
    return str(getattr(getattr(model, "conventions", None), "name", ""))
