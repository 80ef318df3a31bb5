"""A step kept in a file, to be run again: weights, batches, and the seed of all its random draws."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paddle
from paddle import nn

from ppdet.engine.guards import suspects
from ppdet.engine.state_dicts import model_state, seed_step, set_model_state, to_numpy
from ppdet.structures import Batch
from ppdet.utils import safe_pickle
from ppdet.utils.errors import CheckpointError, WeightsError
from ppdet.utils.files import write_durably, write_json


@dataclass(frozen=True)
class Circumstances:
    """Where a step stands in its run: all that its random draws depend on.

    Attributes:
        seed: Of the run.
        step: Optimiser steps before this one.
        rank: Of the process.
        epoch: Epoch, from 0.
        first_batch: Index of the step's first batch in the epoch.
        batches: Batches of the step.
        learning_rate: Of the step.
    """

    seed: int
    step: int
    rank: int
    epoch: int
    first_batch: int
    batches: int
    learning_rate: float


def write_replay(
    folder: Path,
    where: Circumstances,
    losses: Mapping[str, float],
    window: Sequence[Batch],
    model: nn.Layer,
) -> Path:
    """Keep all that is needed to run a step again, and a JSON beside it for people.

    Returns:
        The ``.pdreplay`` file.
    """
    report = {
        **vars(where),
        "losses": {name: repr(value) for name, value in losses.items()},
        "suspects": [line for batch in window for line in suspects(batch)],
        "images": [
            {"id": image_id, "path": path, "boxes": _boxes_of(batch, i)}
            for batch in window
            for i, (image_id, path) in enumerate(zip(batch.image_ids, batch.paths))
        ],
    }
    path = folder / f"step_{where.step}_rank{where.rank}.pdreplay"
    content = {
        "where": vars(where),
        "batches": [_pack(batch) for batch in window],
        "model": model_state(model),
    }
    write_json(path.with_suffix(".json"), report, indent=1)
    write_durably(path, functools.partial(_dump, content))
    return path


def _dump(content: dict[str, Any], file: Any) -> None:
    pickle.dump(content, file, 4)


def _boxes_of(batch: Batch, row: int) -> list[list[str]]:
    if batch.targets is None:
        return []
    kept = to_numpy(batch.targets.labels)[row] >= 0
    return [[repr(float(v)) for v in box] for box in to_numpy(batch.targets.boxes)[row][kept]]


def _pack(batch: Batch) -> dict[str, Any]:
    arrays: dict[str, Any] = {name: to_numpy(tensor) for name, tensor in batch.tensors().items()}
    return {**arrays, "image_ids": list(batch.image_ids), "paths": list(batch.paths)}


@dataclass(frozen=True)
class Replay:
    """What running a kept step again gave.

    Attributes:
        where: Where in its run it was.
        losses: Terms of each batch.
        suspects: Images whose own numbers are not finite.
        gradients: Parameters whose gradient is not finite.
    """

    where: Circumstances
    losses: list[dict[str, float]]
    suspects: list[str]
    gradients: list[str]


def replay(path: Path, model: nn.Layer) -> Replay:
    """Run a kept step again: same weights, same batches, same random draws.

    Args:
        path: A ``.pdreplay`` file.
        model: The model of the same configuration; gets the weights of the file.

    Raises:
        CheckpointError: If the file is damaged or belongs to another model.
    """
    try:
        content = safe_pickle.load(path)
        where = Circumstances(**content["where"])
        batches = [Batch.from_arrays(packed) for packed in content["batches"]]
    except (WeightsError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not a whole replay file: {error}") from error
    set_model_state(model, content["model"], str(path))
    model.train()
    model.begin_epoch(where.epoch)
    seed_step(where.seed, where.step, where.rank)
    losses = []
    for batch in batches:
        terms = model(batch)
        paddle.add_n(list(terms.values())).backward()
        losses.append({name: float(value) for name, value in terms.items()})
    bad = [
        name
        for name, p in model.named_parameters()
        if p.grad is not None and not bool(paddle.isfinite(p.grad).all())
    ]
    for parameter in model.parameters():
        parameter.clear_gradient()
    return Replay(where, losses, [line for batch in batches for line in suspects(batch)], bad)
