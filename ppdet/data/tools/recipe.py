"""Numbers of a training that fit a dataset and a machine, from those of a packaged configuration.

The packaged schedules are for COCO: 118,287 images. On a few hundred images their warm-up is longer than the
training, and their moving average never gets away from the first weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from ppdet.config.spec import Spec
from ppdet.engine.schedules import CosineDecay, PiecewiseDecay, Warmup
from ppdet.experiment.config import Experiment
from ppdet.utils.machine import Machine

#: What a training starts from: weights of a whole detector, of its backbone, nothing where the packaged
#: recipe has weights, or nothing where that has none either (the quickstart configs).
DETECTOR, BACKBONE, SCRATCH, OWN = "detector", "backbone", "scratch", "own"
#: Start -> images to show in all, fewest and most epochs. 40 epochs of 1,000 images is the fine-tuning
#: recipe of docs/ppyoloe.md; heads alone start anew there. A backbone from ImageNet takes twice, nothing at
#: all three times as long.
_LENGTHS = {DETECTOR: (40_000, 12, 100), BACKBONE: (80_000, 24, 150), SCRATCH: (120_000, 36, 300)}
#: Images of the dataset that the quickstart configs are made for, and most epochs of them.
_QUICKSTART_IMAGES, _QUICKSTART_EPOCHS = 352, 100
#: Share of the run that the warm-up takes.
_WARM_UP = 0.05
#: The moving average spans this share of the run.
_AVERAGED = 0.1
#: Memory of the GPUs that the batch sizes of the packaged recipes are for, in bytes.
_RECIPE_MEMORY = 32 << 30
#: Share of main memory that a training on the CPU may take.
_CPU_SHARE = 0.75
#: Images that statistics of a normalisation need.
_NORMALISED = 8
#: Momentum recipes whose rate is for a backbone from ImageNet: a detector that is trained already takes a
#: tenth of it.
_FINE_TUNING = 0.1
_TRAINED_FURTHER = {"FasterRCNN", "MaskRCNN", "CascadeRCNN", "RetinaNet"}
_MOST_WORKERS = 8


@dataclass(frozen=True)
class Recipe:
    """Numbers of a training.

    Attributes:
        start: What it starts from: `DETECTOR`, `BACKBONE`, `SCRATCH` or `OWN`.
        epochs: Epochs.
        batch: Images per step.
        steps: Steps of the whole training.
        base_lr: For the reference batch of the packaged recipe.
        decay: The schedule after the warm-up: name and arguments.
        warmup_steps: Steps of the warm-up.
        warmup_start: Its first rate as a share of the rate.
        ema_decay: Decay of the moving average; None without one.
        static_assigner_epoch: Epochs of PP-YOLOE's first assigner; None for other detectors.
        mixup_epoch: Epochs with mixup; None for readers without.
        workers: Processes that load data.
        snapshot_epoch: Epochs between evaluations.
    """

    start: str
    epochs: int
    batch: int
    steps: int
    base_lr: float
    decay: tuple[str, dict[str, Any]]
    warmup_steps: int
    warmup_start: float
    ema_decay: Optional[float]
    static_assigner_epoch: Optional[int]
    mixup_epoch: Optional[int]
    workers: int
    snapshot_epoch: int


def fit_recipe(
    base: Experiment,
    *,
    images: int,
    start: str,
    machine: Machine,
    epochs: Optional[int] = None,
    enlarged: float = 1.0,
) -> Recipe:
    """Fit the recipe of a packaged configuration to a dataset and a machine.

    Args:
        base: The packaged configuration.
        images: Training images.
        start: What the training starts from.
        machine: Where it runs.
        epochs: Epochs; None chooses them by the number of images.
        enlarged: Pixels of an input image in units of those of the packaged configuration.
    """
    epochs = epochs or _epochs(base, images, start)
    batch = _batch(base, images, start, machine, enlarged)
    steps = epochs * max(1, images // batch)
    reader = _arguments(base.TrainReader)
    rate = _arguments(base.LearningRate)
    schedulers: list[Spec[Any]] = list(rate.get("schedulers", ()))
    warmup = next((item for item in schedulers if _is(item, Warmup)), None)
    mixup = reader.get("mixup_epoch", -1)
    head = base.architecture.arguments.get("yolo_head")
    static = head.arguments.get("static_assigner_epoch") if isinstance(head, Spec) else None
    further = start == DETECTOR and base.architecture.name in _TRAINED_FURTHER
    return Recipe(
        start=start,
        epochs=epochs,
        batch=batch,
        steps=steps,
        base_lr=rate["base_lr"] * (_FINE_TUNING if further else 1.0),
        decay=_decay(schedulers, base.epoch, epochs),
        warmup_steps=max(1, round(_WARM_UP * steps)),
        warmup_start=warmup.arguments.get("start_factor", 0.0) if warmup is not None else 0.0,
        ema_decay=_ema_decay(base, steps),
        static_assigner_epoch=None if static is None else _static_epochs(static, base.epoch, epochs, start),
        mixup_epoch=max(1, round(mixup / base.epoch * epochs)) if mixup > 0 else None,
        workers=_workers(machine),
        snapshot_epoch=max(1, epochs // 10),
    )


def _is(spec: Spec[Any], kind: type) -> bool:
    return isinstance(spec.component, type) and issubclass(spec.component, kind)


def _arguments(spec: Optional[Spec[Any]]) -> dict[str, Any]:
    return {} if spec is None else dict(spec.arguments)


def _epochs(base: Experiment, images: int, start: str) -> int:
    if start == OWN:
        seen, least, most = base.epoch * _QUICKSTART_IMAGES, base.epoch, _QUICKSTART_EPOCHS
    else:
        seen, least, most = _LENGTHS[start]
    return min(most, max(least, round(seen / images)))


def _batch(base: Experiment, images: int, start: str, machine: Machine, enlarged: float) -> int:
    """The packaged batch, or what of it fits the memory and the dataset."""
    packaged = int(_arguments(base.TrainReader).get("batch_size", 1))
    if start == OWN:  # the small networks fit anywhere
        return min(packaged, images)
    if start == SCRATCH:  # normalisations that are trained need images to compare
        packaged = max(packaged, _NORMALISED)
    memory = machine.memory * (1.0 if machine.gpus else _CPU_SHARE)
    fitting = int(packaged * memory / _RECIPE_MEMORY / enlarged)
    backbone = base.architecture.arguments.get("backbone")
    frozen = start != SCRATCH and isinstance(backbone, Spec) and backbone.arguments.get("freeze_norm")
    return min(packaged, images, max(fitting, 1 if frozen else 2))


def _workers(machine: Machine) -> int:
    """Loading processes; on a CPU most of the cores are the network's."""
    return max(1, min(_MOST_WORKERS, machine.cores if machine.gpus else machine.cores // 4))


def _decay(schedulers: list[Spec[Any]], base_epochs: int, epochs: int) -> tuple[str, dict[str, Any]]:
    """The packaged schedule at the same shares of the run; a constant rate becomes half a cosine."""
    for item in schedulers:
        if _is(item, CosineDecay):
            share = item.arguments["max_epochs"] / base_epochs
            return "CosineDecay", {"max_epochs": max(1, round(share * epochs))}
        if _is(item, PiecewiseDecay):
            scaled = {round(m / base_epochs * epochs) for m in item.arguments["milestones"]}
            milestones = sorted({min(milestone, epochs - 1) for milestone in scaled} - {0})
            if milestones:
                return "PiecewiseDecay", {"gamma": item.arguments["gamma"], "milestones": milestones}
    return "CosineDecay", {"max_epochs": epochs}


def _ema_decay(base: Experiment, steps: int) -> Optional[float]:
    if not base.use_ema:
        return None
    return min(base.ema_decay, round(1 - 1 / max(2.0, _AVERAGED * steps), 4))


def _static_epochs(static: int, base_epochs: int, epochs: int, start: str) -> int:
    """Scores of a trained detector are good from the start; others need the first assigner for a while."""
    return 0 if start == DETECTOR else max(1, round(static / base_epochs * epochs))
