"""A checkpoint of a PaddleDetection 2.x training, as one of ours.

Its `.pdopt` names optimiser state by parameter (``linear_0.w_0_velocity_0``), numbered in the order in which
that program created its layers; the entry ``StructuredToParameterName@@`` of its `.pdparams` says which key
of the state dict each parameter is. The keys are ours, so every entry has exactly one place.

What 2.x does not keep is taken from the run that continues: the seed, and so the order of images, and the
loss scale of mixed precision. It saves at the end of epochs only, so the place in the epoch is its start.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping
from typing import Any, Optional

import numpy as np
import paddle
from paddle import nn
from paddle.optimizer import Optimizer

from ppdet.engine import distributed
from ppdet.engine.checkpoint import Checkpoint
from ppdet.engine.run_state import RunState
from ppdet.engine.schedules import LearningRateSchedule
from ppdet.engine.state_dicts import our_name
from ppdet.utils.errors import CheckpointError

logger = logging.getLogger(__name__)

_ADAM = ("moment1", "moment2", "beta1_pow_acc", "beta2_pow_acc")
#: Optimiser -> what it keeps of each parameter.
_KEPT = {"SGD": (), "Momentum": ("velocity",), "Adam": _ADAM, "AdamW": _ADAM}
_HALF = (paddle.float16, paddle.bfloat16)


def from_2x(
    saved: Checkpoint, run: RunState, schedule: LearningRateSchedule, steps_per_epoch: int
) -> Checkpoint:
    """The same checkpoint in our layout, for `RunState.restore`.

    Args:
        saved: With `parameter_names`, and the content of the `.pdopt` as `state`.
        run: Continues from it.
        schedule: Learning rate by step, whatever rate 2.x saved.
        steps_per_epoch: Optimiser steps of an epoch in this run.

    Raises:
        CheckpointError: If a count makes no sense, or an entry does not fit this run's model and optimiser.
    """
    source = f"{saved.path}.pdopt"
    state = dict(saved.state)
    epoch = _count(state.pop("last_epoch"), "last_epoch", source)
    position = state.pop("LR_Scheduler")
    position = position if isinstance(position, dict) else {}
    step = _count(position.get("last_epoch"), "LR_Scheduler.last_epoch", source)
    if not epoch or not step:
        raise CheckpointError(f"{source}: {epoch} epochs, {step} steps; there is nothing to continue from")
    masters = state.pop("master_weights", None)
    key_of = {name: key for key, name in (saved.parameter_names or {}).items()}
    try:
        optimizer: dict[str, Any] = {our_name(name, key_of): value for name, value in state.items()}
        if masters:
            optimizer["master_weights"] = {key_of[name]: value for name, value in masters.items()}
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}. Is the .pdparams of the same training?") from error
    except (KeyError, AttributeError) as error:
        raise CheckpointError(f"{source}: master_weights do not fit the parameters: {error}") from error
    _check_fit(optimizer, saved.weights, run.model, run.optimizer, source)
    optimizer["LR_Scheduler"] = {"last_epoch": step, "last_lr": schedule.rate_at(step)}
    _compare(source, step, epoch, position.get("last_lr"), schedule, steps_per_epoch)
    logger.info(
        "%s: of PaddleDetection 2.x; took over %d optimiser entries by structured name, continues at step "
        "%d, epoch %d, with learning rate %g; seed and order of images are this run's",
        saved.path,
        len(optimizer) - 1,
        step,
        epoch,
        schedule.rate_at(step),
    )
    ours = {
        "progress": {"step": step, "epoch": epoch, "batch": 0, "seed": run.progress.seed},
        "loader": {"batches": run.batches, "processes": distributed.world_size()},
        "optimizer": optimizer,
        "precision": run.precision.state(),
    }
    return dataclasses.replace(saved, state=ours, parameter_names=None)


def _count(value: Any, name: str, source: str) -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 0:
        raise CheckpointError(f"{source}: {name} is {value!r}, not a number of epochs or steps")
    return int(value)


def _check_fit(
    state: Mapping[str, Any],
    weights: Mapping[str, np.ndarray],
    model: nn.Layer,
    optimizer: Optimizer,
    source: str,
) -> None:
    """Each parameter that is trained must have what the optimiser keeps of it, and no other may."""
    kind = type(optimizer).__name__
    expected: dict[str, Optional[tuple[int, ...]]] = {}  # None: one number, of whatever shape
    for key, parameter in model.named_parameters():
        if parameter.trainable:
            # With float32 copies of half-precision parameters (AMP O2) the state is that of the copy.
            copy = "fp32_master_0_" if parameter.dtype in _HALF else ""
            for name in _KEPT[kind]:
                expected[f"{key}/{copy}{name}"] = None if name.endswith("pow_acc") else tuple(parameter.shape)
    found = {key: value for key, value in state.items() if key != "master_weights"}
    missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    other = [
        key
        for key, shape in expected.items()
        if key in found and (np.size(found[key]) != 1 if shape is None else np.shape(found[key]) != shape)
    ]
    if missing or extra or other:
        raise CheckpointError(
            f"{source}: does not fit {kind} over this model's trained parameters: {len(missing)} entries "
            f"missing {missing[:3]}, {len(extra)} without a place {extra[:3]}, {len(other)} of another shape "
            f"{other[:3]}. Use that training's architecture, optimizer, freeze_at and amp_level"
        )
    odd = [key for key, _ in model.named_parameters() if key in weights and weights[key].dtype.kind != "f"]
    if odd:
        raise CheckpointError(
            f"{source[: -len('.pdopt')]}.pdparams: {odd[0]} is {weights[odd[0]].dtype}, not floating point; "
            "bfloat16 weights of 2.x cannot be resumed"
        )


def _compare(
    source: str, step: int, epoch: int, rate: Any, schedule: LearningRateSchedule, steps_per_epoch: int
) -> None:
    """Warn where this run counts or schedules otherwise than the training that is resumed."""
    if step != epoch * steps_per_epoch:
        logger.warning(
            "%s: had %g steps in an epoch, this run has %d; the schedule counts steps and so moves. Make "
            "data, batch_size and processes agree to continue as before",
            source,
            step / epoch,
            steps_per_epoch,
        )
    own = schedule.rate_at(step)
    if isinstance(rate, (int, float)) and not math.isclose(rate, own, rel_tol=1e-5):
        logger.warning("%s: had learning rate %g at step %d, LearningRate gives %g", source, rate, step, own)
