"""Which runtime is fastest for an export on this machine: measured once and remembered."""

from __future__ import annotations

import hashlib
import json
import logging
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

from ppdet.engine.evaluator import hardware
from ppdet.export.info import FILE_NAME, read_info, reader_of
from ppdet.export.runtime import arrays_of, runtime_name
from ppdet.export.sessions import Runtime, open_session
from ppdet.export.verify import generated_images, prepare
from ppdet.utils.files import cache_folder, write_json

logger = logging.getLogger(__name__)

#: Timed runs of each runtime, in turn, after one that is not.
_RUNS = 5


def fastest(exports: Mapping[Runtime, Path], *, cache: Optional[Path] = None) -> Runtime:
    """The runtime that takes least time for an image.

    Args:
        exports: Folders of verified exports of one model, by the runtime of each.
        cache: Where results are remembered, per model, versions and processor; by default the user's cache.

    Raises:
        ExportError: If an export cannot be loaded.
    """
    if len(exports) == 1:
        return next(iter(exports))
    remembered = (cache or cache_folder() / "exports") / f"fastest-{_key(exports)}.json"
    times = _remembered(remembered)
    if times is None or set(times) != set(exports):
        times = _measure(exports)
        remembered.parent.mkdir(parents=True, exist_ok=True)
        write_json(remembered, times)
        shown = ", ".join(f"{runtime} {time:.1f}" for runtime, time in times.items())
        logger.info("measured once for this model and machine, ms an image: %s", shown)
    return min(exports, key=lambda runtime: times[runtime])


def _key(exports: Mapping[Runtime, Path]) -> str:
    parts = [
        f"{runtime_name(name)} {(path / FILE_NAME).read_text('utf-8')}" for name, path in exports.items()
    ]
    return hashlib.sha256("\n".join([*parts, json.dumps(hardware())]).encode()).hexdigest()[:24]


def _remembered(path: Path) -> Optional[dict[str, float]]:
    """Milliseconds by runtime; None where nothing, or nothing of use, is remembered."""
    try:
        times = json.loads(path.read_text("utf-8"))
        return {str(name): float(value) for name, value in times.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def _measure(exports: Mapping[Runtime, Path]) -> dict[str, float]:
    """Median milliseconds for one generated image."""
    info = read_info(next(iter(exports.values())))
    arrays = arrays_of(prepare(reader_of(info), generated_images()[:1])[0])
    sessions = {runtime: open_session(folder, runtime) for runtime, folder in exports.items()}
    times: dict[str, list[float]] = {runtime: [] for runtime in sessions}
    for turn in range(1 + _RUNS):
        for runtime, session in sessions.items():
            before = time.perf_counter()
            session(*arrays)
            if turn:
                times[runtime].append(1e3 * (time.perf_counter() - before))
    return {runtime: statistics.median(values) for runtime, values in times.items()}
