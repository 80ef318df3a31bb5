"""Applies the rules of `ppdet.config.compat`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Optional

from ppdet.config.compat import MOVED_KEYS, Agrees, Keys, Only, Option, Rule
from ppdet.config.errors import Problem, suggestion
from ppdet.config.registry import yaml_name
from ppdet.config.spec import Spec
from ppdet.config.tree import Block, Listing, Node, component_name, plain
from ppdet.config.values import shown

logger = logging.getLogger(__name__)


class Facts:
    """What 2.x has its users write twice; compared once everything is resolved."""

    def __init__(self) -> None:
        self._claims: list[tuple[Node, Agrees]] = []

    def add(self, node: Node, rule: Agrees) -> None:
        """Remember that `node`, unless null, must equal what `rule` points at."""
        if plain(node) is not None:
            self._claims.append((node, rule))

    def compare(self, arguments: Mapping[str, Any], problems: list[Problem]) -> None:
        """Report the claims that the resolved top level contradicts."""
        if not self._claims:
            return
        values: dict[str, list[Any]] = {}
        for name, value in _facts(arguments):
            values.setdefault(name, []).append(value)
        for node, rule in self._claims:
            for place in rule.places:
                for value in values.get(place, []):
                    if value is not None and _listed(value) != _listed(plain(node)):
                        message = (
                            f"got {shown(node)}, but {place} is {value!r}; remove one or make them agree"
                        )
                        problems.append(Problem(node.place, message))


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, (list, tuple)) else value


def _facts(arguments: Mapping[str, Any], owner: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in arguments.items():
        yield f"{owner}.{key}" if owner else key, value
        for item in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(item, Spec):
                yield from _facts(item.arguments, yaml_name(item.component))


def check_rule(rule: Rule, node: Node, facts: Facts, problems: list[Problem]) -> None:
    """Accept a key of 2.x, or report why not."""
    if isinstance(rule, Agrees):
        facts.add(node, rule)
    elif isinstance(rule, Only):
        value = plain(node)
        if not any(type(value) is type(allowed) and value == allowed for allowed in rule.values):
            allowed = " or ".join(_word(v) for v in rule.values)
            problems.append(Problem(node.place, f"expected {allowed}, got {shown(node)}: {rule.reason}"))
    elif isinstance(rule, Option):
        if plain(node) not in rule.off:
            message = f"{shown(node)} has no effect in a configuration; use {rule.option}"
            logger.warning("%s", Problem(node.place, message))
    elif isinstance(rule, Keys):
        if not isinstance(node, Block):
            if plain(node) is not None:
                problems.append(Problem(node.place, f"expected a mapping, got {shown(node)}"))
            return
        for key, part in node.items.items():
            if key in rule.rules:
                check_rule(rule.rules[key], part, facts, problems)
            else:
                text = f"there is no key {key!r}{suggestion(str(key), rule.rules)}"
                problems.append(Problem(part.place, text))


def move_keys(root: Block, problems: list[Problem]) -> Block:
    """The tree with the keys of `MOVED_KEYS` where ours are.

    Args:
        root: The top level.
        problems: Receives keys that are written in both places.
    """
    for path, (target, name) in MOVED_KEYS.items():
        rest, node = _without(root, path)
        if node is None or not isinstance(rest, Block):
            continue
        block = rest.items.get(target, Block({}, node.place))
        if not isinstance(block, Block):
            continue
        if name in block.items:
            where = f"{target}.{name} ({block.items[name].place})"
            problems.append(Problem(node.place, f"is written twice, here and as {where}; remove one"))
        root = replace(rest, items={**rest.items, target: replace(block, items={**block.items, name: node})})
    return root


def _without(node: Node, path: Sequence[str]) -> tuple[Node, Optional[Node]]:
    """A tree without what is at a path, and that; None if nothing is there."""
    if not path:
        return node, node
    key, *further = path
    if isinstance(node, Listing):  # of components, `- Name: {...}` or `- {name: Name, ...}`
        for i, item in enumerate(node.items):
            if isinstance(item, Block) and (key in item.items or component_name(item) == key):
                rest, found = _without(item, path if key in item.items else further)
                items = (*node.items[:i], rest, *node.items[i + 1 :])
                return (node, None) if found is None else (replace(node, items=items), found)
        return node, None
    if not isinstance(node, Block) or key not in node.items:
        return node, None
    others = {k: v for k, v in node.items.items() if k != key}
    if not further:
        return replace(node, items=others), node.items[key]
    rest, found = _without(node.items[key], further)
    # In the place that it had: the order of keys is that of the file.
    items_of = {k: rest if k == key else v for k, v in node.items.items()}
    return (node, None) if found is None else (replace(node, items=items_of), found)


def _word(value: Any) -> str:
    words = {"True": "true", "False": "false", "None": "null"}
    return words.get(repr(value), repr(value))
