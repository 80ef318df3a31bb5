"""``a.b.c=value``: changes to a tree before anything is resolved.

Whether a key exists is not checked here: the changed tree is checked like a file, and what is wrong with
a value that came from an override is reported as ``override``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Union

from ppdet.config.errors import ConfigError, Place, Problem
from ppdet.config.parse import parse
from ppdet.config.tree import (
    OVERRIDE,
    Block,
    Leaf,
    Listing,
    Node,
    class_name,
    component_name,
    is_overridden,
    merge,
    replacement,
)

#: ``"a.b=value"`` items, or a mapping of dotted keys to Python values.
Overrides = Union[Sequence[str], Mapping[str, Any]]


class _UnreachableError(Exception):
    """Why a path leads nowhere."""


def apply_overrides(root: Block, overrides: Overrides, problems: list[Problem]) -> Block:
    """The tree with values set, in the order given; see `apply_override`.

    Args:
        root: The tree.
        overrides: ``"path=value"`` items, or a mapping of paths to Python values (numbers, strings, lists,
            dicts, None).
        problems: Receives why an override cannot be applied.
    """
    if isinstance(overrides, str):
        overrides = [overrides]
    if not isinstance(overrides, Mapping):
        for text in overrides:
            root = apply_override(root, text, problems)
        return root
    for path, value in overrides.items():
        try:
            node = _node_of(value)
        except TypeError as error:
            problems.append(Problem(Place(OVERRIDE), f"{path}: {error}"))
            continue
        root = _apply(root, str(path), node, problems)
    return root


def apply_override(root: Block, text: str, problems: list[Problem]) -> Block:
    """The tree with one value set.

    A step of the path is a key, the index of a list item, or the name of the component that a list item
    describes, which null takes out of the list. Missing blocks are made; a component given by its bare name
    becomes a block of that name. Where the class of a component changes (``optimizer.type=AdamW``), the
    arguments of the old one do not carry over.

    Args:
        root: The tree.
        text: ``path=value``; the value is YAML, nothing is null.
        problems: Receives why the override cannot be applied.
    """
    path, equals, value_text = text.partition("=")
    if not equals:
        problems.append(Problem(Place(OVERRIDE), f"{text!r}: expected key=value, as in epoch=12"))
        return root
    try:
        value = parse(value_text, OVERRIDE, problems) if value_text.strip() else Leaf(None, Place(""))
    except ConfigError as error:
        problems += [Problem(p.place, f"{text}: {p.message}") for p in error.problems]
        return root
    return _apply(root, path, _from_here(value), problems)


def _apply(root: Block, path: str, value: Node, problems: list[Problem]) -> Block:
    steps = tuple(step.strip() for step in path.split("."))
    if not all(steps):
        message = f"{path!r} is not a key; expected names joined by dots, as in TrainReader.batch_size"
        problems.append(Problem(Place(OVERRIDE), message))
        return root
    try:
        changed = _set(root, steps, value)
    except _UnreachableError as error:
        problems.append(Problem(Place(OVERRIDE, 0, steps), str(error)))
        return root
    assert isinstance(changed, Block)
    return changed


def _node_of(value: Any) -> Node:
    """A Python value as a node.

    Raises:
        TypeError: If a configuration has no such value.
    """
    place = Place(OVERRIDE)
    if isinstance(value, Mapping):
        return Block({key: _node_of(part) for key, part in value.items()}, place)
    if isinstance(value, (list, tuple)):
        return Listing(tuple(_node_of(part) for part in value), place)
    if isinstance(value, os.PathLike):
        return Leaf(os.fspath(value), place)
    if value is None or isinstance(value, (bool, int, float, str)):
        return Leaf(value, place)
    raise TypeError(f"a {type(value).__name__} is no value of a configuration; use numbers, strings, lists")


def _from_here(node: Node) -> Node:
    place = Place(OVERRIDE)
    if isinstance(node, Block):
        return Block({key: _from_here(part) for key, part in node.items.items()}, place, node.tag)
    if isinstance(node, Listing):
        return Listing(tuple(_from_here(part) for part in node.items), place)
    return Leaf(node.value, place)


def _set(node: Node, steps: tuple[str, ...], value: Node) -> Node:
    if not steps:
        return merge(node, value)
    if isinstance(node, Listing):
        return _set_item(node, steps, value)
    if isinstance(node, Leaf):
        node = _opened(node)
    here, rest = steps[0], steps[1:]
    if here in ("name", "type") and not rest and isinstance(value, Leaf) and isinstance(value.value, str):
        return _of_class(node, here, value)
    key = next((k for k in node.items if str(k) == here), here)
    if key in node.items:
        changed = _set(node.items[key], rest, value)
    else:
        changed = _set(Block({}, Place(OVERRIDE)), rest, value) if rest else value
    return replace(node, items={**node.items, key: changed})


def _of_class(node: Block, key: str, value: Leaf) -> Block:
    """A component whose class is changed; of its arguments those stay that overrides have set."""
    changed = merge(node, Block({key: value}, Place(OVERRIDE)))
    assert isinstance(changed, Block)
    if class_name(node) in ("", value.value):
        return changed
    stays = {k: part for k, part in node.items.items() if is_overridden(part) and k not in ("name", "type")}
    lost = [str(k) for k in node.items if k not in stays and k not in ("name", "type")]
    return Block({key: value, **stays}, node.place, replaced=replacement(node, changed, lost))


def _opened(leaf: Leaf) -> Block:
    """A block in place of a value: of the component that the value names, or an empty one."""
    if isinstance(leaf.value, str):
        return Block({"name": leaf}, leaf.place)
    return Block({}, replace(leaf.place, file=OVERRIDE, line=0))


def _set_item(listing: Listing, steps: tuple[str, ...], value: Node) -> Node:
    here, rest = steps[0], steps[1:]
    names = [_item_name(item) for item in listing.items]
    if here.isdigit():
        index = int(here)
        if index >= len(names):
            raise _UnreachableError(f"there is no item {index}: the list at {listing.place} has {len(names)}")
        rest = rest[1:] if rest and rest[0] == names[index] else rest
    else:
        found = [i for i, name in enumerate(names) if name == here]
        if len(found) != 1:
            raise _UnreachableError(_no_such_item(here, names, found))
        index = found[0]
    if not rest and names[index] and isinstance(value, Leaf) and value.value is None:
        return Listing((*listing.items[:index], *listing.items[index + 1 :]), listing.place)
    item = listing.items[index]
    if isinstance(item, Block) and _is_one_key(item):
        ((key, inner),) = item.items.items()
        if rest or (isinstance(value, Block) and not component_name(value) and not _is_one_key(value)):
            changed: Node = Block({key: _set(inner, rest, value)}, item.place)
        else:
            changed = value
    else:
        changed = _set(item, rest, value)
    return Listing((*listing.items[:index], changed, *listing.items[index + 1 :]), listing.place)


def _is_one_key(item: Node) -> bool:
    """Whether it is written as ``Name: {...}``, the short form of a component in a list."""
    if not isinstance(item, Block) or item.tag or len(item.items) != 1:
        return False
    ((key, inner),) = item.items.items()
    return key != "name" and (isinstance(inner, Block) or (isinstance(inner, Leaf) and inner.value is None))


def _item_name(item: Node) -> str:
    if isinstance(item, Leaf):
        return item.value if isinstance(item.value, str) else ""
    if isinstance(item, Block):
        return str(next(iter(item.items))) if _is_one_key(item) else component_name(item)
    return ""


def _no_such_item(name: str, names: list[str], found: list[int]) -> str:
    if found:
        return f"{name} is in the list more than once; use its index: {', '.join(map(str, found))}"
    listed = ", ".join(f"{i} {n}" if n else str(i) for i, n in enumerate(names))
    return f"no {name} in the list; its items: {listed}"
