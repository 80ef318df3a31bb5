"""A pytest plugin that measures what golden tests compare, so that `docs/parity.md` shows their own numbers.

A test passes or fails; how far it is from failing is lost. This plugin wraps the comparisons that golden
tests make (NumPy's, pytest's and those of `rcnn_support`), notes the error each of them found, and leaves
the verdict to the test. `benchmarks/parity.py` runs the tests with it and makes the page.
"""

from __future__ import annotations

import ast
import functools
import linecache
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from tests.parity import rcnn_support
from tests.support import GOLDENS

_HERE = Path(__file__).name
#: What `pytest.approx` makes of a number; also what it compares the entries of lists and mappings with.
_APPROX: Any = type(pytest.approx(1.0))


class Recorder:
    """Notes of the running session.

    Attributes:
        rows: Test id -> what is compared -> ``{"unit", "error", "tolerance", "share", "count"}``, share being
            the error divided by the tolerance.
        outcomes: Test id -> ``passed``, ``failed`` or ``skipped``.
        opened: Names of golden files that were read.
    """

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, dict[str, Any]]] = {}
        self.outcomes: dict[str, str] = {}
        self.opened: set[str] = set()
        self._current: str | None = None
        sys.addaudithook(self._note_open)

    def note(self, what: str, unit: str, error: float, tolerance: float) -> None:
        """One comparison; rows of the same name keep the one nearest to its limit."""
        if self._current is None:
            return
        share = error / tolerance if tolerance > 0 else float(error > 0)
        rows = self.rows.setdefault(self._current, {})
        old = rows.get(what)
        count = 1 if old is None else old["count"] + 1
        if old is None or share >= old["share"]:
            rows[what] = {"unit": unit, "error": error, "tolerance": tolerance, "share": share}
        rows[what]["count"] = count

    def _note_open(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str) and arguments[0].startswith(str(GOLDENS)):
            self.opened.add(Path(arguments[0]).relative_to(GOLDENS).parts[0])

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        """Comparisons from here on belong to this test."""
        self._current = item.nodeid
        yield
        self._current = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the verdict."""
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[report.nodeid] = report.outcome


def wrap(recorder: Recorder) -> None:
    """Measure all comparisons from now on; call before test modules are imported."""
    np.testing.assert_allclose = _allclose(recorder, np.testing.assert_allclose)
    np.testing.assert_array_equal = _equal(recorder, np.testing.assert_array_equal)
    _APPROX.__eq__ = _approx(recorder, _APPROX.__eq__)
    for name in ("assert_sampled", "assert_same_detections", "assert_same_regions"):
        setattr(rcnn_support, name, _ours(recorder, getattr(rcnn_support, name)))


def _allclose(recorder: Recorder, original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def measured(
        actual: Any, desired: Any, rtol: float = 1e-7, atol: float = 0, *args: Any, **kwargs: Any
    ) -> None:
        a, b = np.asarray(actual, np.float64), np.asarray(desired, np.float64)
        if a.size and (a.shape == b.shape or not b.ndim):
            error, limit = np.abs(a - b).ravel(), np.broadcast_to(atol + rtol * np.abs(b), a.shape).ravel()
            with np.errstate(divide="ignore", invalid="ignore"):
                worst = int(np.nanargmax(np.where(error == 0, 0, error / limit)))
            recorder.note(_words(), "absolute", float(error[worst]), float(limit[worst]))
        original(actual, desired, rtol, atol, *args, **kwargs)

    return measured


def _equal(recorder: Recorder, original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def measured(actual: Any, desired: Any, *args: Any, **kwargs: Any) -> None:
        differing = float((np.asarray(actual) != np.asarray(desired)).sum())
        recorder.note(_words(), "entries that differ", differing, 0.0)
        original(actual, desired, *args, **kwargs)

    return measured


def _approx(recorder: Recorder, original: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def measured(self: Any, actual: Any) -> bool:
        if isinstance(actual, (int, float, np.number)) and isinstance(self.expected, (int, float)):
            scale = abs(self.expected) if self.rel else 1.0
            if scale > 0:
                error, limit = abs(float(actual) - self.expected) / scale, float(self.tolerance) / scale
                recorder.note(_words(), "relative" if self.rel else "absolute", error, limit)
        return original(self, actual)

    return measured


def _ours(recorder: Recorder, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def measured(*args: Any, **kwargs: Any) -> Any:
        found = original(*args, **kwargs)
        for what, unit, error, tolerance in found:
            recorder.note(re.sub(r"/\d+", "", what), unit, error, tolerance)
        return found

    return measured


def _words() -> str:
    """What is compared, in the words of the test: the first argument or left side of the caller's line."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and ("/tests/" not in frame.f_code.co_filename or _is_here(frame)):
        frame = frame.f_back
    if frame is None:
        return "?"
    found = _statement(frame.f_code.co_filename, frame.f_lineno)
    return found or frame.f_code.co_name.strip("_").replace("_", " ")


def _is_here(frame: FrameType) -> bool:
    return frame.f_code.co_filename.endswith(_HERE)


@functools.cache
def _statement(file: str, line: int) -> str:
    tree = ast.parse("".join(linecache.getlines(file)))
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, (ast.Assert, ast.Expr)) and node.lineno <= line <= (node.end_lineno or 0)
    ]
    if not around:
        return ""
    inner = max(around, key=lambda node: node.lineno)
    value: ast.expr = inner.test if isinstance(inner, ast.Assert) else inner.value
    if isinstance(value, ast.Compare):
        return ast.unparse(value.left)
    if isinstance(value, ast.Call) and value.args:
        return ast.unparse(value.args[0])
    return ""
