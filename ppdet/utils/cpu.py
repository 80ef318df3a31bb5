"""Settings of the processor that Paddle's matrix library reads at its first product.

`import ppdet` makes them (`prepare_environment`), so the command line, a training started from Python and the
processes that either of them starts all have them. Only this module knows their names.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

CPUINFO = Path("/proc/cpuinfo")
#: Instruction sets that each code path of MKL uses, the faster first. The kernel lists in /proc/cpuinfo what
#: the processor has and the system supports; a path that uses one not listed ends in SIGILL.
_CODE_PATHS = {
    "7": {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma"},
    "5": {"avx2", "fma"},
}
_SETTINGS = ("MKL_DEBUG_CPU_TYPE", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


def usable_cores() -> int:
    """This process's share of the cores that `taskset` or a container leaves it."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("PADDLE_LOCAL_SIZE", "1")))  # set by paddle.distributed.launch


def prepare_environment() -> None:
    """Set MKL's code path and number of threads in the environment, unless the user has set them.

    MKL reads both when it first multiplies, so Paddle may have been imported before. After the first product
    in this process they have no effect.
    """
    if "MKL_DEBUG_CPU_TYPE" not in os.environ:
        path = mkl_code_path(CPUINFO.read_text("utf-8") if CPUINFO.is_file() else "")
        if path is not None:
            os.environ["MKL_DEBUG_CPU_TYPE"] = path
    # Paddle sets OMP_NUM_THREADS to 1 where it is not set, so it multiplies matrices on one thread. ResNet-50
    # forward, 480x640, two cores, Paddle 3.3.1: 0.71 s as it comes, 0.49 s with this, 0.72 s with
    # FLAGS_paddle_num_threads=2 alone. OMP_NUM_THREADS=2 does the same as this and prints a warning.
    if "OMP_NUM_THREADS" not in os.environ:
        os.environ.setdefault("MKL_NUM_THREADS", str(usable_cores()))


def mkl_code_path(cpuinfo: str) -> Optional[str]:
    """The value of MKL_DEBUG_CPU_TYPE for a processor, or None to leave the choice to MKL.

    Paddle ships an MKL of 2019, which chooses well on Intel processors and takes its slowest path on all
    others, whatever they can do. On AMD EPYC with AVX-512 (one thread, CPU time) a matrix product is 2.7
    times as fast with 7, a convolution with its gradients 1.4 to 2.2 times (`benchmarks/matrix_library.py`).

    Args:
        cpuinfo: Text of /proc/cpuinfo.
    """
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    fields = {name.strip(): value.strip() for name, _, value in lines}
    if fields.get("vendor_id", "GenuineIntel") == "GenuineIntel":
        return None
    flags = set(fields.get("flags", "").split())
    return next((value for value, needed in _CODE_PATHS.items() if needed <= flags), None)


def settings_in_force() -> str:
    """The settings of this process in one line, for `--debug`."""
    values = (f"{name}={os.environ.get(name, '(unset)')}" for name in _SETTINGS)
    return f"matrix library: {', '.join(values)}; {usable_cores()} usable cores"
