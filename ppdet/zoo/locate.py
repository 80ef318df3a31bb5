"""Finds weights by zoo name, URL or path, and downloads them where needed."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Optional, Union
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from ppdet.utils.errors import WeightsError
from ppdet.utils.files import cache_folder, expanded
from ppdet.zoo.download import Options, fetch, sha256_of
from ppdet.zoo.hub import PREFIX, fetch_from_hub, parse_address
from ppdet.zoo.table import ZooEntry, canonical_url, entries, find, nearest
from ppdet.zoo.weight_file import SUFFIXES, WeightFile, find_file, read_weights


@dataclass(frozen=True)
class Located:
    """Weights on this machine.

    Attributes:
        path: The file.
        entry: Its row of the zoo table, where it is published.
    """

    path: Path
    entry: Optional[ZooEntry] = None


def cache_path(url: str) -> Path:
    """Where the cache keeps the file of a URL: ``<home>/weights/<host>/<path>``."""
    parts = urlsplit(canonical_url(url))
    names = [re.sub(r"[^\w.@+-]", "_", unquote(part)) for part in PurePosixPath(parts.path).parts]
    safe = [name for name in names if name.strip("._")]
    host = re.sub(r"[^\w.-]", "_", parts.netloc.rpartition("@")[2])
    if not safe or not host.strip("._"):
        raise WeightsError(f"{url}: the address names no file")
    return cache_folder().joinpath("weights", host, *safe)


def addresses(url: str) -> list[str]:
    """The mirrors of a URL, then the URL itself.

    ``PPDET_MIRRORS`` is a comma-separated list of ``prefix=mirror``; an address that starts with a prefix
    is tried with the mirror in its place first.

    Raises:
        WeightsError: If the variable is not of that form.
    """
    url = canonical_url(url)
    found = []
    for pair in filter(None, os.environ.get("PPDET_MIRRORS", "").split(",")):
        prefix, equals, mirror = pair.strip().partition("=")
        if not equals or not prefix or not mirror.startswith(("http://", "https://")):
            raise WeightsError(f"PPDET_MIRRORS: {pair!r} is not of the form https://prefix/=https://mirror/")
        if url.startswith(prefix):
            found.append(mirror + url[len(prefix) :])
    return [*found, url]


def locate(source: Union[str, Path], *, download: bool = True, options: Optional[Options] = None) -> Located:
    """Find weights, downloading them if need be.

    In this order: an existing file, with or without its suffix; a zoo name or the URL of an entry; any
    other http or https URL.  For the latter two: a file of that name in ``PPDET_WEIGHTS_DIR``; the cache;
    the network. ``hf://owner/name`` is left to the hub's client and its cache.

    Args:
        source: Path, zoo name, URL, or ``hf://owner/name[@revision][/file]``. ``ppdet://models/...`` is
            understood as in PaddleDetection.
        download: Whether the network may be used.
        options: How hard to try.

    Raises:
        WeightsError: If it is none of these, or is not here and cannot be fetched.
    """
    text = os.fspath(source)
    existing = find_file(text) if "://" not in text else None
    if existing is not None:
        return _recognise(existing)
    if text.startswith(PREFIX):
        return Located(fetch_from_hub(text, download=download))
    entry = find(text)
    url = entry.url if entry is not None else canonical_url(text)
    if entry is None and not url.startswith(("http://", "https://")):
        raise WeightsError(_not_found(text))
    target = cache_path(url)
    offline = _in_offline_folder(target)
    if offline is not None:
        return Located(offline, entry)
    if not target.is_file() and not download:
        raise WeightsError(
            f"{text} is not in the cache; `ppdet weights download {text}` fetches it to {target}"
        )
    sha256 = entry.sha256 if entry is not None else None
    return Located(fetch(addresses(url), target, sha256=sha256, check=what_is_wrong, options=options), entry)


def is_remote(source: Union[str, Path]) -> bool:
    """Whether weights exist, as far as this machine knows, and have to be downloaded.

    Raises:
        WeightsError: If `source` is neither a file, nor the name of published weights, nor a URL.
    """
    text = os.fspath(source)
    if "://" not in text and find_file(text) is not None:
        return False
    if text.startswith(PREFIX):
        parse_address(text)
        try:
            fetch_from_hub(text, download=False)
        except WeightsError:
            return True
        return False
    entry = find(text)
    url = entry.url if entry is not None else canonical_url(text)
    if not url.startswith(("http://", "https://")):
        raise WeightsError(_not_found(text))
    target = cache_path(url)
    return _in_offline_folder(target) is None and not target.is_file()


def can_be_had(source: Union[str, Path], *, timeout: float = 5.0) -> bool:
    """Whether weights are on this machine, or a server that has them answers; downloads nothing.

    Args:
        source: As in `locate`.
        timeout: Seconds to wait for each address.

    Raises:
        WeightsError: If `source` is neither a file, nor the name of published weights, nor a URL.
    """
    if not is_remote(source):
        return True
    entry = find(os.fspath(source))
    for address in addresses(entry.url if entry is not None else os.fspath(source)):
        try:
            with urlopen(Request(address, method="HEAD"), timeout=timeout):
                return True
        except (OSError, HTTPException):
            continue
    return False


def _not_found(text: str) -> str:
    if "://" in text:
        return f"{text}: only http, https and hf addresses can be fetched"
    if "/" in text or "\\" in text or Path(text).suffix in SUFFIXES:
        return f"{text}: there is no such file, nor with one of {', '.join(SUFFIXES)} added"
    return f"{text}: neither a file nor the name of published weights; {nearest(text)}"


def _in_offline_folder(target: Path) -> Optional[Path]:
    """The file in PPDET_WEIGHTS_DIR, by its path below the host first, since two may share a last name."""
    folder = os.environ.get("PPDET_WEIGHTS_DIR")
    if not folder:
        return None
    below = target.relative_to(cache_folder() / "weights")
    for candidate in (expanded(folder) / below, expanded(folder) / target.name):
        if candidate.is_file():
            return candidate
    return None


def _recognise(path: Path) -> Located:
    """Find the zoo entry of a file in the cache, or of a copy with the checksum of an entry."""
    resolved, size = path.resolve(), path.stat().st_size
    for entry in entries():
        same_place = cache_path(entry.url).resolve() == resolved
        if same_place or (entry.sha256 and entry.bytes == size and entry.sha256 == sha256_of(path)):
            return Located(path, entry)
    return Located(path)


def what_is_wrong(path: Path) -> Optional[str]:
    """Why a downloaded file cannot be a weight file, by its first and last bytes; None if it can."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(512)
        file.seek(max(size - 1, 0))
        last = file.read(1)
    text = head.lstrip().lower()
    if size == 0:
        return "it is empty"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page"
    if head[:1] == b"\x80" and last != b".":
        return "it is cut short"
    return None


def read_source(source: Union[str, Path]) -> WeightFile:
    """Read weights by zoo name, URL or path; class names and conventions are completed from the zoo table.

    Raises:
        WeightsError: If it is none of them, cannot be fetched, or is no weight file.
    """
    return read_located(locate(source))


def read_located(located: Located) -> WeightFile:
    """Read weights that `locate` found; see `read_source`."""
    file = read_weights(located.path)
    if located.entry is None:
        return file
    metadata = file.metadata
    completed = replace(
        metadata,
        class_names=metadata.class_names or located.entry.class_names,
        conventions=metadata.conventions or located.entry.conventions,
    )
    return replace(file, metadata=completed)
