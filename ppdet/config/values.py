"""Tree nodes to plain values of an annotated type, with every mismatch reported."""

from __future__ import annotations

import math
import typing
from typing import Any, Callable, Literal

from ppdet.config.errors import Problem, suggestion
from ppdet.config.schema import bare, describe, is_dict, is_list, is_spec, is_union, limits_of, members
from ppdet.config.tree import Block, Leaf, Listing, Node, component_name, plain

#: Stands for a value that could not be made; its problem has been reported.
INVALID: Any = object()

#: Stands for a list item that 2.x needs and we do not.
DROPPED: Any = object()

#: Makes a nested component: (node, annotation, inside a list, problems) -> Spec, `INVALID` or `DROPPED`.
Nested = Callable[[Node, Any, bool, list[Problem]], Any]


def convert(
    node: Node, annotation: Any, problems: list[Problem], nested: Nested, in_list: bool = False
) -> Any:
    """The value of a node.

    Args:
        node: What is written.
        annotation: The expected type.
        problems: Receives what does not fit.
        nested: Makes nested components.
        in_list: Whether the node is an item of a list.

    Returns:
        The value, or `INVALID` after a report.
    """
    if annotation is Any:
        return plain(node)
    if is_union(annotation):
        return _of_union(node, annotation, problems, nested, in_list)
    if is_spec(annotation):
        return nested(node, annotation, in_list, problems)
    if is_list(annotation) and isinstance(node, Listing):
        return _list(node, annotation, problems, nested)
    if is_dict(annotation) and isinstance(node, Block):
        return _dict(node, annotation, problems, nested)
    if isinstance(node, Leaf) and _fits(node.value, annotation):
        kind = bare(annotation)
        return kind(node.value) if kind in (float, int) else node.value
    problems.append(Problem(node.place, mismatch(node, annotation)))
    return INVALID


def _fits(value: Any, annotation: Any) -> bool:
    if not limits_of(annotation).holds(value):
        return False
    annotation = bare(annotation)
    if typing.get_origin(annotation) is Literal:
        return any(type(value) is type(option) and value == option for option in typing.get_args(annotation))
    if annotation is float:
        return type(value) in (int, float)
    if annotation is int and type(value) is float:  # 2.x writes strides: [8.0, 16.0]
        return value.is_integer()
    return annotation in (bool, int, str, type(None)) and type(value) is annotation


def _list(node: Listing, annotation: Any, problems: list[Problem], nested: Nested) -> Any:
    arguments = typing.get_args(annotation)
    is_tuple = annotation is tuple or typing.get_origin(annotation) is tuple
    if is_tuple and arguments and arguments[-1] is not Ellipsis:
        if len(arguments) != len(node.items):
            problems.append(Problem(node.place, mismatch(node, annotation)))
            return INVALID
        types = list(arguments)
    else:
        types = [arguments[0] if arguments else Any] * len(node.items)
    values = [convert(n, kind, problems, nested, True) for n, kind in zip(node.items, types)]
    if any(value is INVALID for value in values):
        return INVALID
    values = [value for value in values if value is not DROPPED]
    return tuple(values) if is_tuple else values


def canonical(value: Any, annotation: Any) -> Any:
    """A default with the containers that `convert` would make, so that a saved one reads as the same."""
    kind = next((m for m in members(annotation) if is_list(m)), None)
    if kind is None or type(value) not in (list, tuple):
        return value
    inner = next((a for a in typing.get_args(kind) if a is not Ellipsis), Any)
    items = [canonical(item, inner) for item in value]
    return tuple(items) if kind is tuple or typing.get_origin(kind) is tuple else items


def _dict(node: Block, annotation: Any, problems: list[Problem], nested: Nested) -> Any:
    if node.tag:
        problems.append(Problem(node.place, f"expected a mapping of plain values, got !{node.tag}"))
        return INVALID
    key_type, kind = typing.get_args(annotation) or (Any, Any)
    values = {}
    for key, part in node.items.items():
        if key_type is not Any and not _fits(key, key_type):
            problems.append(Problem(part.place, f"expected a key that is {describe(key_type)}, got {key!r}"))
            values[key] = INVALID
        else:
            values[key] = convert(part, kind, problems, nested)
    return INVALID if any(value is INVALID for value in values.values()) else values


def _of_union(node: Node, annotation: Any, problems: list[Problem], nested: Nested, in_list: bool) -> Any:
    # The exact type first: 1 stays an int where an int or float is expected, and False stays a bool.
    kinds = sorted(
        members(annotation), key=lambda m: not (isinstance(node, Leaf) and type(node.value) is bare(m))
    )
    attempts: list[tuple[Any, list[Problem]]] = []
    for kind in kinds:
        found: list[Problem] = []
        value = convert(node, kind, found, nested, in_list)
        if not found and value is not INVALID:
            return value
        attempts.append((kind, found))
    # The problem inside says more than "neither of these", where only one type has such an inside.
    inner = [found for kind, found in attempts if found and _same_form(node, kind)]
    if len(inner) == 1:
        problems += inner[0]
    else:
        problems.append(Problem(node.place, mismatch(node, annotation)))
    return INVALID


def _same_form(node: Node, kind: Any) -> bool:
    if is_spec(kind):
        return isinstance(node, Block) or (isinstance(node, Leaf) and isinstance(node.value, str))
    if isinstance(node, Block):
        return is_dict(kind)
    return is_list(kind) if isinstance(node, Listing) else False


def mismatch(node: Node, annotation: Any) -> str:
    """What was expected and what is there, with the likely cure."""
    return f"expected {describe(annotation)}, got {shown(node)}{_cure(node, annotation)}"


def shown(node: Node) -> str:
    """A node in an error message, short, as the author would recognise it."""
    if isinstance(node, Block):
        name = component_name(node)
        keys = ", ".join(map(str, list(node.items)[:4])) + (", ..." if len(node.items) > 4 else "")
        return f"the component {name}" if name else f"a mapping ({keys})" if keys else "an empty mapping"
    if isinstance(node, Listing):
        listed = ", ".join(map(_scalar_text, (plain(item) for item in node.items[:4])))
        return f"the list [{listed}{', ...' if len(node.items) > 4 else ''}]"
    return f"the string {node.value!r}" if isinstance(node.value, str) else _scalar_text(node.value)


def _scalar_text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _cure(node: Node, annotation: Any) -> str:
    if not isinstance(node, Leaf):
        return ""
    value, kinds = node.value, members(annotation)
    if isinstance(value, str):
        options = [
            o
            for kind in kinds
            if typing.get_origin(kind) is Literal
            for o in typing.get_args(kind)
            if isinstance(o, str)
        ]
        if options:
            return suggestion(value, options)
    if str in kinds and value is not None and not isinstance(value, str):
        return "; put it in quotes"
    if isinstance(value, str) and value.lower() in ("none", "nil") and type(None) in kinds:
        return "; write null"
    if any(is_list(kind) for kind in kinds) and value is not None:
        return "; write [...] around it" if not isinstance(value, str) else ""
    return ""
