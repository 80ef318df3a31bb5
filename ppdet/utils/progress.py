"""Progress of a loop: a bar on a terminal, a line per tenth where the output goes to a file or a pipe."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Optional, TypeVar

from tqdm import tqdm

T = TypeVar("T")
logger = logging.getLogger(__name__)

#: Least seconds between two lines, so that short loops write none.
LEAST_SECONDS = 5.0


def progress(
    items: Iterable[T], *, total: Optional[int], desc: str, unit: str, quiet: bool = False
) -> Iterator[T]:
    """Pass items on and show how many are done.

    Args:
        items: What is looped over.
        total: How many there are, if that is certain; without it only a bar can show anything.
        desc: What is done to them.
        unit: What one of them is.
        quiet: Show nothing.
    """
    if quiet:
        yield from items
    elif sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=desc, unit=unit)
    else:
        yield from _with_lines(items, total or 0, desc, unit)


def _with_lines(items: Iterable[T], total: int, desc: str, unit: str) -> Iterator[T]:
    start = shown_at = time.monotonic()
    shown = 0
    for done, item in enumerate(items, start=1):
        yield item
        tenth, now = (10 * done // total if total else 0), time.monotonic()
        if tenth > shown and now - shown_at >= LEAST_SECONDS:
            shown, shown_at = tenth, now
            rate = done / (now - start)
            logger.info("%s: %d of %d (%d %%), %.1f %s/s", desc, done, total, 100 * done // total, rate, unit)
