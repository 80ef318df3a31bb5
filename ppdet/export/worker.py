"""Runs an export on given inputs in a process of its own: ``python -m ppdet.export.worker``.

A runtime that cannot run a graph may end its process by a signal or a corrupted heap. So a graph is run here
before it is run in the user's process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ppdet.export.errors import ExportError
from ppdet.export.sessions import Runtime, open_session

#: Seconds after which a runtime counts as stuck.
TIMEOUT = 600.0


class Result(NamedTuple):
    """Outputs of an export.

    Attributes:
        outputs: Per input, the arrays that the network returns.
        seconds: Per input, the time of its first run.
    """

    outputs: list[list[np.ndarray]]
    seconds: list[float]


def run_apart(folder: Path, runtime: Runtime, inputs: list[tuple[np.ndarray, ...]]) -> Result:
    """Run an export in a new process.

    Args:
        folder: Of the export.
        runtime: By what.
        inputs: image, im_shape and scale_factor, one tuple per run.

    Raises:
        ExportError: If the process ends without a result; says how.
    """
    with tempfile.TemporaryDirectory() as scratch:
        given, result = Path(scratch) / "inputs.npz", Path(scratch) / "outputs.npz"
        np.savez(given, *[array for arrays in inputs for array in arrays])
        job = {
            "folder": str(folder.resolve()),
            "runtime": runtime,
            "inputs": str(given),
            "outputs": str(result),
        }
        words = [sys.executable, "-m", "ppdet.export.worker", json.dumps(job)]
        root = str(Path(__file__).resolve().parents[2])
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, errors="replace", timeout=TIMEOUT, cwd=root
            )
        except subprocess.TimeoutExpired:
            raise ExportError(f"{runtime}: no result within {TIMEOUT:.0f} s") from None
        if done.returncode or not result.is_file():
            raise ExportError(f"{runtime}: {_reason(done.returncode, done.stderr)}")
        return _read(result, len(inputs))


def _reason(status: int, stderr: str) -> str:
    ended = f"the process was ended by signal {-status}" if status < 0 else f"exit status {status}"
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line or "error" in line]
    return f"{ended}; {(errors or lines or ['no message'])[-1][:300]}"


def _read(path: Path, count: int) -> Result:
    with np.load(path) as arrays:
        each = int(arrays["each"])
        outputs = [[arrays[f"o{i}_{j}"] for j in range(each)] for i in range(count)]
        return Result(outputs, [float(s) for s in arrays["seconds"]])


def main(text: str) -> None:
    """Do the job that `run_apart` describes."""
    job = json.loads(text)
    session = open_session(Path(job["folder"]), job["runtime"])
    with np.load(job["inputs"]) as arrays:
        flat = [arrays[name] for name in arrays.files]
    results: dict[str, Any] = {}
    seconds = []
    for index in range(len(flat) // 3):
        before = time.perf_counter()
        outputs = session(*flat[3 * index : 3 * index + 3])
        seconds.append(time.perf_counter() - before)
        results.update({f"o{index}_{j}": array for j, array in enumerate(outputs)})
        results["each"] = np.array(len(outputs))
    np.savez(job["outputs"], seconds=np.array(seconds), **results)


if __name__ == "__main__":
    main(sys.argv[1])
