"""Fetches one file over HTTP into the cache: resumable, checked, atomic.

A download goes to ``<target>.part`` and becomes ``<target>`` in one rename, once it is complete and
checked. What a run has fetched of it, the next one continues, if the server still has the same file.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

from tqdm import tqdm

from ppdet.utils.errors import WeightsError
from ppdet.utils.lock import file_lock

logger = logging.getLogger(__name__)

_CHUNK = 1 << 18
#: Statuses that may pass: time-outs, too many requests, faults of the server.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Options:
    """How hard to try.

    Attributes:
        tries: Failures in a row, without a byte gained, before giving up on an address.
        back_off: Seconds before the second try; doubles with every further one, up to 30.
        timeout: Seconds without an answer that count as a failure.
        max_bytes: Largest file that is fetched.
    """

    tries: int = 5
    back_off: float = 1.0
    timeout: float = 30.0
    max_bytes: int = 8 << 30


class _NotThereError(Exception):
    """The server answered, and the answer will not change: 404, 403, ..."""


class _BrokenError(Exception):
    """The transfer failed and may work when tried again."""


class _RejectedError(_BrokenError):
    """The transfer was complete, but it is not the file it should be."""


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from https to http: there may be no checksum of the file yet."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if req.full_url.startswith("https://") and not newurl.startswith("https://"):
            raise _NotThereError(f"redirects to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(
    urls: Sequence[str],
    target: Path,
    *,
    sha256: Optional[str] = None,
    check: Callable[[Path], Optional[str]] = lambda path: None,
    options: Optional[Options] = None,
) -> Path:
    """Make sure that `target` exists, downloading it if it does not.

    Args:
        urls: Addresses of the same file, tried in order.
        target: Where it goes. ``<target>.sha256`` beside it records its checksum.
        sha256: Expected checksum in hexadecimal, where known.
        check: Says what is wrong with a complete file, or None.
        options: How hard to try.

    Returns:
        `target`.

    Raises:
        WeightsError: If no address gives the file; says what to fetch by hand and where to put it.
    """
    if target.is_file():
        return target
    with file_lock(target.with_name(target.name + ".lock")):
        if target.is_file():  # another process was quicker
            return target
        failures = []
        for url in urls:
            try:
                _fetch_one(url, target, sha256, check, options or Options())
                return target
            except (_NotThereError, _BrokenError) as error:
                failures.append(f"  {url}: {error}")
                logger.warning("%s: %s", url, error)
            except OSError as error:
                raise WeightsError(f"{target}: cannot be written: {error.strerror or error}") from error
    tried = "\n".join(failures)
    raise WeightsError(
        f"cannot download {target.name}:\n{tried}\nWithout network, fetch {urls[-1]} on another machine and "
        f"put it at {target}, or in a folder that PPDET_WEIGHTS_DIR names."
    )


def _fetch_one(
    url: str, target: Path, sha256: Optional[str], check: Callable[[Path], Optional[str]], options: Options
) -> None:
    part = target.with_name(target.name + ".part")
    failed = rejected = 0
    while True:
        before = _size(part)
        try:
            _transfer(url, part, options)
            _accept(part, target, sha256, check)
            return
        except (
            _BrokenError,
            urllib.error.URLError,
            http.client.HTTPException,
            ConnectionError,
            TimeoutError,
        ) as e:
            error = _BrokenError(_reason(e))
            rejected += isinstance(e, _RejectedError)
        failed = 0 if _size(part) > before else failed + 1
        if failed >= options.tries or rejected >= 2:
            raise error
        wait = min(options.back_off * 2 ** max(failed - 1, 0), 30.0)
        logger.warning("%s: %s; trying again in %.1f s, %d bytes so far", url, error, wait, _size(part))
        time.sleep(wait)


def _reason(error: BaseException) -> str:
    if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError):
        return f"no connection ({error.reason})"
    return str(error) or type(error).__name__


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _transfer(url: str, part: Path, options: Options) -> None:
    """Append to `part` what is missing of it."""
    marks = part.with_name(part.name + ".json")
    validator = _read_marks(marks, url)
    start = _size(part) if validator else 0
    headers = {"User-Agent": "ppdet", "Accept-Encoding": "identity"}
    if start and validator:
        headers.update({"Range": f"bytes={start}-", "If-Range": validator})
    opener = urllib.request.build_opener(_NoDowngrade)
    try:
        answer = opener.open(urllib.request.Request(url, headers=headers), timeout=options.timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # the part is longer than the file: start again
            part.unlink(missing_ok=True)
            raise _BrokenError("the server has less than was fetched before") from None
        kind = _BrokenError if error.code in _PASSING else _NotThereError
        raise kind(f"HTTP status {error.code} {error.reason}") from None
    with answer:
        start = start if answer.status == 206 and _continues(answer, start) else 0
        if answer.status == 206 and start == 0:
            part.unlink(missing_ok=True)
            raise _BrokenError("the server sent another range than requested")
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else None
        if total is not None and total > options.max_bytes:
            raise _NotThereError(f"{total} bytes, more than the limit of {options.max_bytes}")
        _write_marks(marks, url, answer.headers.get("ETag") or answer.headers.get("Last-Modified"))
        _copy(answer, part, start, total, options.max_bytes)
    marks.unlink(missing_ok=True)


def _continues(answer: Any, start: int) -> bool:
    found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    return found is not None and int(found.group(1)) == start


def _copy(answer: Any, part: Path, start: int, total: Optional[int], limit: int) -> None:
    with part.open("r+b" if start else "wb") as file, _progress(part, start, total) as bar:
        file.seek(start)
        file.truncate()
        done = start
        while True:
            try:
                chunk = answer.read(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _BrokenError(f"the connection broke: {_reason(error)}") from None
            if not chunk:
                break
            done += len(chunk)
            if done > limit:
                raise _NotThereError(f"more than the limit of {limit} bytes")
            file.write(chunk)
            bar.update(len(chunk))
        file.flush()
        os.fsync(file.fileno())
    if total is not None and done != total:
        raise _BrokenError(f"the connection was closed after {done} of {total} bytes")


def _progress(part: Path, start: int, total: Optional[int]) -> Any:
    name = part.name[: -len(".part")]
    return tqdm(total=total, initial=start, desc=name, unit="B", unit_scale=True, disable=None)


def _read_marks(marks: Path, url: str) -> Optional[str]:
    """ETag or date of the file that the part belongs to; None if it cannot be continued safely."""
    try:
        found = json.loads(marks.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or found.get("url") != url:
        return None
    validator = found.get("validator")
    # A weak ETag does not promise equal bytes (RFC 9110, section 13.1.5).
    return validator if isinstance(validator, str) and not validator.startswith("W/") else None


def _write_marks(marks: Path, url: str, validator: Optional[str]) -> None:
    marks.write_text(json.dumps({"url": url, "validator": validator}), "utf-8")


def _accept(part: Path, target: Path, sha256: Optional[str], check: Callable[[Path], Optional[str]]) -> None:
    """Rename a complete file into place, or remove it and say why."""
    actual = sha256_of(part)
    wrong = check(part)
    if sha256 is not None and actual != sha256:
        wrong = f"sha256 is {actual}, expected {sha256}" + (f" ({wrong})" if wrong else "")
    if wrong:
        part.unlink()
        raise _RejectedError(f"not the file it should be: {wrong}")
    pin = target.with_name(target.name + ".sha256")
    pin.write_text(f"{actual}  {target.name}\n", "utf-8")
    part.replace(target)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()
