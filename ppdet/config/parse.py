"""YAML text to a tree. Nothing in a file can run: tags are names, and only plain values are made.

Differences from YAML 1.1 as PyYAML reads it, each because people are caught by it: ``1e-3`` is a number
(PyYAML: a string), ``12:30`` is a string (PyYAML: 750), ``010`` is a string (PyYAML: 8), a key that
is written twice is an error (PyYAML: the last one wins).
"""

from __future__ import annotations

import re
from typing import Any, Optional

from yaml.composer import Composer
from yaml.error import MarkedYAMLError, YAMLError
from yaml.nodes import MappingNode, ScalarNode, SequenceNode
from yaml.nodes import Node as YamlNode
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from ppdet.config.errors import ConfigError, Place, Problem
from ppdet.config.tree import OVERRIDE, Block, Leaf, Listing, Node

_STANDARD = "tag:yaml.org,2002:"
#: Most nodes in a tree after aliases are followed; a large config has some thousands.
MAX_NODES = 100_000
_INT = r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0o[0-7_]+|0b[01_]+)"
_EXPONENT = r"[eE][-+]?[0-9]+"
_FLOAT = (
    rf"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:{_EXPONENT})?"
    rf"|[-+]?[0-9][0-9_]*{_EXPONENT}|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_TRUE = ("true", "yes", "on")
_BOOL = "|".join(
    spelling for word in (*_TRUE, "false", "no", "off") for spelling in (word, word.title(), word.upper())
)


class PlainWords(BaseResolver):
    """Which unquoted words are numbers, truth values and null; for reading and for writing."""


class _Loader(Reader, Scanner, Parser, Composer, PlainWords):
    """PyYAML's reading half. There is no constructor: no part of it can make an object."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        PlainWords.__init__(self)


for _kind, _pattern in (
    ("bool", _BOOL),
    ("int", _INT),
    ("float", _FLOAT),
    ("null", "~|null|Null|NULL|"),
    ("merge", "<<"),
):
    PlainWords.add_implicit_resolver(_STANDARD + _kind, re.compile(rf"^(?:{_pattern})$"), None)


def parse(text: str, file: str, problems: list[Problem]) -> Node:
    """Read one YAML document.

    Args:
        text: The document.
        file: Name of the file for places.
        problems: Receives what is wrong but does not stop the reading.

    Returns:
        The tree; an empty document is an empty block.

    Raises:
        ConfigError: If the text is not YAML.
    """
    try:
        root = _Loader(text).get_single_node()
        if root is None:
            return Block({}, Place(file, 1))
        return _Converter(file, problems).node(root)
    except MarkedYAMLError as error:
        raise ConfigError([Problem(_error_place(error, file), _explain(error))]) from None
    except YAMLError as error:
        raise ConfigError([Problem(Place(file), f"not YAML: {' '.join(str(error).split())}")]) from None
    except RecursionError:
        raise ConfigError([Problem(Place(file), "nested too deeply")]) from None


def _error_place(error: MarkedYAMLError, file: str) -> Place:
    mark = error.problem_mark or error.context_mark
    return Place(file, mark.line + 1 if mark is not None and file != OVERRIDE else 0)


def _explain(error: MarkedYAMLError) -> str:
    problem = error.problem or error.context or "cannot be read"
    if "'\\t'" in problem:
        return "a tab where YAML wants spaces; replace it by spaces"
    if problem == "mapping values are not allowed here":
        return "not YAML: a ':' where none can be; is the line above indented as it should be?"
    return f"not YAML: {problem}" + (f" ({error.context})" if error.context and error.problem else "")


class _Converter:
    """YAML nodes to tree nodes, with all tags and keys checked."""

    def __init__(self, file: str, problems: list[Problem]) -> None:
        self._file = file
        self._problems = problems
        self._open: set[int] = set()
        self._count = 0

    def node(self, source: YamlNode, line: Optional[int] = None) -> Node:
        """Convert a node; `line` (first = 1) is that of the key where it has one."""
        place = Place(self._file, source.start_mark.line + 1 if line is None else line)
        self._count += 1
        if self._count > MAX_NODES:
            raise ConfigError([Problem(place, f"more than {MAX_NODES} values; aliases of aliases?")])
        if id(source) in self._open:
            raise ConfigError([Problem(place, "an alias inside its own anchor: it would never end")])
        self._open.add(id(source))
        try:
            tag = self._tag(source, place)
            if isinstance(source, MappingNode):
                return Block(self._items(source), place, tag)
            if isinstance(source, SequenceNode):
                items = tuple(self.node(item) for item in source.value)
                if tag:
                    self._report(place, f"!{tag} takes a mapping of arguments, got a list")
                return Listing(items, place)
            assert isinstance(source, ScalarNode)
            return self._scalar(source, tag, place)
        finally:
            self._open.discard(id(source))

    def _report(self, place: Place, message: str) -> None:
        self._problems.append(Problem(place, message))

    def _tag(self, source: YamlNode, place: Place) -> str:
        tag = source.tag or ""
        if tag.startswith(_STANDARD):
            kind = tag[len(_STANDARD) :]
            if kind.startswith("python"):
                self._report(place, f"refused: !!{kind} would run code; a configuration holds only values")
            elif kind not in ("map", "seq", "str", "int", "float", "bool", "null", "merge"):
                self._report(place, f"refused: !!{kind} is not a kind of value that a configuration has")
            return ""
        name = tag[1:] if tag.startswith("!") else tag
        if name and not name.isidentifier():
            self._report(place, f"refused: {tag} is not a name; write !Name with the name of a component")
            return ""
        return name

    def _scalar(self, source: ScalarNode, tag: str, place: Place) -> Node:
        if tag:
            if source.value:
                self._report(place, f"!{tag} takes a mapping of arguments, got {source.value!r}")
            return Block({}, place, tag)
        try:
            return Leaf(_value(source), place)
        except ValueError as error:
            self._report(place, str(error))
            return Leaf(None, place)

    def _items(self, source: MappingNode) -> dict[Any, Node]:
        own: dict[Any, Node] = {}
        merged: dict[Any, Node] = {}
        lines: dict[Any, int] = {}
        for key_node, value_node in source.value:
            line = key_node.start_mark.line + 1
            place = Place(self._file, line)
            if not isinstance(key_node, ScalarNode):
                self._report(place, "a key must be a plain word")
                continue
            if key_node.tag == _STANDARD + "merge":
                for key, node in self._merged(value_node, place).items():
                    merged.setdefault(key, node)
                continue
            key = _value(key_node)
            if key in lines:
                self._report(
                    place, f"{key!r} is written twice; first in line {lines[key]}; remove one of them"
                )
            lines[key] = line
            own[key] = self.node(value_node, line)
        return {**merged, **own}

    def _merged(self, source: YamlNode, place: Place) -> dict[Any, Node]:
        """What ``<<:`` brings: of one mapping, or of a list of them, where the first wins."""
        parts = source.value if isinstance(source, SequenceNode) else [source]
        items: dict[Any, Node] = {}
        for part in parts:
            node = self.node(part)
            if not isinstance(node, Block):
                self._report(place, "'<<' merges mappings; write an alias of one (<<: *name)")
                continue
            for key, value in node.items.items():
                items.setdefault(key, value)
        return items


def _value(source: ScalarNode) -> Any:
    kind = source.tag[len(_STANDARD) :] if source.tag.startswith(_STANDARD) else "str"
    text = source.value
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() in _TRUE
    if kind == "int":
        return int(text.replace("_", ""), 0)
    if kind == "float":
        return float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text
