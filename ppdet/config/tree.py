"""The tree between YAML text and components: immutable nodes that remember where they were written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Union

from ppdet.config.errors import Place

#: ``type:`` of a weight decay is no class of its own: both take the same arguments.
_KINDS_OF_DECAY = frozenset({"L1", "L2"})

#: File of a place that is an override: ``-o key=value``, or an item of `load_config`'s `overrides`.
OVERRIDE = "override"


@dataclass(frozen=True)
class Leaf:
    """A value without parts: str, int, float, bool or None."""

    value: Any
    place: Place


@dataclass(frozen=True)
class Listing:
    """A list."""

    items: tuple[Node, ...]
    place: Place


@dataclass(frozen=True)
class Block:
    """A mapping: the arguments of a component, or plain keys.

    Attributes:
        items: Nodes by key.
        place: Where it is written.
        tag: The component's name where it was written as a tag (``!Name {...}``).
        replaced: Which component of another class it replaces, and the arguments that did not carry over; ""
            if none.
    """

    items: Mapping[Any, Node]
    place: Place
    tag: str = ""
    replaced: str = ""


Node = Union[Leaf, Listing, Block]


def is_overridden(node: Node) -> bool:
    """Whether the node or anything in it was set by an override."""
    if isinstance(node, Leaf):
        return node.place.file == OVERRIDE
    parts = node.items.values() if isinstance(node, Block) else node.items
    return node.place.file == OVERRIDE or any(is_overridden(part) for part in parts)


def component_name(node: Block) -> str:
    """Name of the component that a block describes by tag or by ``name:``; "" if it says none."""
    named = node.items.get("name")
    if node.tag:
        return node.tag
    return named.value if isinstance(named, Leaf) and isinstance(named.value, str) else ""


def class_name(node: Block) -> str:
    """As `component_name`, or what ``type:`` says, as 2.x writes optimisers; "" if neither is there."""
    kind = node.items.get("type")
    plain_type = isinstance(kind, Leaf) and isinstance(kind.value, str) and kind.value not in _KINDS_OF_DECAY
    return component_name(node) or (str(kind.value) if isinstance(kind, Leaf) and plain_type else "")


def merge(base: Node, over: Node) -> Node:
    """`over` on top of `base`.

    Mappings merge key by key; lists and values replace. A mapping also replaces another component's: what was
    said for one class is not handed to another. One written as ``!Name {...}`` replaces everything: in 2.x
    such an object is whole. What comes from an override is never replaced by what comes from a file.
    """
    if isinstance(base, Block) and isinstance(over, Block):
        names = class_name(base), class_name(over)
        differ = bool(names[0] and names[1] and names[0] != names[1])
        if differ and not is_overridden(base):
            return _replaced(base, over)
        by_tag_in_file = over.tag and not is_overridden(base)
        if not by_tag_in_file and not differ:
            items = dict(base.items)
            for key, node in over.items.items():
                items[key] = merge(items[key], node) if key in items else node
            return Block(items, over.place, over.tag or base.tag, over.replaced or base.replaced)
    if is_overridden(base) and not is_overridden(over):
        return base
    return over


def _replaced(base: Block, over: Block) -> Block:
    """A component in place of one of another class, whose arguments do not carry over.

    ``argument: null`` takes out what the old class had.
    """
    lost = [str(key) for key in base.items if key not in ("name", "type")]
    items = {
        key: node
        for key, node in over.items.items()
        if not (isinstance(node, Leaf) and node.value is None and str(key) in lost)
    }
    return Block(items, over.place, over.tag, replacement(base, over, lost))


def replacement(base: Block, over: Block, lost: Sequence[str]) -> str:
    """A sentence on the arguments of `base` that `over`, of another class, does not get; "" if none."""
    if not lost:
        return ""
    which = f"{class_name(over)} ({over.place}) replaces {class_name(base)} ({base.place})"
    return f"{which}; its arguments do not carry over: {', '.join(lost)}"


def replacements(node: Node) -> Iterator[str]:
    """`Block.replaced` of a tree and its parts, where there is one."""
    if isinstance(node, Block) and node.replaced:
        yield node.replaced
    if not isinstance(node, Leaf):
        for part in node.items.values() if isinstance(node, Block) else node.items:
            yield from replacements(part)


def with_paths(node: Node, path: tuple[str, ...] = ()) -> Node:
    """The same tree with every node knowing its dotted path."""
    place = replace(node.place, path=path)
    if isinstance(node, Block):
        items = {key: with_paths(part, (*path, str(key))) for key, part in node.items.items()}
        return Block(items, place, node.tag, node.replaced)
    if isinstance(node, Listing):
        return Listing(tuple(with_paths(n, (*path, str(i))) for i, n in enumerate(node.items)), place)
    return Leaf(node.value, place)


def plain(node: Node) -> Any:
    """The node as dicts, lists and values; a tag becomes the key ``name``."""
    if isinstance(node, Block):
        named = {"name": node.tag} if node.tag else {}
        return {**named, **{key: plain(part) for key, part in node.items.items()}}
    if isinstance(node, Listing):
        return [plain(part) for part in node.items]
    return node.value


def leaves(node: Node) -> Iterator[Leaf]:
    """All values of a tree, in order."""
    if isinstance(node, Leaf):
        yield node
        return
    for part in node.items.values() if isinstance(node, Block) else node.items:
        yield from leaves(part)
