"""Copies to the device that computes."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paddle import Tensor

#: Pinned copies that a GPU may still be reading. A batch has some ten arrays, and the host is at most a few
#: steps
#: ahead of the device, whose queue holds about a thousand kernels.
_IN_FLIGHT: deque[Any] = deque(maxlen=128)


def to_device(array: Any) -> Tensor:
    """An array, or what makes one, as a tensor on the device in use.

    To a GPU it goes by way of pinned memory, and nothing waits for it: a copy from pageable memory would wait
    until the device has done all that was asked of it before.
    """
    import paddle

    if not paddle.get_device().startswith("gpu"):
        return paddle.to_tensor(array)
    pinned = paddle.to_tensor(array, place=paddle.CUDAPinnedPlace())
    _IN_FLIGHT.append(pinned)
    return pinned.cuda(blocking=False)
