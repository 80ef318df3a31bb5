"""Compares the detections of an export with those of the model it was made from.

Both run on the same prepared images. Detections are matched one to one, by label and the nearest box, since
the order of equal scores is arbitrary.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np

from ppdet.data.loader import batch_of
from ppdet.data.readers import Reader
from ppdet.export.errors import VerifyError
from ppdet.export.info import ExportInfo, Preprocess
from ppdet.export.runtime import arrays_of, as_detections
from ppdet.export.sessions import Runtime
from ppdet.export.worker import run_apart
from ppdet.inference.predictors import fetch, run
from ppdet.modeling.interfaces import Detector
from ppdet.structures import Batch, Detections, Sample
from ppdet.utils.tables import text_table

#: Detections with lower scores are not compared.
COUNTED_FROM = 0.05
#: Largest allowed difference of a box side, in pixels of the original image.
BOX_PIXELS = 0.5
#: Largest allowed difference of a score.
SCORE = 1e-3
#: Largest allowed difference of a mask probability, on the grid that the network puts out. The grid lies on
#: its box and moves with it: boxes 0.004 pixels apart were seen with probabilities 0.0013 apart.
MASK_PROB = 1e-2
#: Smallest allowed IoU of two masks of the same object.
MASK_IOU = 0.99
#: Masks that differ in no more pixels count as equal: where a probability is within its last digits of the
#: threshold, they decide on a pixel, which is more than 1 % of a mask of less than 100. Smaller than 300
#: pixels, it is `MASK_PROB` that holds a mask.
MASK_PIXELS = 3
#: Seed of the generated images.
_SEED = 20


@dataclass(frozen=True)
class Comparison:
    """The detections of a model in a runtime, compared with its own.

    Attributes:
        runtime: The runtime.
        images: Images compared.
        objects: Detections of the model that count.
        exported: Detections of the export that count.
        unmatched: Detections of either side without a match that neither the threshold nor the length of the
            list explains.
        box_pixels: Largest difference of a box side.
        score: Largest difference of a score.
        mask_iou: Smallest IoU of masks; 1 where there are none.
        mask_prob: Largest difference of a mask probability.
        seconds: The export's time for all images, each shape for the first time.
        native_seconds: The model's time for all images.
    """

    runtime: Runtime
    images: int
    objects: int
    exported: int
    unmatched: int
    box_pixels: float
    score: float
    mask_iou: float
    mask_prob: float
    seconds: float
    native_seconds: float

    @property
    def passed(self) -> bool:
        """Whether everything is within its limit."""
        return (
            self.unmatched == 0
            and self.box_pixels <= BOX_PIXELS
            and self.score <= SCORE
            and self.mask_iou >= MASK_IOU
            and self.mask_prob <= MASK_PROB
        )

    def to_dict(self) -> dict[str, Any]:
        """For the description of the export."""
        return asdict(self)


class Reference(NamedTuple):
    """What the model itself detects, with which each of its exports is compared.

    Attributes:
        listed: Its detections of each image.
        seconds: Its time for all images.
    """

    listed: list[Listed]
    seconds: float


def reference_of(model: Detector, batches: Sequence[Batch]) -> Reference:
    """Run the model on prepared images."""
    before = time.perf_counter()
    listed = [one for batch in batches for one in _native(model, batch)]
    return Reference(listed, time.perf_counter() - before)


def verify(
    reference: Reference, folder: Path, info: ExportInfo, runtime: Runtime, batches: Sequence[Batch]
) -> Comparison:
    """Compare an export with its model, each run of the export in a process of its own.

    Args:
        reference: What the model detects in `batches`.
        folder: Of the export.
        info: Its description.
        runtime: Runs it.
        batches: Prepared images.

    Returns:
        A comparison that passed.

    Raises:
        ExportError: If the runtime cannot run it at all.
        VerifyError: With a table of differences, if it differs.
    """
    result = compare(reference, folder, info, batches, runtime)
    if not result.passed:
        raise VerifyError(
            f"the detections of the export in {folder} differ from those of the model:\n{table([result])}"
        )
    return result


def compare(
    reference: Reference,
    folder: Path,
    info: ExportInfo,
    batches: Sequence[Batch],
    runtime: Runtime,
) -> Comparison:
    """Run an export and compare its detections with those of the model.

    Raises:
        ExportError: If the runtime cannot run it.
    """
    inputs = [_inputs(batch, info) for batch in batches]
    ran = run_apart(folder, runtime, inputs)
    exported = [
        listed
        for raw, batch in zip(ran.outputs, batches)
        for listed in _listed(as_detections(raw, batch, info), raw[2], raw[3] if len(raw) > 3 else None)
    ]
    native = reference.listed
    length = max(raw[2].shape[1] for raw in ran.outputs)
    parts = [difference(a, b, length) for a, b in zip(native, exported)]
    return Comparison(
        runtime=runtime,
        images=len(native),
        objects=sum(int((d.scores > COUNTED_FROM).sum()) for d, _ in native),
        exported=sum(int((d.scores > COUNTED_FROM).sum()) for d, _ in exported),
        unmatched=sum(part.unmatched for part in parts),
        box_pixels=max(part.box_pixels for part in parts),
        score=max(part.score for part in parts),
        mask_iou=min(part.mask_iou for part in parts),
        mask_prob=max(part.mask_prob for part in parts),
        seconds=sum(ran.seconds),
        native_seconds=reference.seconds,
    )


class Listed(NamedTuple):
    """Detections of an image with the mask probabilities of the network.

    Attributes:
        detections: By falling score, masks pasted.
        mask_probs: ``[D, M, M]`` float32 on a grid over each box, or None.
    """

    detections: Detections
    mask_probs: Optional[np.ndarray]


def _native(model: Detector, batch: Batch) -> list[Listed]:
    exported = run(model, batch)
    probs = None if exported.mask_probs is None else exported.mask_probs.numpy()
    return _listed(fetch(model, batch, exported), exported.labels.numpy(), probs)


def _listed(
    detections: Sequence[Detections], labels: np.ndarray, probs: Optional[np.ndarray]
) -> list[Listed]:
    """Detections with the unpadded rows of ``[N, D, M, M]`` probabilities."""
    return [
        Listed(one, None if probs is None else probs[i][labels[i] >= 0]) for i, one in enumerate(detections)
    ]


@dataclass(frozen=True)
class Difference:
    """How the detections of one image differ; fields as in `Comparison`."""

    unmatched: int
    box_pixels: float
    score: float
    mask_iou: float
    mask_prob: float


def difference(ours: Listed, theirs: Listed, length: int) -> Difference:
    """Match the detections of an image by falling score, each with the nearest unmatched box of its label.

    A detection without a match within `BOX_PIXELS` and `SCORE` is paired with the nearest box, so that the
    table shows the difference; it is unmatched if there is none. Detections within `SCORE` of the end of a
    list, at `COUNTED_FROM` or at its full length, may be missing from the other list.

    Args:
        ours: Of the model.
        theirs: Of the export.
        length: D, at which lists are cut.
    """
    native, exported = ours.detections, theirs.detections
    limits = [_end(d, length) + SCORE for d in (native, exported)]
    left = list(range(len(exported)))
    unmatched, box_pixels, score, mask_iou, mask_prob = 0, 0.0, 0.0, 1.0, 0.0
    for i in range(len(native)):
        same = [j for j in left if exported.labels[j] == native.labels[i]]
        gaps = [_gap(native, i, exported, j) for j in same]
        best = int(np.argmin([max(b / BOX_PIXELS, s / SCORE) for b, s in gaps])) if same else None
        certain = native.scores[i] > limits[1]
        if best is None or (not certain and gaps[best][0] > BOX_PIXELS):
            unmatched += int(best is None and certain)
            continue
        if native.scores[i] <= COUNTED_FROM:
            continue
        left.remove(same[best])
        box_pixels, score = max(box_pixels, gaps[best][0]), max(score, gaps[best][1])
        if native.masks is not None and exported.masks is not None:
            mask_iou = min(mask_iou, _mask_iou(native.masks[i], exported.masks[same[best]]))
        if ours.mask_probs is not None and theirs.mask_probs is not None:
            gap = np.abs(ours.mask_probs[i] - theirs.mask_probs[same[best]])
            mask_prob = max(mask_prob, float(gap.max()))
    unmatched += sum(1 for j in left if exported.scores[j] > limits[0])
    return Difference(unmatched, box_pixels, score, mask_iou, mask_prob)


def _end(detections: Detections, length: int) -> float:
    """Score below which a list is incomplete."""
    full = len(detections) >= length
    return max(COUNTED_FROM, float(detections.scores[-1]) if full else 0.0)


def _gap(a: Detections, i: int, b: Detections, j: int) -> tuple[float, float]:
    return float(np.abs(a.boxes[i] - b.boxes[j]).max()), abs(float(a.scores[i]) - float(b.scores[j]))


def _mask_iou(a: dict[str, Any], b: dict[str, Any]) -> float:
    from pycocotools import mask as coco_mask

    common = float(coco_mask.area(coco_mask.merge([a, b], intersect=True)))
    union = float(coco_mask.area(a)) + float(coco_mask.area(b)) - common
    return 1.0 if union - common <= MASK_PIXELS else common / union


def table(results: Sequence[Comparison]) -> str:
    """Comparisons as a text table, with the limits in the last line."""
    names = ("images", "objects", "export", "unmatched", "box px", "score", "mask IoU", "mask prob")
    rows = [["runtime", *names, "seconds", "native"]]
    for r in results:
        counts = [str(n) for n in (r.images, r.objects, r.exported)]
        differences = _cells(r.unmatched, r.box_pixels, r.score, r.mask_iou, r.mask_prob)
        rows.append([r.runtime, *counts, *differences, f"{r.seconds:.3f}", f"{r.native_seconds:.3f}"])
    limits = _cells(0, BOX_PIXELS, SCORE, MASK_IOU, MASK_PROB)
    rows.append(["limit", "", "", "", *limits, "", ""])
    return text_table(rows)


def _cells(unmatched: int, box_pixels: float, score: float, mask_iou: float, mask_prob: float) -> list[str]:
    return [str(unmatched), f"{box_pixels:.4f}", f"{score:.6f}", f"{mask_iou:.4f}", f"{mask_prob:.6f}"]


def _inputs(batch: Batch, info: ExportInfo) -> tuple[np.ndarray, ...]:
    images, sizes, factors = arrays_of(batch)
    return (as_bytes(images, info.preprocess) if info.uint8_input else images), sizes, factors


def as_bytes(images: np.ndarray, steps: Preprocess) -> np.ndarray:
    """Normalised ``[N, 3, H, W]`` back to the ``[N, H, W, 3]`` uint8 that it was made from."""
    mean, std = (np.array(v, np.float64) for v in (steps.mean, steps.std))
    pixels = (images.transpose(0, 2, 3, 1) * std + mean) / steps.scale
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def generated_images() -> list[np.ndarray]:
    """Generate three ``[H, W, 3]`` uint8 images of soft patches, in two sizes."""
    import cv2

    rng = np.random.default_rng(_SEED)
    images: list[np.ndarray] = []
    for height, width in ((240, 320), (330, 220), (240, 320)):
        patches = rng.integers(0, 256, (8, 10, 3)).astype(np.uint8)
        images.append(cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC))
    return images


def prepare(reader: Reader, images: Sequence[np.ndarray]) -> list[Batch]:
    """Batches of two, the last one of one, as a reader prepares them.

    Args:
        reader: Prepares them.
        images: ``[H, W, 3]`` uint8 RGB.
    """
    rng = np.random.default_rng(0)
    batches = []
    for start in range(0, len(images), 2):
        samples = [
            Sample(image_id=i, path=f"image {i}", image=image)
            for i, image in enumerate(images[start : start + 2], start=start)
        ]
        batches.append(batch_of(samples, [*reader.sample_transforms, *reader.batch_transforms], rng))
    return batches
