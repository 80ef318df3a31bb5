"""Writes the configuration of `ppdet new`: the differences to a packaged one, each with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from ppdet.config.dump import plain_text
from ppdet.config.spec import Spec
from ppdet.data.tools.input_size import InputSize
from ppdet.data.tools.recipe import BACKBONE, DETECTOR, OWN, SCRATCH, Recipe
from ppdet.utils.machine import Machine

#: Longest line of the file.
_WIDTH = 100
_STARTS = {
    DETECTOR: "Weights of a whole detector; what it has learnt of other classes' heads starts anew.",
    BACKBONE: "Weights of the backbone. Those of the whole detector cannot be had here.",
    SCRATCH: "From random weights, since no published ones can be had here: longer, and worse.",
    OWN: "From random weights: nobody publishes any for this small network.",
}


@dataclass(frozen=True)
class Part:
    """A part of the dataset as the configuration names it.

    Attributes:
        annotations: Its annotation file.
        image_dir: Folder of its images.
        images: Number of images.
        objects: Number of objects.
    """

    annotations: Path
    image_dir: Path
    images: int
    objects: int


@dataclass(frozen=True)
class Draft:
    """Everything that the configuration says.

    Attributes:
        model: Name of the packaged configuration.
        reason: Why this one.
        source: The dataset, for people.
        classes: Class names in order.
        parts: ``train`` and ``val``.
        with_masks: Whether the model needs masks.
        size: The input size.
        readers: Transforms of each reader that differ from the packaged ones.
        recipe: Numbers of the training.
        weights: What it starts from; None for nothing.
        reference_batch: The batch that the rate is for.
        anchors: Block and arguments of anchors that differ from the packaged ones, with the reason.
        thawed: Block of a backbone that is frozen in the packaged configuration and has to be trained here.
        machine: Where it is going to run.
        commands: How to train, evaluate and use it.
    """

    model: str
    reason: str
    source: str
    classes: Sequence[str]
    parts: Mapping[str, Part]
    with_masks: bool
    size: InputSize
    readers: Mapping[str, Mapping[str, list[dict[str, Any]]]]
    recipe: Recipe
    weights: Optional[str]
    reference_batch: Optional[int]
    anchors: Optional[tuple[str, dict[str, Any], str]]
    thawed: Optional[Spec[Any]]
    machine: Machine
    commands: Sequence[str] = field(default=())


def config_text(draft: Draft) -> str:
    """The configuration as YAML, with comments."""
    sections = (_head, _data, _model, _readers, _schedule)
    return "\n".join("\n".join(section(draft)) + "\n" for section in sections)


def _head(draft: Draft) -> Iterator[str]:
    yield f"# {draft.source}, on {draft.model}. Written by `ppdet new`; every value may be changed."
    yield f"# {draft.reason}"
    for command in draft.commands:
        yield f"#   {command}"
    yield f"_BASE_: {draft.model}.yml"


def _data(draft: Draft) -> Iterator[str]:
    yield "# ---- data"
    shown = ", ".join(draft.classes[:12]) + (", ..." if len(draft.classes) > 12 else "")
    yield f"num_classes: {len(draft.classes)}    # {' '.join(shown.split())}"
    yield "metric: COCO"
    fields = ["image", "gt_bbox", "gt_class", "is_crowd", *(["gt_poly"] if draft.with_masks else [])]
    for key, name in (("TrainDataset", "train"), ("EvalDataset", "val")):
        part = draft.parts[name]
        yield f"{key}:    # {part.images:,} images, {part.objects:,} objects"
        yield "  name: COCODataSet"
        yield "  dataset_dir: ."
        yield f"  image_dir: {plain_text(part.image_dir.as_posix())}"
        yield f"  anno_path: {plain_text(part.annotations.as_posix())}"
        yield f"  data_fields: {plain_text(fields)}"
    yield "TestDataset:    # names of the classes for pictures without annotations"
    yield "  name: ImageFolder"
    yield "  dataset_dir: ."
    yield f"  anno_path: {plain_text(draft.parts['train'].annotations.as_posix())}"


def _model(draft: Draft) -> Iterator[str]:
    recipe = draft.recipe
    yield "# ---- model"
    yield f"# {_STARTS[recipe.start]}"
    yield f"pretrain_weights: {plain_text(draft.weights)}"
    if draft.thawed is not None:
        yield "# Frozen layers are for weights from ImageNet; random ones have to be trained."
        yield f"{draft.thawed.name}: {{freeze_norm: false, freeze_at: -1}}"
    if draft.anchors is not None:
        block, arguments, why = draft.anchors
        yield f"# {why}"
        yield from _block(block, arguments)
    if recipe.static_assigner_epoch is not None:
        why = "scores of trained weights are good from the start" if recipe.start == DETECTOR else ""
        why = why or "the first assigner, until the network's own scores are of use"
        yield f"PPYOLOEHead: {{static_assigner_epoch: {recipe.static_assigner_epoch}}}    # {why}"


def _readers(draft: Draft) -> Iterator[str]:
    recipe, size = draft.recipe, draft.size
    yield f"# ---- input, for this machine: {draft.machine}"
    what = "short side" if size.keep_ratio else "side"
    if size.size:
        changed = "as packaged" if size.size == size.packaged else f"packaged: {size.packaged or 'no resize'}"
        yield (
            f"# Images are resized to a {what} of {size.size} pixels ({changed}); then nine of ten objects "
            f"are larger than {size.smallest:.0f} pixels."
        )
    else:
        yield f"# Images stay as they are; nine of ten objects are larger than {size.smallest:.0f} pixels."
    if size.too_small:
        yield "# Many objects are too small to be found: `ppdet data slice` cuts the images into tiles."
    yield f"worker_num: {recipe.workers}    # processes that load images"
    for reader in ("TrainReader", "EvalReader", "TestReader"):
        lists = draft.readers.get(reader, {})
        if reader != "TrainReader" and not lists:
            continue
        yield f"{reader}:"
        if reader == "TrainReader":
            yield f"  batch_size: {recipe.batch}"
            if recipe.mixup_epoch is not None:
                yield f"  mixup_epoch: {recipe.mixup_epoch}    # the last epochs see whole images"
        for key, items in lists.items():
            yield f"  {key}:"
            yield from (f"  - {plain_text(item)[1:-1]}" for item in items)


def _schedule(draft: Draft) -> Iterator[str]:
    recipe = draft.recipe
    yield f"# ---- schedule: {recipe.steps:,} steps"
    yield f"epoch: {recipe.epochs}"
    yield f"snapshot_epoch: {recipe.snapshot_epoch}    # evaluated and saved every so many epochs"
    if recipe.ema_decay is not None:
        span = round(1 / (1 - recipe.ema_decay))
        yield f"ema_decay: {recipe.ema_decay}    # averages the weights of the last {span:,} steps"
    yield "LearningRate:"
    batch = draft.reference_batch
    follows = f"    # for {batch} images a step; follows the batch size" if batch else ""
    yield f"  base_lr: {_number(recipe.base_lr)}{follows}"
    yield "  schedulers:"
    name, arguments = recipe.decay
    yield f"  - {plain_text({'name': name, **arguments})}"
    share = recipe.warmup_steps / recipe.steps
    start = _number(round(recipe.warmup_start, 6))
    warmup = f"{{name: LinearWarmup, start_factor: {start}, steps: {recipe.warmup_steps}}}"
    yield f"  - {warmup}    # {share:.0%} of the run"


def _number(value: float) -> str:
    """A number that YAML reads as one: 1e-05 would be text."""
    text = repr(value)
    return text if "e" not in text else f"{value:.12f}".rstrip("0")


def _block(name: str, arguments: Mapping[str, Any]) -> Iterator[str]:
    yield f"{name}:"
    for key, value in arguments.items():
        yield f"  {key}: {plain_text(value)}"
