"""What a machine has: processors' memory, and that of its GPU."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ppdet.utils.cpu import usable_cores

#: Where a container's limit is written (cgroup 2, cgroup 1); "max" or a huge number where there is none.
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_GIB = 1 << 30


@dataclass(frozen=True)
class Machine:
    """What a training may use.

    Attributes:
        gpus: GPUs that Paddle can use.
        memory: Bytes of one GPU, or those of the machine or its container where there is no GPU.
        cores: Cores that this process may use.
    """

    gpus: int
    memory: int
    cores: int

    def __str__(self) -> str:
        what = f"{self.gpus} GPU of" if self.gpus == 1 else f"{self.gpus} GPUs of" if self.gpus else "no GPU,"
        return f"{what} {self.memory / _GIB:.0f} GB, {self.cores} cores"


def this_machine() -> Machine:
    """The machine that this process runs on."""
    import paddle

    gpus = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    if gpus:
        memory = int(paddle.device.cuda.get_device_properties(0).total_memory)
    else:
        memory = _main_memory()
    return Machine(gpus, memory, usable_cores())


def _main_memory() -> int:
    """Bytes of main memory or of a container's limit, the less; 8 GiB where the system does not say."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return 8 * _GIB
    for path in _LIMITS:
        try:
            return min(total, int(path.read_text("ascii")))
        except (OSError, ValueError):
            continue
    return total
