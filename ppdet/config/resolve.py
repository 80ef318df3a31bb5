"""A tree to checked `Spec` objects, with every problem found on the way."""

from __future__ import annotations

import inspect
import logging
import typing
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Callable, Optional

from ppdet.config.compat import ANY_COMPONENT, COMPONENT_KEYS, DROPPED_COMPONENTS, Agrees
from ppdet.config.compat_check import Facts, check_rule
from ppdet.config.errors import Place, Problem, nearest, suggestion
from ppdet.config.not_provided import NOT_PROVIDED
from ppdet.config.registry import Table, fits, yaml_name
from ppdet.config.schema import REQUIRED, Parameter, describe, is_spec, members, schema_of, spec_base
from ppdet.config.spec import Spec
from ppdet.config.tree import OVERRIDE, Block, Leaf, Node, component_name, is_overridden, merge, plain
from ppdet.config.values import DROPPED, INVALID, canonical, convert, mismatch, shown

logger = logging.getLogger(__name__)

Component = Callable[..., Any]

#: Components inside components; a detector has four levels.
_MAX_DEPTH = 32


class Resolver:
    """Resolves the components of one configuration.

    Args:
        root: The tree of the top level.
        table: The names that may be used.
        problems: Receives what is wrong.
    """

    def __init__(self, root: Block, table: Table, problems: list[Problem]) -> None:
        self._root = root
        self._table = table
        self._problems = problems
        self._open: list[str] = []
        self._facts = Facts()
        #: Names of the components in use.
        self.used: set[str] = set()
        #: Top-level keys that components read as shared facts.
        self.shared: set[str] = set()
        #: Names of components that are used and do not exist.
        self.unknown: set[str] = set()

    def top_level(self, experiment: Component) -> tuple[dict[str, Any], dict[str, Place]]:
        """Arguments of the class whose parameters are the top-level keys, and where they are written."""
        schema = schema_of(experiment)
        arguments, places = self._arguments(experiment, schema, self._root, None)
        self._check_unused(schema)
        self._facts.compare(arguments, self._problems)
        return arguments, places

    def _check_unused(self, schema: Mapping[str, Parameter]) -> None:
        """Blocks of components that nothing uses: their keys and types all the same."""
        for key, node in self._root.items.items():
            if key in schema or key in self.used or key not in self._table:
                continue
            if isinstance(node, Block):
                if is_overridden(node):
                    logger.warning("override %s...: nothing in this configuration uses %s", key, key)
                component = self._table.get(key)
                self._arguments(component, schema_of(component), node, None, unused=True)
            elif not (isinstance(node, Leaf) and node.value is None):
                self._report(node.place, f"expected the arguments of {key}, got {shown(node)}")

    def _report(self, place: Place, message: str) -> None:
        self._problems.append(Problem(place, message))

    # Components

    def component(self, node: Node, annotation: Any, in_list: bool, default: Any = None) -> Any:
        """The `Spec` that a node describes where ``Spec[Base]`` is expected.

        Args:
            node: A name, a block with ``name:`` or a tag, or arguments of the default's class.
            annotation: The slot's ``Spec[Base]``.
            in_list: Whether the short form ``Name: {...}`` is allowed.
            default: The slot's own default, if it is a `Spec`.

        Returns:
            The spec; `INVALID` after a report.
        """
        if in_list and isinstance(node, Block):
            node = _from_one_key(node)
        base = spec_base(annotation)
        if isinstance(node, Leaf) and isinstance(node.value, str):
            node = Block({}, node.place, node.value)
        if not isinstance(node, Block):
            self._report(node.place, mismatch(node, annotation) + self._choices(base))
            return INVALID
        name, key = _name_in(node, default)
        if name in DROPPED_COMPONENTS and name not in self._table and in_list:
            for argument, part in node.items.items():
                if argument in DROPPED_COMPONENTS[name]:
                    check_rule(DROPPED_COMPONENTS[name][argument], part, self._facts, self._problems)
                elif argument != key:
                    self._report(part.place, f"{name} has no argument {argument!r}")
            return DROPPED
        if name:
            component = self._find(name, base, node.place)
            if component is None:
                return INVALID
            items = {k: part for k, part in node.items.items() if k != key}
            return self._spec(component, name, Block(items, node.place), None)
        if isinstance(default, Spec):
            return self._spec(default.component, yaml_name(default.component), node, default)
        if inspect.isclass(base) and self._table.holds(base):
            return self._spec(base, yaml_name(base), node, None)
        self._report(node.place, f"expected {describe(annotation)} with a name: in it{self._choices(base)}")
        return INVALID

    def from_default(self, default: Spec[Any], place: Place) -> Any:
        """A default component, with the top-level block of its name and the shared facts."""
        return self._spec(default.component, yaml_name(default.component), Block({}, place), default)

    def _choices(self, base: Any) -> str:
        if not inspect.isclass(base):
            return ""
        return f"; there are: {', '.join(self._table.fitting(base)) or 'none'}"

    def _find(self, name: str, base: Any, place: Place) -> Optional[Component]:
        kind = getattr(base, "__name__", "component")
        if name not in self._table:
            self.unknown.add(name)
            self._problems.append(self._unknown(name, base, place))
            return None
        component = self._table.get(name)
        if not fits(component, base):
            self._report(place, f"{name} is no {kind}{self._choices(base)}")
            return None
        return component

    def _unknown(self, name: str, base: Any, place: Place) -> Problem:
        fitting = self._table.fitting(base) if inspect.isclass(base) else self._table.names
        near = nearest(name, fitting, cutoff=0.8)
        if near is not None and name not in NOT_PROVIDED:
            return Problem(place, f"there is no component {name}; did you mean {near!r}?")
        architecture = self._root.items.get("architecture")
        of = "" if architecture is None or place.path == ("architecture",) else _named(architecture)
        listed = ", ".join(fitting)
        what = (
            f"{getattr(base, '__name__', 'component')}s here: {listed}" if listed else "a plugin can add it"
        )
        message = f"not provided: {name}" + (f" (architecture {of})" if of else "") + f"; {what}"
        return Problem(place, message, not_provided=True)

    def _spec(self, component: Component, name: str, block: Block, default: Optional[Spec[Any]]) -> Any:
        if len(self._open) >= _MAX_DEPTH:
            self._report(block.place, f"{name} contains itself: {' -> '.join(self._open[-3:])} -> ...")
            return INVALID
        self.used.add(name)
        own = self._root.items.get(name)
        if isinstance(own, Block) and own is not block and own.place.path != block.place.path:
            if own.tag and own.tag != name:
                self._report(own.place, f"the block of {name} is tagged !{own.tag}")
            untagged = {k: v for k, v in own.items.items() if k != "name"}
            merged = merge(Block(untagged, own.place), block)
            assert isinstance(merged, Block)
            block = Block(merged.items, block.place)
        before = len(self._problems)
        self._open.append(name)
        arguments, places = self._arguments(component, schema_of(component), block, default)
        self._open.pop()
        if len(self._problems) > before:
            return INVALID
        return Spec(component, arguments, block.place, places)

    # Arguments

    def _arguments(
        self,
        component: Component,
        schema: Mapping[str, Parameter],
        block: Block,
        default: Optional[Spec[Any]],
        unused: bool = False,
    ) -> tuple[dict[str, Any], dict[str, Place]]:
        name = yaml_name(component)
        rules = {**ANY_COMPONENT, **COMPONENT_KEYS.get(name, {})}
        top = block is self._root
        if not top:
            for key, node in block.items.items():
                if key in rules and (key not in schema or isinstance(rules[key], Agrees)):
                    check_rule(rules[key], node, self._facts, self._problems)
                elif key not in schema:
                    self._report(node.place, f"{name} has no argument {key!r}{suggestion(str(key), schema)}")
        arguments, places = {}, {}
        for key, parameter in schema.items():
            value, place = self._argument(parameter, block, default, name, unused)
            if value is not REQUIRED:
                arguments[key] = value
            if place is not None:
                places[key] = place
        return arguments, places

    def _argument(
        self, parameter: Parameter, block: Block, default: Optional[Spec[Any]], name: str, unused: bool
    ) -> tuple[Any, Optional[Place]]:
        """Value and place of one argument; `REQUIRED` as the value where it has none yet."""
        node = block.items.get(parameter.name)
        fallback = parameter.default
        if parameter.attribute and node is None:
            return REQUIRED, None
        if default is not None and parameter.name in default.arguments:
            fallback = default.arguments[parameter.name]
        if parameter.shared and not unused:
            shared = self._shared(parameter, node, name)
            node = shared if shared is not None else node
        elif parameter.common and not unused:
            shared = self._top_level(parameter)
            node = node if node is not None else shared
        if node is not None:
            return self._value(node, parameter, fallback), _origin(node, parameter)
        if parameter.derived:
            return (fallback if fallback is not parameter.default else REQUIRED), None
        if fallback is REQUIRED:
            if not unused:
                where = "at the top level" if parameter.shared else ""
                expected = describe(parameter.annotation)
                message = f"{parameter.name} is missing {where}".strip() + f"; expected {expected}"
                self._report(block.place, message)
            return INVALID, None
        return canonical(self._default(fallback, block.place, unused), parameter.annotation), None

    def _default(self, value: Any, place: Place, unused: bool) -> Any:
        """A default, with the components in it resolved like those that are written."""
        if unused:
            return value
        if isinstance(value, Spec):
            return self.from_default(value, place)
        if type(value) in (list, tuple):
            return type(value)(self._default(item, place, unused) for item in value)
        return value

    def _value(self, node: Node, parameter: Parameter, fallback: Any) -> Any:
        annotation = parameter.annotation
        slots = [m for m in members(annotation) if is_spec(m)]

        def nested(part: Node, kind: Any, in_list: bool, problems: list[Problem]) -> Any:
            outer, self._problems = self._problems, problems
            try:
                return self.component(part, kind, in_list, fallback if slots and not in_list else None)
            finally:
                self._problems = outer

        return convert(node, annotation, self._problems, nested)

    def _shared(self, parameter: Parameter, node: Optional[Node], name: str) -> Optional[Node]:
        """The value of the top level; reports a block of the component that contradicts it."""
        shared = self._top_level(parameter)
        if shared is not None and node is not None and plain(shared) != plain(node):
            message = f"{shown(node)}, but {parameter.name} is {shown(shared)} at {shared.place}; remove one"
            self._report(node.place, f"{name}.{parameter.name} is {message}")
        return shared

    def _top_level(self, parameter: Parameter) -> Optional[Node]:
        """What the top level says of a fact or choice that components have in common; None for nothing."""
        self.shared.add(parameter.name)
        node = self._root.items.get(parameter.name)
        return None if isinstance(node, Leaf) and node.value is None else node


