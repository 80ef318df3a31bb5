"""Advice about a training, each with the numbers behind it; silent where the numbers do not warrant any."""

from __future__ import annotations

from typing import Optional

import numpy as np

from ppdet.report.runs import TrainingRun
from ppdet.report.wording import Advice

#: Share of a step's time above which waiting for data is worth a line.
DATA_BOUND = 0.2
#: A loss this many times its median neighbourhood is a spike.
SPIKE = 3.0


def training_advice(run: TrainingRun) -> list[Advice]:
    """What the numbers of a training say, the gravest first."""
    rules = (_not_finite, _not_falling, _spikes, _overfitting, _data_bound, _never_detected, _still_rising)
    return [one for one in (rule(run) for rule in rules) if one is not None]


def losses(run: TrainingRun) -> np.ndarray:
    """Total loss of every log; NaN where a log has none."""
    return np.array([row["losses"].get("loss", np.nan) or np.nan for row in run.logs], np.float64)


def _not_finite(run: TrainingRun) -> Optional[Advice]:
    count = int((~np.isfinite(losses(run))).sum())
    if not count:
        return None
    return Advice(
        "Losses were not finite: run the kept step again with ppdet train --replay, and lower the learning "
        "rate.",
        f"{count} of {len(run.logs)} logs have a loss that is not a number.",
        warning=True,
    )


def _not_falling(run: TrainingRun) -> Optional[Advice]:
    values = losses(run)
    values = values[np.isfinite(values)]
    if len(values) < 12:
        return None
    part = len(values) // 4
    first, last = float(np.median(values[:part])), float(np.median(values[-part:]))
    if last < 0.95 * first:
        return None
    return Advice(
        "The loss does not fall: check that the annotations are read as you mean them (ppdet data browse), "
        "that "
        "weights to start from were loaded, and try a learning rate three times smaller or larger.",
        f"Median loss of the first quarter {first:.3f}, of the last quarter {last:.3f}.",
        warning=True,
    )


def _spikes(run: TrainingRun) -> Optional[Advice]:
    values = losses(run)
    if len(values) < 12:
        return None
    spikes = []
    for i in range(2, len(values)):
        near = np.nanmedian(values[max(0, i - 5) : i])
        if values[i] > SPIKE * near:
            spikes.append(i)
    if len(spikes) < 2:
        return None
    worst = max(spikes, key=lambda i: values[i])
    return Advice(
        "The loss jumps: the learning rate is too high for this batch size, or a few images are wrongly "
        "annotated. Halve LearningRate.base_lr, or add clip_grad_by_norm to OptimizerBuilder.",
        f"{len(spikes)} logs exceed {SPIKE:g} times the median of the five before; the largest is "
        f"{values[worst]:.2f} at step {run.logs[worst]['step']}.",
        warning=True,
    )


def _overfitting(run: TrainingRun) -> Optional[Advice]:
    validation = run.scores().get("loss.loss", [])
    if len(validation) < 4:
        return None
    steps, values = zip(*validation)
    lowest = int(np.argmin(values))
    training = losses(run)
    before = [v for row, v in zip(run.logs, training) if row["step"] <= steps[lowest]]
    if lowest > len(values) - 3 or values[-1] < 1.05 * values[lowest] or not before:
        return None
    if not training[-1] < before[-1]:
        return None
    return Advice(
        "It overfits: stop earlier (the best checkpoint is kept), add augmentation or data, or train a "
        "smaller "
        "model.",
        f"Validation loss rose from {values[lowest]:.3f} at step {steps[lowest]} to {values[-1]:.3f}, "
        f"while the "
        f"training loss fell from {before[-1]:.3f} to {training[-1]:.3f}.",
        warning=True,
    )


def _data_bound(run: TrainingRun) -> Optional[Advice]:
    rows = run.logs[1:]  # the first log waits for workers to start
    total = sum(row["batch_time"] for row in rows)
    if not total:
        return None
    share = sum(row["data_time"] for row in rows) / total
    if share <= DATA_BOUND:
        return None
    return Advice(
        "Training waits for data: raise worker_num, store images at about the size they are trained at, or "
        "use "
        "a faster disk.",
        f"{100 * share:.0f} % of the time of a step goes to waiting for the loader.",
    )


def _never_detected(run: TrainingRun) -> Optional[Advice]:
    name = run.main_score
    if name is None:
        return None
    values = run.scores()[name]
    if len(values) < 2 or max(value for _, value in values) > 0.001:
        return None
    return Advice(
        "Nothing is detected yet: if it stays so, check class names, num_classes and the learning rate.",
        f"{name} is {values[-1][1]:.4f} after {values[-1][0]} steps.",
        warning=True,
    )


def _still_rising(run: TrainingRun) -> Optional[Advice]:
    name, last = run.main_score, run.last_step
    if name is None or last is None or run.step < last or run.facts.get("best_is") == "min":
        return None
    values = run.scores()[name]
    if len(values) < 4:
        return None
    (step, before), (_, end) = values[-max(2, len(values) // 4) - 1], values[-1]
    if end < max(value for _, value in values) or end - before < 0.01:
        return None
    return Advice(
        "It was still improving at the end: a longer schedule is likely to give more.",
        f"{name} rose from {100 * before:.1f} at step {step} to {100 * end:.1f} at the end, its highest "
        f"value.",
    )
