"""What evaluation, inference and `ppdet.predict` need of a model, whatever runs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from ppdet.inference.host import fetch, run
from ppdet.modeling.interfaces import Detector
from ppdet.modeling.reparameterize import for_inference
from ppdet.structures import Batch, Detections


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
