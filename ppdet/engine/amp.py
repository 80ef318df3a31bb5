"""Mixed precision (Micikevicius et al., arXiv:1710.03740), where the device has it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Optional, cast

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.optimizer import Optimizer

logger = logging.getLogger(__name__)

HalfPrecision = Literal["float16", "bfloat16"]


@dataclass(frozen=True)
class AmpSettings:
    """How to mix.

    Attributes:
        level: ``O1`` runs chosen operators in half precision; ``O2`` almost all, on
            half-precision weights with float32 masters.
        dtype: ``auto`` takes bfloat16 where the device has it, else float16.
        custom_white_list: Operators that always run in half precision.
        custom_black_list: Operators that never do.
        master_grad: With ``O2``, keep gradients in float32.
        init_loss_scaling: First factor on the loss; float16 only.
    """

    level: Literal["O1", "O2"] = "O1"
    dtype: Literal["auto", "float16", "bfloat16"] = "auto"
    custom_white_list: Optional[list[str]] = None
    custom_black_list: Optional[list[str]] = None
    master_grad: bool = False
    init_loss_scaling: float = 65536.0


class Precision:
    """Casts, scales and steps; with `settings` None, or on a device without half precision, plainly.

    Args:
        settings: How to mix; None for float32.
        model: Its parameters are cast for ``O2``.
        optimizer: Keeps float32 masters for ``O2``.

    Attributes:
        skipped: Steps left out because scaled gradients overflowed, which is part of finding the scale.
        dtype: Name of the half precision in use, or None.
    """

    def __init__(self, settings: Optional[AmpSettings], model: nn.Layer, optimizer: Optimizer) -> None:
        self.skipped = 0
        self._settings = settings
        self.dtype: Optional[HalfPrecision] = None if settings is None else _available(settings.dtype)
        self._scaler: Any = None
        if settings is None or self.dtype is None:
            return
        if self.dtype == "float16":
            self._scaler = paddle.amp.GradScaler(init_loss_scaling=settings.init_loss_scaling)
        if settings.level == "O2":
            paddle.amp.decorate(
                model,
                cast(Any, optimizer),
                level="O2",
                dtype=self.dtype,
                master_weight=True,
                master_grad=settings.master_grad,
            )
        logger.info("mixed precision: %s, %s", settings.level, self.dtype)

    def autocast(self) -> AbstractContextManager[Any]:
        """Context of the forward pass."""
        if self._settings is None or self.dtype is None:
            return nullcontext()
        context: AbstractContextManager[Any] = paddle.amp.auto_cast(
            level=self._settings.level,
            dtype=self.dtype,
            custom_white_list=self._settings.custom_white_list,
            custom_black_list=self._settings.custom_black_list,
        )
        return context

    def backward(self, loss: Tensor) -> None:
        """Gradients of the (scaled) loss."""
        (loss if self._scaler is None else self._scaler.scale(loss)).backward()

    @property
    def scales(self) -> bool:
        """Whether gradients are scaled, so that overflows are expected now and then."""
        return self._scaler is not None

    @property
    def scale(self) -> float:
        """Factor on the loss and so on its gradients; 1 without scaling."""
        return 1.0 if self._scaler is None else float(self._scaler._scale.item())

    def step(self, optimizer: Optimizer) -> bool:
        """Update the parameters.

        Returns:
            Whether they were updated, and not left alone because scaled gradients overflowed.
        """
        if self._scaler is None:
            optimizer.step()
            return True
        self._scaler.unscale_(optimizer)
        # Paddle has no public name for it; GradScaler.step reads the same tensor, so this costs no
        # further wait for the device.
        overflow = bool(self._scaler._found_inf.item())
        self._scaler.step(optimizer)
        self._scaler.update()
        self.skipped += overflow
        return not overflow

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        state: dict[str, Any] = {"skipped": self.skipped, "dtype": self.dtype or ""}
        if self._scaler is not None:
            scaler = self._scaler.state_dict()
            state["scaler"] = {
                k: v if isinstance(v, (bool, int, float)) else np.array(v) for k, v in scaler.items()
            }
        return state

    def set_state(self, state: Mapping[str, Any]) -> None:
        """From the checkpoint."""
        self.skipped = int(state["skipped"])
        if state["dtype"] != (self.dtype or ""):
            logger.warning(
                "the checkpoint was trained in %s, this run is in %s: it continues, but not exactly",
                state["dtype"] or "float32",
                self.dtype or "float32",
            )
        elif self._scaler is not None:
            self._scaler.load_state_dict(dict(state["scaler"]))


def _available(dtype: str) -> Optional[HalfPrecision]:
    """The half precision to use, or None after a warning that says why."""
    if not paddle.get_device().startswith("gpu"):
        logger.warning(
            "mixed precision is left out: Paddle has it on GPUs only, this is %s", paddle.get_device()
        )
        return None
    has: dict[HalfPrecision, bool] = {
        "bfloat16": paddle.amp.is_bfloat16_supported(),
        "float16": paddle.amp.is_float16_supported(),
    }
    found = next((name for name, there in has.items() if there and dtype in ("auto", name)), None)
    if found is None:
        logger.warning("mixed precision is left out: this device does not have it (%s)", dtype)
    return found
