"""What a component accepts, read from its constructor's signature and annotations."""

from __future__ import annotations

import collections.abc
import inspect
import typing
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Callable, Literal, Union

from ppdet.config.errors import ConfigError, Place, Problem
from ppdet.config.ranges import Range
from ppdet.config.spec import COMMON, DERIVED, SHARED, YAML_ATTRIBUTES, Spec

#: Default of a parameter that has none.
REQUIRED = inspect.Parameter.empty

_LISTS = (list, collections.abc.Sequence)
_DICTS = (dict, collections.abc.Mapping)
_WORDS = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
    type(None): "null",
    list: "a list",
    tuple: "a list",
    dict: "a mapping",
}


@dataclass(frozen=True)
class Parameter:
    """One constructor argument.

    Attributes:
        name: The YAML key.
        annotation: Its type, without the markers; with the ranges of numbers.
        default: `REQUIRED` if there is none.
        shared: A fact of the top level (`ppdet.config.spec.Shared`).
        common: A choice of the top level that a block may make otherwise (`ppdet.config.spec.Common`).
        derived: Handed over by the parent (`ppdet.config.spec.Derived`).
        attribute: Not of the constructor, but set afterwards where it is given (``yaml_attributes``).
    """

    name: str
    annotation: Any
    default: Any
    shared: bool
    common: bool
    derived: bool
    attribute: bool = False


@cache
def schema_of(component: Callable[..., Any]) -> dict[str, Parameter]:
    """The parameters of a component by name. Do not change the result: it is kept.

    Raises:
        ConfigError: If a parameter has no annotation, one that a YAML cannot fill, or takes ``*args``.
    """
    function = component.__init__ if inspect.isclass(component) else component
    parameters = list(inspect.signature(component).parameters.values())
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise ConfigError([_fault(component, f"the annotations cannot be read: {error}")]) from error
    problems: list[Problem] = []
    found = {}
    for parameter in parameters:
        name = parameter.name
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            problems.append(_fault(component, f"argument {parameter} cannot come from a YAML; name each one"))
        elif name not in hints:
            problems.append(_fault(component, f"argument {name!r} has no annotation"))
        else:
            annotation, marks = _unwrap(hints[name])
            derived = DERIVED in marks
            if not derived and not _supported(annotation):
                problems.append(_fault(component, f"argument {name!r}: no YAML can give {annotation}"))
            found[name] = Parameter(
                name, annotation, parameter.default, SHARED in marks, COMMON in marks, derived
            )
    if problems:
        raise ConfigError(problems)
    for name, annotation in getattr(component, YAML_ATTRIBUTES, {}).items():
        found.setdefault(name, Parameter(name, annotation, None, False, False, False, attribute=True))
    return found


def _fault(component: Callable[..., Any], message: str) -> Problem:
    code = getattr(getattr(component, "__init__", component), "__code__", None)
    place = Place(code.co_filename, code.co_firstlineno) if code is not None else Place(component.__module__)
    return Problem(place, f"{component.__qualname__}: {message}")


def _unwrap(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """The type without its markers, and the markers."""
    if typing.get_origin(annotation) is Annotated:
        inner, *marks = typing.get_args(annotation)
        for limits in (mark for mark in marks if isinstance(mark, Range)):
            inner = Annotated[inner, limits]
        return inner, tuple(mark for mark in marks if not isinstance(mark, Range))
    # Up to Python 3.10 a default of None makes `get_type_hints` put Optional around everything, markers too.
    if is_union(annotation):
        types, marks_of = zip(*map(_unwrap, typing.get_args(annotation)))
        if any(marks_of):
            return Union[types], sum(marks_of, ())
    return annotation, ()


def bare(annotation: Any) -> Any:
    """A type without the range of its numbers."""
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is Annotated else annotation


def limits_of(annotation: Any) -> Range:
    """The range of a type's numbers; without limits if it states none."""
    marks = typing.get_args(annotation)[1:] if typing.get_origin(annotation) is Annotated else ()
    return next((mark for mark in marks if isinstance(mark, Range)), Range())


def _supported(annotation: Any) -> bool:
    annotation = bare(annotation)
    if annotation is Any or annotation in _WORDS or is_spec(annotation):
        return True
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return True
    if is_union(annotation) or origin in (*_LISTS, *_DICTS, tuple):
        return all(part is Ellipsis or _supported(part) for part in arguments)
    return annotation in (*_LISTS, *_DICTS)


def is_spec(annotation: Any) -> bool:
    """Whether the argument is a nested component."""
    return annotation is Spec or typing.get_origin(annotation) is Spec


def is_union(annotation: Any) -> bool:
    """Whether several types are accepted, in either spelling."""
    origin = typing.get_origin(annotation)
    return origin is Union or getattr(origin, "__name__", "") == "UnionType"


def is_list(annotation: Any) -> bool:
    """Whether it is a list or a tuple of any kind."""
    return annotation in (*_LISTS, tuple) or typing.get_origin(annotation) in (*_LISTS, tuple)


def is_dict(annotation: Any) -> bool:
    """Whether it is a mapping of plain values."""
    return annotation in _DICTS or typing.get_origin(annotation) in _DICTS


def spec_base(annotation: Any) -> Any:
    """The ``Base`` of ``Spec[Base]``; Any if there is none."""
    return next(iter(typing.get_args(annotation)), Any)


def members(annotation: Any) -> tuple[Any, ...]:
    """The types of a union, or the type itself."""
    return typing.get_args(annotation) if is_union(annotation) else (annotation,)


def describe(annotation: Any) -> str:
    """A type in words a YAML author uses: ``an integer or null``."""
    if annotation is Any:
        return "anything"
    if is_spec(annotation):
        base = spec_base(annotation)
        return f"a {getattr(base, '__name__', 'component')}" if base is not Any else "a component"
    if typing.get_origin(annotation) is Annotated:
        return f"{describe(bare(annotation))} {limits_of(annotation)}".rstrip()
    if annotation in _WORDS:
        return _WORDS[annotation]
    if is_union(annotation):
        return " or ".join(describe(part) for part in typing.get_args(annotation))
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is Literal:
        return "one of " + ", ".join(map(repr, arguments)) if len(arguments) > 1 else repr(arguments[0])
    if typing.get_origin(annotation) is tuple and Ellipsis not in arguments:
        return f"a list of {len(arguments)}: " + ", ".join(map(describe, arguments))
    if is_list(annotation):
        return f"a list, each {describe(arguments[0])}" if arguments else "a list"
    if is_dict(annotation):
        return f"a mapping to {describe(arguments[1])}" if arguments else "a mapping"
    return str(annotation)
