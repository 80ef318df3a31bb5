"""What the processes of `beside.py` say to each other: a line of JSON asks, a line of JSON answers.

A process answers once without being asked, when its model is there.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any, Callable

#: Operators whose GPU kernels copy a result to the host and wait for it (Paddle's ``phi/kernels/gpu``), and
#: the fused ones of detection, which have such a copy or run on the host.
WAITING = (
    "where_index", "masked_select", "unique", "nms", "roi_align", "roi_align_grad", "generate_proposals_v2",
    "distribute_fpn_proposals", "multiclass_nms3",
)  # fmt: skip


def answer(tasks: dict[str, Callable[[], None]]) -> None:
    """Run what is asked for until the input ends.

    Args:
        tasks: What can be asked for.
    """
    print("answer {}", file=sys.__stdout__, flush=True)
    with contextlib.redirect_stdout(sys.stderr):  # a framework may print
        for line in sys.stdin:
            question = json.loads(line)
            run = tasks[question["task"]]
            found = counted(run) if question["count"] else timed(run)
            print("answer", json.dumps(found), file=sys.__stdout__, flush=True)


def timed(run: Callable[[], None]) -> dict[str, float]:
    """Seconds of a call."""
    began = time.perf_counter()
    run()
    return {"seconds": time.perf_counter() - began}


def counted(run: Callable[[], None]) -> dict[str, Any]:
    """Paddle's operators that a call launches, and how often it waits for the device."""
    import paddle

    core: Any = paddle.base.core
    paddle.set_flags({"FLAGS_low_precision_op_list": 1})
    core.clear_low_precision_op_list()
    with _reads() as reads:
        run()
    launched = {
        name: sum(map(int, str(counts).split(",")))
        for name, counts in core.get_low_precision_op_list().items()
    }
    paddle.set_flags({"FLAGS_low_precision_op_list": 0})
    kernels = sum(launched.get(name, 0) for name in WAITING)
    return {"launches": sum(launched.values()), "waiting": kernels, "reads": len(reads), "all": launched}


def _reads() -> Any:
    """Reads of tensors on the host, as the tests count them; from a file, since both packages are `ppdet`."""
    path = Path(__file__).resolve().parents[2] / "tests" / "support_sync.py"
    spec = importlib.util.spec_from_file_location("support_sync", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.count_host_syncs()
