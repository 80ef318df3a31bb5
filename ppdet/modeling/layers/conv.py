"""The convolution of all networks."""

from __future__ import annotations

from typing import Any

from paddle import Tensor, nn

from ppdet.ops import onednn


class Conv2D(nn.Conv2D):
    """`paddle.nn.Conv2D` of the same arguments, parameters and results, which trains faster on processors.

    In dynamic mode on a processor, float32 kernels larger than one pixel are convolved by oneDNN
    (`ppdet.ops.onednn`); all else, exports included, is Paddle's own operator. Paddings are numbers.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._geometry = {
            "stride": _pair(self._stride),
            "padding": _pair(self._padding),
            "dilation": _pair(self._dilation),
        }

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to ``[N, C_out, H_out, W_out]``."""
        if onednn.worthwhile(x, self.weight):
            return onednn.conv2d(x, self.weight, self.bias, groups=self._groups, **self._geometry)
        result: Tensor = super().forward(x)
        return result


def _pair(value: Any) -> tuple[int, int]:
    """(vertical, horizontal) of one number or two."""
    both = (value, value) if isinstance(value, int) else tuple(value)
    vertical, horizontal = both
    return int(vertical), int(horizontal)
