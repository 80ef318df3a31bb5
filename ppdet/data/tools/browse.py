"""Shows what a training sees: images after the reader's transforms, beside what they were."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from ppdet.config.dump import plain_text
from ppdet.config.registry import yaml_name
from ppdet.data.finish import Parts
from ppdet.data.formats.masks import to_runs
from ppdet.data.sampler import BatchPlan
from ppdet.data.transforms.base import Transform
from ppdet.data.transforms.decode import Decode
from ppdet.data.transforms.normalize import NormalizeImage
from ppdet.experiment.build import build_dataset, build_loader
from ppdet.experiment.config import Experiment
from ppdet.inference.drawing import draw_detections, save_picture, side_by_side
from ppdet.structures import Detections, Sample
from ppdet.utils.errors import DataError
from ppdet.utils.files import write_text

#: Longest side of a picture in a sheet, in pixels.
_SIDE = 420
#: Width that a sheet does not exceed if more than one image is beside another.
_SHEET_WIDTH = 1900
_GAP = 12
#: Normalised values are smaller than this, pixels of a bright image larger.
_NORMALISED = 20.0
_HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>What the training sees</title>
<style>
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em; color: #222 }
h2 { font-size: 1em; margin: 1.5em 0 .3em; overflow-wrap: anywhere }
div { display: flex; flex-wrap: wrap; gap: 12px }
figure { margin: 0 } img { max-width: 100%; height: 300px; object-fit: contain } figcaption { color: #555 }
</style>
<h1>What the training sees</h1>"""


@dataclass(frozen=True)
class Browsed:
    """One image as a training sees it.

    Attributes:
        path: Its file.
        pictures: What was done -> ``[H, W, 3]`` uint8 RGB with boxes, masks and names; the first is the image
            as it is on disk, the last what the network gets.
        objects: Number of objects in each picture.
    """

    path: str
    pictures: dict[str, np.ndarray]
    objects: tuple[int, ...]


def browse(
    experiment: Experiment,
    *,
    reader: Literal["TrainReader", "EvalReader"] = "TrainReader",
    count: int = 8,
    epoch: int = 0,
    steps: bool = False,
) -> list[Browsed]:
    """Draw the first images of an epoch as the training gets them: the same order, the same random numbers.

    Args:
        experiment: The configuration; its `seed` decides what is drawn.
        reader: Whose transforms and dataset.
        count: Number of images.
        epoch: Which epoch, from 0.
        steps: Show the image after each transform too.

    Raises:
        UserError: If the configuration or the dataset is not in order.
    """
    if count < 1 or epoch < 0:
        raise DataError(f"{count} images of epoch {epoch}: 1 or more, and 0 or more")
    dataset = build_dataset(experiment, reader.replace("Reader", "Dataset"))
    loader = build_loader(experiment, reader, dataset, num_workers=0)
    whole = loader.source.parts
    plans = list(_plans(loader.plans(epoch, 0), len(loader), count))
    rows = list(islice((index for plan in plans for index in plan.images), count))
    names = dataset.categories.names
    pictures: list[dict[str, np.ndarray]] = [{} for _ in rows]
    objects: list[list[int]] = [[] for _ in rows]
    for title, parts in _stages(whole, steps=steps):
        source = loader.source.with_parts(parts)
        samples = [sample for plan in plans for sample in source.samples(plan, [])]
        for row, sample in enumerate(samples[: len(rows)]):
            pictures[row][title] = _drawn(sample, names, whole)
            objects[row].append(0 if sample.target is None else len(sample.target.boxes))
    shown = zip(rows, pictures, objects)
    return [Browsed(dataset[row].path, drawn, tuple(counts)) for row, drawn, counts in shown]


def single_transform(experiment: Experiment, reader: str, transform: str) -> list[str]:
    """Overrides that leave a reader nothing but `Decode` and one transform.

    Args:
        experiment: The configuration; a transform that it has keeps its arguments.
        reader: ``TrainReader`` or ``EvalReader``.
        transform: Its name, or name and arguments as a YAML has them: ``"RandomFlip: {prob: 1}"``.
    """
    name = transform.partition(":")[0].strip()
    written = f"{{{transform}}}" if ":" in transform else None
    spec = getattr(experiment, reader)
    for key in ("sample_transforms", "batch_transforms"):
        for item in (() if spec is None else spec.arguments.get(key)) or ():
            if written is None and yaml_name(item.component) == name:
                given = {argument: item.arguments[argument] for argument in item.origins}
                written = plain_text({name: given})
    # Among the batch transforms both kinds may stand: on one image, and on a batch.
    overrides = [
        f"{reader}.sample_transforms=[Decode: {{}}]",
        f"{reader}.batch_transforms=[{written or f'{name}: {{}}'}]",
    ]
    # The reader's own limit of it, which would be one too many beside `epochs`, or hide it.
    limits = {"Mixup": f"mixup_epoch={-1 if 'epochs' in (written or '') else 0}", "Mosaic": "mosaic_epoch=0"}
    return [*overrides, f"{reader}.{limits[name]}"] if name in limits else overrides


