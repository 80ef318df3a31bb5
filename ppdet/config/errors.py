"""What is wrong with a configuration, where, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

from ppdet.utils.errors import UserError

#: Problems printed before the rest is only counted: one screen.
_SHOWN = 20


@dataclass(frozen=True)
class Place:
    """Where something is written.

    Attributes:
        file: The file as the user would name it, or ``override``.
        line: Line, first = 1; 0 where there are no lines.
        path: Dotted path of the value, e.g. ``("ResNet", "depth")``.
    """

    file: str
    line: int = 0
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and how to put it right.

    Attributes:
        place: Where it is written.
        message: What is wrong, what was expected, what to do.
        not_provided: Whether it is a component that other projects have and this one does not.
    """

    place: Place
    message: str
    not_provided: bool = False

    def __str__(self) -> str:
        path = ".".join(self.place.path)
        return ": ".join(part for part in (str(self.place), path, self.message) if part)


class ArgumentError(ValueError):
    """A component refuses one of the arguments of its constructor.

    `Spec.build` reports it at the line where the argument is written.

    Attributes:
        argument: Name of the argument.
        message: What was expected and what it is, without the name.
    """

    def __init__(self, argument: str, message: str) -> None:
        super().__init__(argument, message)
        self.argument = argument
        self.message = message

    def __str__(self) -> str:
        return f"{self.argument}: {self.message}"


class ConfigError(UserError):
    """A configuration that cannot be used.

    Attributes:
        problems: Everything that was found, in the order of reading.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        super().__init__(_summary(self.problems))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[Problem, ...]]]:
        return ConfigError, (self.problems,)


def _summary(problems: Sequence[Problem]) -> str:
    if len(problems) == 1:
        return str(problems[0])
    lines = [f"{len(problems)} problems in the configuration:"]
    lines += [f"  {problem}" for problem in problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        lines.append(f"  ... and {len(problems) - _SHOWN} more")
    return "\n".join(lines)


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> Optional[str]:
    """The one of `names` that is most similar to `name`, or alone begins with it, in upper or lower case."""
    by_lower = {k.lower(): k for k in sorted(names, reverse=True)}
    matches = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=cutoff)
    if matches:
        return by_lower[matches[0]]
    longer = [k for k in by_lower.values() if len(name) > 1 and k.lower().startswith(name.lower())]
    return longer[0] if len(longer) == 1 else None


def suggestion(name: str, names: Iterable[str], what: str = "known") -> str:
    """``; did you mean 'x'?``, or else all of `names` while they fit on a line."""
    options = sorted(names)
    best = nearest(name, options)
    if best is not None:
        return f"; did you mean {best!r}?"
    listed = ", ".join(options)
    return f"; {what}: {listed}" if options and len(listed) <= 200 else ""
