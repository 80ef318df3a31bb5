"""Runs a detector on prepared batches, whatever the runtime: from a batch to detections on the host.

Letters: N images, D detections per image, M mask resolution.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import paddle

from ppdet.modeling.interfaces import Detector
from ppdet.modeling.reparameterize import for_inference
from ppdet.ops.masks import paste_to_rle
from ppdet.ops.whole_pixel_masks import paste_whole_pixels
from ppdet.structures import Batch, BoxConventions, Detections, DetectionTensors, original_sizes
from ppdet.structures.conventions import NORMAL


class Predictor(ABC):
    """Detects objects in batches, in two halves that can be timed apart.

    Attributes:
        runtime: What runs the network, for reports, e.g. ``"ONNX Runtime 1.20"``.
    """

    runtime: str

    def refresh(self) -> None:  # noqa: B027  (what runs a file has nothing to do)
        """Take over weights that have changed since."""

    @abstractmethod
    def run(self, batch: Batch) -> Any:
        """The network: what `finish` takes. May leave work on the device unfinished."""

    @abstractmethod
    def finish(self, batch: Batch, raw: Any) -> list[Detections]:
        """Unpad, paste masks, bring everything to the host: detections of each image in the batch's order."""

    def __call__(self, batch: Batch) -> list[Detections]:
        """Detections of each image, sorted by falling score."""
        return self.finish(batch, self.run(batch))


class NativePredictor(Predictor):
    """The model itself, run by Paddle operation by operation: the reference for all others.

    Args:
        model: A detector. Where `for_inference` copies it, the predictor keeps the weights of this moment
            until it is refreshed.
    """

    runtime = "paddle dygraph"

    def __init__(self, model: Detector) -> None:
        self._model = model
        self.refresh()

    def refresh(self) -> None:
        """Take over the weights that the model has now."""
        self._copy = for_inference(self._model)

    def run(self, batch: Batch) -> Any:
        """Tensors on the model's device."""
        return run(self._copy, batch)

    def finish(self, batch: Batch, raw: Any) -> list[Detections]:
        """One transfer from the device, then unpadding and masks on the host."""
        return fetch(self._model, batch, raw)


def predict(detector: Detector, batch: Batch) -> list[Detections]:
    """Detections of each image of a batch, in the batch's order.

    Everything comes from the device in one transfer. The detector is left in the mode (training or not)
    that it was in.

    Args:
        detector: Any detector.
        batch: Images; targets are not looked at.

    Returns:
        N detections, sorted by falling score; with masks of the original size where the detector has them.
    """
    return fetch(detector, batch, run(detector, batch))


@paddle.no_grad()
def run(detector: Detector, batch: Batch) -> DetectionTensors:
    """The first half of `predict`: everything on the device."""
    training = detector.training
    detector.eval()
    found = detector.detect(batch.images, batch.image_sizes, batch.scale_factors)
    if training:
        detector.train()
    return found


@paddle.no_grad()
def fetch(detector: Detector, batch: Batch, found: DetectionTensors) -> list[Detections]:
    """The second half of `predict`: one transfer from the device, then unpadding and masks on the host."""
    sizes = original_sizes(batch.image_sizes, batch.scale_factors)
    # One tensor, so that there is one transfer; float32 holds any label and size exactly.
    columns = [found.boxes, found.scores.unsqueeze(-1), found.labels.astype("float32").unsqueeze(-1)]
    if found.mask_probs is not None:
        columns.append(found.mask_probs.flatten(2))
    packed = paddle.concat([sizes, paddle.concat(columns, axis=-1).flatten(1)], axis=1).numpy()
    rows = packed[:, 2:].reshape([*found.scores.shape, -1])
    side = None if found.mask_probs is None else found.mask_probs.shape[-1]
    return to_detections(
        rows[..., :4],
        rows[..., 4],
        rows[..., 5].astype(np.int64),
        None if side is None else rows[..., 6:].reshape([*rows.shape[:2], side, side]),
        image_ids=batch.image_ids,
        original_sizes=[(int(h), int(w)) for h, w in packed[:, :2]],
        mask_threshold=detector.mask_threshold,
        conventions=detector.conventions,
    )


def to_detections(
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    mask_probs: Optional[np.ndarray] = None,
    *,
    image_ids: Sequence[int],
    original_sizes: Sequence[tuple[int, int]],
    mask_threshold: float = 0.5,
    conventions: BoxConventions = NORMAL,
) -> list[Detections]:
    """Padded arrays, as a detector or its export puts out, to detections; masks are pasted.

    Args:
        boxes: ``[N, D, 4]`` float32 xyxy, pixels of the original images.
        scores: ``[N, D]`` float32, falling.
        labels: ``[N, D]`` int64, -1 in padded rows, which come last.
        mask_probs: ``[N, D, M, M]`` float32 in 0..1, or None.
        image_ids: N ids.
        original_sizes: N (height, width).
        mask_threshold: Probability from which on a pixel belongs to the object.
        conventions: Box conventions of the weights; they say how masks are pasted.

    Returns:
        Detections of each image without padding.
    """
    paste = paste_whole_pixels if conventions.whole_pixel_masks else paste_to_rle
    detections = []
    for i, (image_id, size) in enumerate(zip(image_ids, original_sizes)):
        kept = labels[i] >= 0
        # Copies, so that the padding does not stay in memory for as long as the detections do.
        mine = boxes[i][kept]
        masks = None
        if mask_probs is not None:
            masks = paste(mask_probs[i][kept], mine, size, threshold=mask_threshold)
        detections.append(Detections(image_id, mine, scores[i][kept], labels[i][kept], masks))
    return detections
