"""Tensors that depend on numbers alone, made once: each takes several operations, on a GPU a copy too."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Callable, Generic, TypeVar, Union

import paddle
from paddle import Tensor

T = TypeVar("T")


class Kept(Generic[T]):
    """Results by what they depend on; the device is a part of that. Traced graphs get results of their own.

    Whoever gets a result must not write to it.

    Args:
        limit: Results that are kept; the one not needed for longest goes first.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._results: OrderedDict[Hashable, T] = OrderedDict()

    @paddle.jit.not_to_static
    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, or gave for the same key."""
        if not paddle.in_dynamic_mode():
            return make()
        place = (key, paddle.get_device())
        if place not in self._results:
            # Whoever asks next may compute in full precision.
            with paddle.amp.auto_cast(enable=False):
                self._results[place] = make()
            if len(self._results) > self._limit:
                self._results.popitem(last=False)
        self._results.move_to_end(place)
        return self._results[place]


_CONSTANTS: Kept[Tensor] = Kept(256)
_INDICES: Kept[Tensor] = Kept(256)


def constant(values: Sequence[float], like: Tensor) -> Tensor:
    """Numbers as a tensor of one dimension, of the type of `like`."""
    numbers = tuple(values)
    return _CONSTANTS.get((numbers, like.dtype), lambda: paddle.to_tensor(list(numbers), dtype=like.dtype))


def number(value: float, like: Tensor) -> Tensor:
    """A number of the type of `like`, to compare with: one that Python holds is made anew every time."""
    return _CONSTANTS.get((value, like.dtype), lambda: paddle.full([], value, dtype=like.dtype))


def indices(numbers: Sequence[int]) -> Tensor:
    """Whole numbers as an int64 tensor of one dimension."""
    return _INDICES.get(tuple(numbers), lambda: paddle.to_tensor(list(numbers), dtype="int64"))


def arange(end: Union[int, Tensor]) -> Tensor:
    """0, 1, ... `end` - 1 as an int64 tensor of one dimension."""
    return _INDICES.get(("arange", end), lambda: paddle.arange(end, dtype="int64"))
