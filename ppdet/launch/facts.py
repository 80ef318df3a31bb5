"""What a node would run, on which data, and whether all nodes agree."""

from __future__ import annotations

import hashlib
import os
import platform
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Callable

import paddle

from ppdet.config.spec import Spec
from ppdet.experiment.config import Experiment
from ppdet.utils.files import expanded

#: Seconds that clocks may differ: below, logs and file times still tell what came first.
CLOCK_TOLERANCE = 10.0
#: Ends of the names of arguments that are files or folders of a dataset.
_PLACES = ("_dir", "_path", "_list")
#: Digits of a digest that are shown.
_SHOWN = 12
_ABSENT = "absent"


@dataclass(frozen=True)
class NodeFacts:
    """What a node says of itself.

    Attributes:
        name: Host name.
        address: IPv4 address by which others reach it.
        probe_port: Port that it listens on while nodes try to reach each other.
        processes: Processes it would start.
        versions: Of what must be equal.
        config: The resolved configuration; empty for a command without one.
        data: Argument of a dataset -> digest of what it names on this node.
        command: The command of every process.
    """

    name: str
    address: str
    probe_port: int
    processes: int
    versions: dict[str, str] = field(default_factory=dict)
    config: str = ""
    data: dict[str, str] = field(default_factory=dict)
    command: str = ""

    def __str__(self) -> str:
        return self.address if self.name in ("", self.address) else f"{self.address} ({self.name})"

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NodeFacts:
        """From `to_dict`.

        Raises:
            ValueError: If it is of another version of ppdet, or no facts at all.
        """
        try:
            facts = cls(**values)
        except TypeError as error:
            raise ValueError(f"not understood: {error}") from None
        texts = [facts.name, facts.address, facts.config, facts.command]
        tables = [facts.versions, facts.data]
        plain = all(isinstance(text, str) for text in texts) and all(isinstance(t, dict) for t in tables)
        if not plain or not isinstance(facts.processes, int) or not isinstance(facts.probe_port, int):
            raise ValueError("not understood: a value of another type")
        return facts


def versions() -> dict[str, str]:
    """Versions that must be equal on all nodes."""
    from ppdet import __version__

    return {
        "ppdet": __version__,
        "paddlepaddle": paddle.__version__,
        "Python": ".".join(platform.python_version_tuple()[:2]),
    }


def host_name() -> str:
    """This machine's name."""
    return socket.gethostname()


def data_digests(experiment: Experiment) -> dict[str, str]:
    """Digest of everything that an argument of the training and the validation set names.

    Of a file its content, of a folder the names in it: a folder of 100,000 images takes less than a second.
    """
    found: dict[str, str] = {}
    for key in ("TrainDataset", "EvalDataset"):
        spec = getattr(experiment, key)
        if isinstance(spec, Spec):
            arguments = spec.arguments
            root = expanded(arguments.get("dataset_dir") or "")
            for name, value in arguments.items():
                if isinstance(value, str) and value and name.endswith(_PLACES):
                    place = expanded(value) if name == "dataset_dir" else root / expanded(value)
                    found[f"{key}.{name}"] = _digest(place)
    return found


def _digest(place: Path) -> str:
    digest = hashlib.sha256()
    try:
        if place.is_dir():
            names = sorted(entry.name for entry in os.scandir(place))
            digest.update("\n".join(names).encode("utf-8", "surrogateescape"))
            return f"{digest.hexdigest()[:_SHOWN]} of {len(names)} names"
        with place.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
        return digest.hexdigest()[:_SHOWN]
    except OSError as error:
        return f"{_ABSENT} ({error.strerror or error})"


def disagreements(nodes: Sequence[NodeFacts], offsets: Sequence[float]) -> list[str]:
    """What speaks against training on these nodes together.

    Args:
        nodes: Facts of all; the others are compared with the first.
        offsets: Seconds that the clock of each is ahead of the first one's.

    Returns:
        A sentence each, with the node, the two values and the cure.
    """
    problems = []
    first = nodes[0]
    for node, offset in zip(nodes[1:], offsets[1:]):
        if abs(offset) > CLOCK_TOLERANCE:
            way = "ahead of" if offset > 0 else "behind"
            problems.append(
                f"clock: that of {node} is {abs(offset):.0f} s {way} that of {first}; set it (chrony, NTP)"
            )
        problems += _differences(node, first, "version", lambda facts: facts.versions, "install the same")
        if node.command != first.command:
            problems.append(
                f"command: {node} would run `{node.command}`, {first} `{first.command}`; give the same"
            )
        problems += _config_difference(node, first)
        problems += _differences(node, first, "data", lambda facts: facts.data, "copy the same files there")
    return problems


def _differences(
    node: NodeFacts, first: NodeFacts, what: str, table: Callable[[NodeFacts], dict[str, str]], cure: str
) -> list[str]:
    here, there = table(first), table(node)
    return [
        f"{what}: {name} is {there.get(name, _ABSENT)} on {node}, {here.get(name, _ABSENT)} on {first}; "
        f"{cure}"
        for name in sorted({*here, *there})
        if here.get(name) != there.get(name) and not name.endswith(".dataset_dir")
    ]


def _config_difference(node: NodeFacts, first: NodeFacts) -> list[str]:
    """The first line in which two configurations differ; a dataset may be at another place on every node."""
    here, there = ([line for line in f.config.splitlines() if not _names_place(line)] for f in (first, node))
    if here == there:
        return []
    number = next((i for i, (a, b) in enumerate(zip(here, there)) if a != b), min(len(here), len(there)))
    lines = [(text[number : number + 1] or ["nothing"])[0].strip() for text in (there, here)]
    return [f"config: `{lines[0]}` on {node}, `{lines[1]}` on {first}; give both the same file, -o included"]


def _names_place(line: str) -> bool:
    return line.strip().startswith("dataset_dir:")
