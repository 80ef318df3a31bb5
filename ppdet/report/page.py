"""Pages: one HTML file each, with everything inside, that opens from disk."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ppdet import __version__
from ppdet.utils.errors import UserError

HERE = Path(__file__).parent
#: What stands for a number that there is not, and before one below zero.
DASH, MINUS = "\u2013", "\u2212"
#: The plot library: https://github.com/leeoniya/uPlot, MIT licence, as published on npm in uplot 1.6.32.
VENDORED = {
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}


class ReportError(UserError):
    """A report that cannot be made; says what is missing."""


def render(template: str, data: Mapping[str, Any], **context: Any) -> str:
    """A page.

    Args:
        template: Name of the template, e.g. ``evaluation``; its script, if there is one, has the same name.
        data: What the script reads; numbers that are not finite become null.
        context: What the template reads.

    Raises:
        ReportError: If Jinja2 is not installed.
    """
    engine = jinja2()
    environment = engine.Environment(
        loader=engine.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=engine.StrictUndefined,
    )
    script = HERE / "assets" / f"{template}.js"
    own = [script.read_text("utf-8")] if script.is_file() else []
    environment.filters.update(percent=percent, signed=signed, count=lambda value: f"{value:,}")
    return environment.get_template(f"{template}.html.j2").render(
        data=_script_json(data),
        styles=[_vendored("uPlot.min.css"), _asset("report.css")],
        scripts=[_vendored("uPlot.iife.min.js"), _asset("core.js"), *own],
        version=__version__,
        now=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        **context,
    )


def jinja2() -> Any:
    """The module that fills templates.

    Raises:
        ReportError: If Jinja2 is not installed.
    """
    try:
        import jinja2 as engine
    except ImportError:
        raise ReportError('a report needs Jinja2: pip install "ppdet[report]"') from None
    return engine


def percent(value: float, digits: int = 1) -> str:
    """A share as a percentage without its sign; a dash where there is nothing to measure."""
    return DASH if value is None or math.isnan(value) or value < 0 else f"{100 * value:.{digits}f}"


def signed(value: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * value:+.1f}".replace("-", MINUS)


def rows_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def finite(value: Any) -> Any:
    """A value for JSON: arrays as lists, and None for numbers that are not finite."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(one) for one in value]
    return value


def _script_json(data: Mapping[str, Any]) -> str:
    """JSON that cannot end the script element it is in."""
    text = json.dumps(finite(data), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _asset(name: str) -> str:
    return (HERE / "assets" / name).read_text("utf-8")


def _vendored(name: str) -> str:
    text = _asset(name)
    if hashlib.sha256(text.encode("utf-8")).hexdigest() != VENDORED[name]:
        raise ReportError(f"{name} is not the published file; install ppdet again")
    return text
