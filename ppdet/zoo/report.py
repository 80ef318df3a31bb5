"""What loading a weight file did to a model, tensor by tensor."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ppdet.utils.tables import text_table


def some(names: Sequence[str]) -> str:
    """The first few of many names, for a message."""
    return ", ".join(names[:3]) + (f", ... {len(names)} in all" if len(names) > 3 else "")


class Outcome(enum.Enum):
    """What became of one tensor."""

    LOADED = "loaded"  #: copied as it is
    CONVERTED = "converted"  #: from another format: renamed, permuted or cut
    RESHAPED = "reshaped"  #: the classes both sides know were taken over, the rest keeps its initial values
    SKIPPED = "skipped"  #: the file has it, the model did not take it
    MISSING = "missing"  #: the model has it, the file does not; it keeps its initial values


@dataclass(frozen=True)
class Entry:
    """One tensor of the model, or one of the file that the model did not take.

    Attributes:
        key: Key in the model; key in the file for what was skipped.
        outcome: What became of it.
        reason: Why, where it is not simply the same tensor on both sides.
        source: Key in the file; "" if the same, or for missing ones.
    """

    key: str
    outcome: Outcome
    reason: str = ""
    source: str = ""


@dataclass(frozen=True)
class LoadReport:
    """The outcome of `load_weights`.

    Attributes:
        source: File the weights came from.
        layout: Format of the file, e.g. ``"2.x"``, ``"2020"``, ``"darknet"``.
        conventions: Box conventions the weights mean; "" for the normal ones.
        class_names: Class names the weights carry; empty where unknown.
        entries: One per tensor.
        notes: Sentences a user should read: conventions, classes, what was left.
    """

    source: str
    layout: str
    conventions: str = ""
    class_names: tuple[str, ...] = ()
    entries: tuple[Entry, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def of(self, *outcomes: Outcome) -> list[Entry]:
        """The entries with one of these outcomes."""
        return [entry for entry in self.entries if entry.outcome in outcomes]

    @property
    def taken(self) -> list[str]:
        """Model keys that got values from the file."""
        return [e.key for e in self.of(Outcome.LOADED, Outcome.CONVERTED, Outcome.RESHAPED)]

    @property
    def missing(self) -> list[str]:
        """Model keys that kept their initial values."""
        return [e.key for e in self.of(Outcome.MISSING)]

    def counts(self) -> dict[str, int]:
        """Number of tensors by outcome, all five always present."""
        found = Counter(entry.outcome for entry in self.entries)
        return {outcome.value: found[outcome] for outcome in Outcome}

    def table(self, *, max_rows: int = 40) -> str:
        """The report for a screen: counts, then everything that is not simply loaded, grouped.

        Args:
            max_rows: Most lines of detail; the rest is counted.
        """
        counts = self.counts()
        lines = [f"weights {self.source} ({self.layout})"]
        lines.append("  " + ", ".join(f"{number} {name}" for name, number in counts.items()))
        details = _group(e for e in self.entries if e.outcome is not Outcome.LOADED or e.reason)
        rows = [["", str(outcome), key, reason] for key, outcome, reason in details[:max_rows]]
        lines += text_table(rows, align="<").splitlines()
        if len(details) > max_rows:
            lines.append(f"  ... and {len(details) - max_rows} more groups")
        lines.extend(f"  note: {note}" for note in self.notes)
        return "\n".join(lines)


#: What a user should see first comes first.
_ORDER = ("missing", "reshaped", "skipped", "converted", "loaded")


def _group(entries: Iterable[Entry]) -> list[tuple[str, str, str]]:
    """Entries of one outcome and reason as one row per layer or subtree: (keys, outcome, reason)."""
    groups: dict[tuple[str, str], list[str]] = {}
    for entry in entries:
        groups.setdefault((entry.outcome.value, entry.reason), []).append(entry.key)
    rows: list[tuple[str, str, str]] = []
    for (outcome, reason), keys in groups.items():
        rows.extend((name, outcome, reason) for name in _fold(keys))
    return sorted(rows, key=lambda row: _ORDER.index(row[1]))


def _fold(keys: Sequence[str]) -> list[str]:
    """Short names for many keys: one per layer up to 6 layers, else one per subtree."""
    for depth in (None, 3, 2, 1):
        folded: dict[str, list[str]] = {}
        for key in keys:
            layer = key.rpartition(".")[0].split(".")
            folded.setdefault(".".join(layer[:depth]), []).append(key)
        if len(folded) <= 6:
            break
    return [
        members[0] if len(members) == 1 else f"{layer + '.' if layer else ''}* ({len(members)})"
        for layer, members in folded.items()
    ]
