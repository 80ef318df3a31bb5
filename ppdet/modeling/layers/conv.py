"""The convolution of all networks."""

from __future__ import annotations

from typing import Any

from paddle import Tensor, nn

from ppdet.ops import onednn


class Conv2D(nn.Conv2D):
    """`paddle.nn.Conv2D` of the same arguments, parameters and results, which can train faster on processors.

    Where it is switched on, float32 kernels larger than one pixel are convolved by oneDNN, in dynamic mode on
    a processor (`ppdet.ops.onednn`); all else is Paddle's own operator.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        pairs = [_pair(value) for value in (self._stride, self._padding, self._dilation)]
        self._pairs = dict(zip(("stride", "padding", "dilation"), pairs)) if all(pairs) else None

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to ``[N, C_out, H_out, W_out]``."""
        if self._pairs is not None and onednn.worthwhile(x, self.weight):
            return onednn.conv2d(x, self.weight, self.bias, groups=self._groups, **self._pairs)
        result: Tensor = super().forward(x)
        return result


def _pair(value: Any) -> tuple[int, ...]:
    """(vertical, horizontal) of one number or two; empty for anything else, as a padding for each side."""
    numbers = [value] * 2 if isinstance(value, int) else list(value)
    return tuple(numbers) if len(numbers) == 2 and all(isinstance(one, int) for one in numbers) else ()
