"""One optimiser step: gradients of a window of batches, checked, then applied."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Optional

import paddle
from paddle import Tensor, nn
from paddle.optimizer import Optimizer

from ppdet.engine import distributed
from ppdet.engine.amp import AmpSettings, Precision
from ppdet.engine.guards import gradients_finite, is_out_of_memory, out_of_memory_error
from ppdet.structures import Batch


class TrainStep:
    """Runs a model forward and backward and updates it.

    Args:
        model: Gives named losses for a batch.
        optimizer: Of its parameters.
        amp: Mixed precision; None for float32.
        find_unused_parameters: Let several processes cope with parameters that get no gradient.
    """

    def __init__(
        self,
        model: nn.Layer,
        optimizer: Optimizer,
        *,
        amp: Optional[AmpSettings] = None,
        find_unused_parameters: bool = False,
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self.precision = Precision(amp, model, optimizer)
        self._network = distributed.wrap(model, find_unused_parameters=find_unused_parameters)
        self._find_unused_parameters = find_unused_parameters
        self._averages_after = distributed.averages_after_backward()

    def backward(self, window: Sequence[Batch]) -> dict[str, Tensor]:
        """Gradients as of one batch of all images of the window.

        Returns:
            Loss terms, and their sum as ``loss``: float32 scalars on the device, without history.

        Raises:
            TrainingError: If memory does not suffice; names the shapes.
        """
        images = sum(len(batch) for batch in window)
        sums: dict[str, Tensor] = {}
        try:
            for i, batch in enumerate(window):
                with self._synchronizes(i == len(window) - 1):
                    terms = self._backward(batch, len(batch) / images)
                for name, value in terms.items():
                    sums[name] = sums[name] + value if name in sums else value
            if self._averages_after:
                distributed.average_gradients(self._model, missing_is_zero=self._find_unused_parameters)
        except (MemoryError, RuntimeError, SystemError) as error:
            if is_out_of_memory(error):
                raise out_of_memory_error(error, window) from error
            raise
        return sums

    def _backward(self, batch: Batch, share: float) -> dict[str, Tensor]:
        with self.precision.autocast():
            terms = {name: value.astype("float32") * share for name, value in self._network(batch).items()}
        terms["loss"] = paddle.add_n(list(terms.values()))
        self.precision.backward(terms["loss"])
        terms = {name: value.detach() for name, value in terms.items()}
        if batch.targets is not None:
            # A box that is no number can leave losses finite (decoding clips) and spoil training, so the
            # sum says so: 0 times infinity is not a number. Nothing is read from the device.
            terms["loss"] = terms["loss"] + (batch.targets.boxes * 0.0).sum()
        return terms

    def _synchronizes(self, last: bool) -> AbstractContextManager[Any]:
        """Gradients travel between processes once per window, with its last batch or after it."""
        if (last and not self._averages_after) or not isinstance(self._network, paddle.DataParallel):
            return nullcontext()
        context: AbstractContextManager[Any] = self._network.no_sync()
        return context

    def is_finite(self, losses: dict[str, Tensor]) -> bool:
        """Whether the loss and all gradients are finite in every process. Waits for the device."""
        finite = paddle.isfinite(losses["loss"])
        if not self.precision.scales:  # else the scale is sought by overflowing now and then
            finite = paddle.logical_and(finite, gradients_finite(self._model))
        return not distributed.any_rank(not bool(finite))

    def gradient_norm(self) -> Tensor:
        """Euclidean norm of all gradients, float32 on the device; before clipping, without the scale."""
        squares = [
            paddle.square(p.grad.astype("float32")).sum()  # not `** 2`, a general power
            for p in self._model.parameters()
            if p.trainable and p.grad is not None
        ]
        norm = paddle.sqrt(paddle.add_n(squares)) if squares else paddle.zeros([])
        return norm / self.precision.scale

    def update(self) -> bool:
        """Apply the gradients.

        Returns:
            Whether parameters changed (see `Precision.step`).
        """
        updated = self.precision.step(self._optimizer)
        self.discard()
        return updated

    def discard(self) -> None:
        """Forget the gradients."""
        self._optimizer.clear_grad()