def write_browsed(shown: Sequence[Browsed], path: Path) -> Path:
    """Write a page (``.html``, one file that opens from disk) or a sheet (``.png``, ``.jpg``).

    Raises:
        DataError: If it cannot be written.
    """
    if path.suffix.lower() in (".html", ".htm"):
        write_text(path, _page(shown))
        return path
    return save_picture(_sheet(shown), path)


def _plans(plans: Iterator[BatchPlan], batches: int, count: int) -> Iterator[BatchPlan]:
    """As many batches as `count` images need, of one epoch."""
    images = 0
    for plan in islice(plans, batches):
        if images >= count:
            return
        images += len(plan.images)
        yield plan


def _stages(whole: Parts, *, steps: bool) -> Iterator[tuple[str, Parts]]:
    """What to show: the image as it is, after each step if asked for, and after all of them."""
    first: list[Transform[Any]] = [step for step in whole.samples if isinstance(step, Decode)]
    yield "on disk", Parts(first or [Decode()], [], None)
    if steps:
        for number in range(len(first) + 1, len(whole.samples) + 1):
            title = f"{number - len(first)} {type(whole.samples[number - 1]).__name__}"
            yield title, Parts(whole.samples[:number], [], None)
        for number in range(1, len(whole.batch) + 1):
            title = f"{len(whole.samples) - len(first) + number} {type(whole.batch[number - 1]).__name__}"
            yield title, Parts(whole.samples, whole.batch[:number], None)
    else:
        yield "as trained on", Parts(whole.samples, whole.batch, None)


def _drawn(sample: Sample, names: Sequence[str], whole: Parts) -> np.ndarray:
    image = _bytes(sample, whole)
    target = sample.target
    if target is None:
        return image
    masks = None
    if target.masks is not None and len(target.masks) and all(len(mask) for mask in target.masks):
        masks = tuple(to_runs(mask, (image.shape[0], image.shape[1])) for mask in target.masks)
    mixed = target.weights is not None
    scores = target.weights if target.weights is not None else np.ones(len(target.boxes), np.float32)
    boxes = Detections(0, target.boxes, scores.astype(np.float32), target.labels, masks)
    return draw_detections(image, boxes, names, threshold=0.0, with_scores=mixed)


def _bytes(sample: Sample, whole: Parts) -> np.ndarray:
    """The pixels as ``[H, W, 3]`` uint8 RGB, also of an image that is normalised."""
    image = sample.image
    assert image is not None  # Decode is among the steps
    if image.shape[0] == 3 and image.shape[2] != 3:
        image = image.transpose(1, 2, 0)
    if image.dtype != np.uint8:
        steps = [step for step in (*whole.samples, *whole.batch) if isinstance(step, NormalizeImage)]
        if steps and np.abs(image).max() < _NORMALISED:
            image = (image * steps[0].std + steps[0].mean) / steps[0].scale
        image = np.clip(np.round(image), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(image)


def _tiles(item: Browsed) -> np.ndarray:
    """All pictures of an image in a row, at the height of the sheet."""
    parts = {}
    height = max(
        1, min(_SIDE, *(round(_SIDE * p.shape[0] / max(p.shape[:2])) for p in item.pictures.values()))
    )
    for (title, picture), count in zip(item.pictures.items(), item.objects):
        width = max(1, round(picture.shape[1] * height / picture.shape[0]))
        text = f"{title}, {_counted(count)}"
        parts[text] = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return side_by_side(parts)


def _sheet(shown: Sequence[Browsed]) -> np.ndarray:
    """All images on white, in as many columns as fit."""
    tiles = [_tiles(item) for item in shown]
    width = max(tile.shape[1] for tile in tiles) + _GAP
    columns = max(1, min(len(tiles), _SHEET_WIDTH // width))
    bands = []
    for start in range(0, len(tiles), columns):
        row = tiles[start : start + columns]
        band = np.full((max(len(tile) for tile in row) + _GAP, columns * width, 3), 255, np.uint8)
        for column, tile in enumerate(row):
            band[: len(tile), column * width : column * width + tile.shape[1]] = tile
        bands.append(band)
    return np.concatenate(bands)


def _page(shown: Sequence[Browsed]) -> str:
    """The same as one HTML file."""
    parts = [_HEAD]
    for item in shown:
        parts.append(f"<h2>{html.escape(item.path)}</h2><div>")
        for (title, picture), count in zip(item.pictures.items(), item.objects):
            _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            data = base64.b64encode(jpeg.tobytes()).decode("ascii")
            text = f"{html.escape(title)}, {_counted(count)}"
            parts.append(
                f'<figure><img alt="{text}" src="data:image/jpeg;base64,{data}">'
                f"<figcaption>{text}</figcaption></figure>"
            )
        parts.append("</div>")
    return "\n".join([*parts, "</html>\n"])


def _counted(count: int) -> str:
    return f"{count} object" if count == 1 else f"{count} objects"
