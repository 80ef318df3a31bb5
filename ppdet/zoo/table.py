"""The table of published weights: `table.yml` and `classes.yml` beside this file."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import yaml

from ppdet.utils.errors import WeightsError


@dataclass(frozen=True)
class Source:
    """Who published a weight file.

    Attributes:
        page: Web page of the project.
        about: Program, data and hardware it was trained with.
        licence: Licence the owner gives.
    """

    page: str
    about: str
    licence: str


@dataclass(frozen=True)
class ZooEntry:
    """One published weight file.

    Attributes:
        name: Name in this table.
        url: Where the owner publishes it.
        source: Who published it.
        recipe: Schedule and input size.
        config: File in ``configs/`` that describes the model, or None.
        sha256: Checksum in hexadecimal, where pinned.
        bytes: Size of the file, where known.
        megabytes: Size of its tensors in 10^6 bytes, where known.
        box_ap: Published COCO box AP in percent.
        mask_ap: Published COCO mask AP in percent.
        parameters: Number of parameters in millions, published or counted.
        gflops: Cost of an image in 10^9 operations, 2 per multiplication and addition; published or counted.
        conventions: Box conventions it was trained in; "" for the normal ones.
        class_names: Class names by label; empty for backbones.
        note: What a user should know.
    """

    name: str
    url: str
    source: Source
    recipe: str
    config: Optional[str] = None
    sha256: Optional[str] = None
    bytes: Optional[int] = None
    megabytes: Optional[float] = None
    box_ap: Optional[float] = None
    mask_ap: Optional[float] = None
    parameters: Optional[float] = None
    gflops: Optional[float] = None
    conventions: str = ""
    class_names: tuple[str, ...] = ()
    note: str = ""

    @property
    def size(self) -> Optional[float]:
        """Size in 10^6 bytes, rounded, where known."""
        return round(self.bytes / 1e6, 1) if self.bytes else self.megabytes

    @property
    def command(self) -> Optional[str]:
        """The command that measures it, where this project has its config."""
        return f"python tools/eval.py -c configs/{self.config} --weights {self.name}" if self.config else None


#: Other addresses of a server, and short forms that 2.x configs use.
_ALIASES = {
    "https://bj.bcebos.com/v1/paddledet/": "https://paddledet.bj.bcebos.com/",
    "http://paddledet.bj.bcebos.com/": "https://paddledet.bj.bcebos.com/",
    "ppdet://": "https://paddledet.bj.bcebos.com/",
}


def canonical_url(url: str) -> str:
    """The owner's own address for an alias of it; others unchanged."""
    for alias, real in _ALIASES.items():
        if url.startswith(alias):
            return real + url[len(alias) :]
    return url


def _load(name: str) -> Any:
    return yaml.safe_load((Path(__file__).with_name(name)).read_text("utf-8"))


@functools.cache
def class_lists() -> Mapping[str, tuple[str, ...]]:
    """Class names by label of well-known data sets."""
    return {name: tuple(names) for name, names in _load("classes.yml").items()}


@functools.cache
def entries() -> tuple[ZooEntry, ...]:
    """All published weights this project knows."""
    data = _load("table.yml")
    sources = {name: Source(**values) for name, values in data["sources"].items()}
    made = []
    for row in data["weights"]:
        values = dict(row)
        values["source"] = sources[values["source"]]
        classes = values.pop("classes")
        values["class_names"] = class_lists()[classes] if classes else ()
        made.append(ZooEntry(**values))
    return tuple(made)


def find(name: str) -> Optional[ZooEntry]:
    """The entry of a name, or of a URL in any of its spellings; None if there is none."""
    url = canonical_url(name)
    return next((entry for entry in entries() if name == entry.name or url == entry.url), None)


def get(name: str) -> ZooEntry:
    """The entry of a name or URL.

    Raises:
        WeightsError: If there is none; lists the nearest names.
    """
    entry = find(name)
    if entry is None:
        raise WeightsError(f"no published weights are called {name!r}; {nearest(name)}")
    return entry


def nearest(name: str) -> str:
    """A sentence with the names closest to a wrong one."""
    close = difflib.get_close_matches(name, [entry.name for entry in entries()], n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else "`ppdet weights list` shows all names"