def _origin(node: Node, parameter: Parameter) -> Place:
    """Where an argument is written; of a list or mapping in a file, that an override changed it."""
    if not _holds_specs(parameter.annotation) and is_overridden(node) and node.place.line:
        return replace(node.place, file=f"{OVERRIDE}, {node.place}", line=0)
    return node.place


def _holds_specs(annotation: Any) -> bool:
    return is_spec(annotation) or any(map(_holds_specs, typing.get_args(annotation)))


def _name_in(node: Block, default: Any) -> tuple[str, str]:
    """Name of the component that a block describes, and the key that holds it; "" where there is none."""
    name = component_name(node)
    if name:
        return name, "" if node.tag else "name"
    kind = node.items.get("type")  # as 2.x writes OptimizerBuilder.optimizer
    takes_type = isinstance(default, Spec) and "type" in schema_of(default.component)
    if isinstance(kind, Leaf) and isinstance(kind.value, str) and not takes_type:
        return kind.value, "type"
    return "", ""


def _named(node: Node) -> str:
    if isinstance(node, Block):
        return component_name(node)
    return str(plain(node))


def _from_one_key(node: Block) -> Block:
    """``Name: {...}`` or ``Name:`` as a block of that name."""
    if node.tag or len(node.items) != 1 or "name" in node.items:
        return node
    ((key, inner),) = node.items.items()
    if isinstance(inner, Leaf) and inner.value is None:
        return Block({}, inner.place, str(key))
    if isinstance(inner, Block) and not inner.tag:
        return Block(inner.items, inner.place, str(key))
    return node
