"""Counts how often code waits for the device: every read of a tensor's values on the host.

On a GPU each of these stops the queue until everything before it is done, which is what makes a detector slow
without any single slow operation. On a CPU they cost nothing, so only counting finds them.

    with count_host_syncs() as reads:
        model(batch)
    assert not reads, reads
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import paddle

#: Methods of a tensor that hand its values to Python. ``__getitem__`` with a bool mask is not among them,
#: since it shows as `nonzero` does: shape known on return, values still on the device.
READS = (
    "numpy", "item", "tolist", "__bool__", "__int__", "__float__", "__index__", "__array__", "__len_hint__",
)  # fmt: skip

_OURS = ("ppdet", "tests")


@contextmanager
def count_host_syncs() -> Iterator[list[str]]:
    """Record reads of tensor values while the block runs.

    Yields:
        A list that grows by one text per read: the method, and the innermost line of our code that caused it.
        Reads that one read makes in turn (``__bool__`` calls ``numpy``) count once.
    """
    reads: list[str] = []
    depth = 0

    def watch(name, original):
        def watched(self, *args, **kwargs):
            nonlocal depth
            if depth == 0:
                reads.append(f"{name} at {_culprit()}")
            depth += 1
            try:
                return original(self, *args, **kwargs)
            finally:
                depth -= 1

        return watched

    with _patched(dict.fromkeys(READS, watch)):
        yield reads


@contextmanager
def _patched(watchers) -> Iterator[None]:
    tensor = type(paddle.zeros([1]))
    patches = [
        mock.patch.object(tensor, name, watch(name, getattr(tensor, name)))
        for name, watch in watchers.items()
        if hasattr(tensor, name)
    ]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


def _culprit() -> str:
    """``file:line: code`` of the innermost frame in this project, this file aside; else of the innermost."""
    frames = [f for f in traceback.extract_stack() if not f.filename.endswith("support_sync.py")]
    ours = [f for f in frames if any(f"/{part}/" in f.filename for part in _OURS)]
    frame = (ours or frames)[-1]
    return f"{frame.filename}:{frame.lineno}: {frame.line}"
