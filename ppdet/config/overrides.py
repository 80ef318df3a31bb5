"""``-o a.b.c=value``: changes to a tree before anything is resolved.

Whether a key exists is not asked here: the changed tree is checked like a file, and what is wrong with
a value that came from the command line is reported as ``command line``.
"""

from __future__ import annotations

from dataclasses import replace

from ppdet.config.errors import ConfigError, Place, Problem
from ppdet.config.parse import parse
from ppdet.config.tree import COMMAND_LINE, Block, Leaf, Listing, Node, component_name, merge


class _UnreachableError(Exception):
    """Why a path leads nowhere."""


def apply_override(root: Block, text: str, problems: list[Problem]) -> Block:
    """The tree with one value set.

    A step of the path is a key, the index of a list item, or the name of the component that a list item
    describes. Missing blocks are made; a component given by its bare name becomes a block of that name.

    Args:
        root: The tree.
        text: ``path=value``; the value is YAML, nothing is null.
        problems: Receives why the override cannot be applied.
    """
    path, equals, value_text = text.partition("=")
    steps = tuple(step.strip() for step in path.split("."))
    if not equals or not all(steps):
        problems.append(Problem(Place(COMMAND_LINE), f"-o {text}: expected key=value, as in -o epoch=12"))
        return root
    try:
        value = parse(value_text, COMMAND_LINE, problems) if value_text.strip() else Leaf(None, Place(""))
    except ConfigError as error:
        problems += [Problem(p.place, f"-o {text}: {p.message}") for p in error.problems]
        return root
    try:
        changed = _set(root, steps, _from_here(value))
    except _UnreachableError as error:
        problems.append(Problem(Place(COMMAND_LINE, 0, steps), str(error)))
        return root
    assert isinstance(changed, Block)
    return changed


def _from_here(node: Node) -> Node:
    place = Place(COMMAND_LINE)
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
    key = next((k for k in node.items if str(k) == here), here)
    if key in node.items:
        changed = _set(node.items[key], rest, value)
    else:
        changed = _set(Block({}, Place(COMMAND_LINE)), rest, value) if rest else value
    return Block({**node.items, key: changed}, node.place, node.tag)


def _opened(leaf: Leaf) -> Block:
    """A block in place of a value: of the component that the value names, or an empty one."""
    if isinstance(leaf.value, str):
        return Block({"name": leaf}, leaf.place)
    return Block({}, replace(leaf.place, file=COMMAND_LINE, line=0))


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
