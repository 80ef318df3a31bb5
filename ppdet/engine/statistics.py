"""What a forward pass changes in a model: the running statistics of BatchNorm."""

from __future__ import annotations

import paddle
from paddle import Tensor, nn


class RunningStatistics:
    """Keeps the statistics of a model as they are before a step, so that a step can leave no trace.

    One copy for all of them: a model has a hundred, of some hundred numbers each.

    Args:
        model: Its entries without gradients, of one dimension or none.
    """

    def __init__(self, model: nn.Layer) -> None:
        self._by_dtype: dict[str, list[Tensor]] = {}
        for value in model.state_dict().values():
            if value.stop_gradient and value.ndim <= 1:
                self._by_dtype.setdefault(str(value.dtype), []).append(value)
        self._kept: dict[str, Tensor] = {}

    def keep(self) -> None:
        """Remember the statistics as they are."""
        for dtype, tensors in self._by_dtype.items():
            self._kept[dtype] = paddle.concat([tensor.reshape([-1]) for tensor in tensors])

    def put_back(self) -> None:
        """Make the statistics what they were at the last `keep`."""
        for dtype, kept in self._kept.items():
            tensors = self._by_dtype[dtype]
            parts = paddle.split(kept, [tensor.size for tensor in tensors])
            for tensor, part in zip(tensors, parts):
                tensor.set_value(part.reshape(tensor.shape))
