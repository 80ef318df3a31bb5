"""A detector that cannot err: it finds the coloured rectangles of a black picture, by their pixels."""

from __future__ import annotations

from typing import Any, Optional

import cv2
import numpy as np

from ppdet.config.spec import Spec
from ppdet.data.readers import TestReader
from ppdet.data.transforms.decode import Decode
from ppdet.data.transforms.normalize import NormalizeImage, Permute
from ppdet.data.transforms.pad import PadBatch
from ppdet.data.transforms.resize import MultiscaleTestResize, Resize
from ppdet.inference.predictors import Predictor
from ppdet.ops.masks import encode_window
from ppdet.structures import Batch, Detections, Sample

#: Brightness of a rectangle of class 0, 1, 2 in its channel; lower ones score less.
BRIGHT = 250


class RectangleFinder(Predictor):
    """Every connected rectangle of one colour channel is an object of that class, its score its brightness.

    Args:
        masks: Give masks too.

    Attributes:
        shapes: Batch shapes seen.
    """

    runtime = "eyes"

    def __init__(self, *, masks: bool = False) -> None:
        self._masks = masks
        self.shapes: list[tuple[int, ...]] = []

    def run(self, batch: Batch) -> Any:
        """Nothing: all is done in `finish`."""
        self.shapes.append(tuple(batch.images.shape))

    def finish(self, batch: Batch, raw: Any) -> list[Detections]:
        """Objects in pixels of the images before resizing."""
        del raw
        images = batch.images.numpy()
        sizes, factors = batch.image_sizes.numpy(), batch.scale_factors.numpy()
        return [
            self._detect(images[i], sizes[i], factors[i], image_id)
            for i, image_id in enumerate(batch.image_ids)
        ]

    def _detect(self, image: np.ndarray, size: np.ndarray, factor: np.ndarray, image_id: int) -> Detections:
        rows = []
        original = (round(float(size[0] / factor[0])), round(float(size[1] / factor[1])))
        for label, plane in enumerate(image):
            count, places, stats, _ = cv2.connectedComponentsWithStats(
                (plane > 0.1).astype(np.uint8), connectivity=8
            )
            for i in range(1, count):
                x, y, w, h = (float(v) for v in stats[i, :4])
                score = float(np.median(plane[places == i])) / 255
                scale = np.array([factor[1], factor[0]] * 2, np.float32)
                rows.append((score, label, np.array([x, y, x + w, y + h], np.float32) / scale))
        rows.sort(key=lambda row: -row[0])
        boxes = np.array([row[2] for row in rows], np.float32).reshape(-1, 4)
        masks: Optional[tuple[dict[str, Any], ...]] = None
        if self._masks:
            masks = tuple(_filled(box, original) for box in boxes)
        scores, labels = (np.array([row[k] for row in rows]) for k in (0, 1))
        return Detections(image_id, boxes, scores.astype(np.float32), labels.astype(np.int64), masks)


def _filled(box: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    return encode_window(np.ones((x2 - x1, y2 - y1), bool), x1, y1, size)


def reader(
    resize: Optional[dict[str, Any]] = None, *, several: bool = False, batch_size: int = 1
) -> TestReader:
    """Pixels as they are in 0..255, maybe resized, padded to a common size."""
    steps: list[Any] = [Spec.of(Decode)]
    if resize is not None:
        steps.append(Spec.of(MultiscaleTestResize if several else Resize, **resize))
    plain = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "is_scale": False}
    return TestReader(
        sample_transforms=[*steps, Spec.of(NormalizeImage, **plain), Spec.of(Permute)],
        batch_transforms=[Spec.of(PadBatch, pad_to_stride=1)],
        batch_size=batch_size,
    )


def picture(height: int, width: int, rectangles: list[tuple[int, int, int, int, int, int]]) -> Sample:
    """A black image with rectangles (x1, y1, x2, y2, class, brightness)."""
    image = np.zeros((height, width, 3), np.uint8)
    for x1, y1, x2, y2, label, bright in rectangles:
        image[y1:y2, x1:x2, label] = bright
    return Sample(image_id=7, path="picture", image=image)
