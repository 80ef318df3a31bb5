"""How a component is described before it is built.

A component is any class whose constructor takes keyword-only arguments; its signature is its
schema. Constructor arguments come from four places, distinguished by their annotation:

* plain: from the component's own YAML block (``depth: int = 50``);
* ``Shared[T]``: a fact of the whole experiment, written once at the top level of the YAML
  (``num_classes``); a block may repeat it but must agree;
* ``Common[T]``: a choice that the top level may make for all components (``norm_type``) and a block otherwise
  for its own;
* ``Derived[T]``: computed by the parent, which passes it to `Spec.build`
  (``in_shapes``, the feature shapes of the part before); a YAML may state it but must agree.

An argument that is itself a component is annotated ``Spec[SomeBase]`` and arrives unbuilt, so that
the parent can derive what the child needs::

    class FPN(Neck):
        def __init__(self, *, in_shapes: Derived[list[FeatureShape]], out_channel: int = 256): ...

    backbone = backbone_spec.build()
    neck = neck_spec.build(in_shapes=backbone.out_shapes)
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Annotated, Any, Callable, Generic, Optional, TypeVar

from ppdet.config.errors import ArgumentError, ConfigError, Place, Problem

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

#: Annotation markers; compare by identity with the metadata of ``Annotated``.
SHARED = object()
DERIVED = object()
COMMON = object()
#: Class attribute of a base class: what any component of its kind takes beside the arguments of its
#: constructor, YAML key -> type. Each is set on the component after it is built, if it is given.
YAML_ATTRIBUTES = "yaml_attributes"

Shared = Annotated[T, SHARED]
Derived = Annotated[T, DERIVED]
Common = Annotated[T, COMMON]


@dataclass(frozen=True)
class Spec(Generic[T_co]):
    """A component and its checked arguments, not built yet. Immutable, so it can be a default.

    Attributes:
        component: The class (or factory function) to call.
        arguments: Its arguments; nested components are `Spec` themselves.
        origin: Where it is written; None when made in Python.
        origins: Where each argument is written; without those that have their default.
    """

    component: Callable[..., T_co]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    origin: Optional[Place] = field(default=None, compare=False, repr=False)
    origins: Mapping[str, Place] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", MappingProxyType(dict(self.arguments)))
        object.__setattr__(self, "origins", MappingProxyType(dict(self.origins)))

    def __reduce__(self) -> tuple[Any, ...]:  # a MappingProxyType cannot be copied or pickled
        return Spec, (self.component, dict(self.arguments), self.origin, dict(self.origins))

    @staticmethod
    def of(component: Callable[..., T], **arguments: Any) -> Spec[T]:
        """Describe a component in Python: ``Spec.of(FPN, out_channel=128)``."""
        return Spec(component, arguments)

    @property
    def name(self) -> str:
        """Name of the component's class."""
        return self.component.__name__

    def bind(self, **derived: Any) -> Spec[T_co]:
        """The same component with some of its derived arguments; `build` adds the others.

        Raises:
            ConfigError: If the component does not take one of them, or a YAML states another value; names the
                line.
            ValueError: The same of a component made in Python.
        """
        try:
            return replace(self, arguments={**self.arguments, **self._checked(derived)})
        except ValueError as error:
            if self.origin is None:
                raise
            raise self._located(error, self.origin) from error

    def build(self, **derived: Any) -> T_co:
        """Build the component.

        Args:
            **derived: Arguments that the parent derives.

        Returns:
            The component.

        Raises:
            ConfigError: If a component made from a YAML refuses an argument, does not take one that the
                parent derives, or states another value for it; names the line.
            ValueError: The same of a component made in Python.
        """
        # Copies: what a component does to its lists must not reach the next one built from here.
        arguments = {name: _copied(value) for name, value in self.arguments.items()}
        settable = set(getattr(self.component, YAML_ATTRIBUTES, ())) & set(arguments)
        attributes = {name: arguments.pop(name) for name in settable - _own_arguments(self.component)}
        try:
            made = self.component(**{**arguments, **self._checked(derived)})
            for name, value in attributes.items():
                setattr(made, name, value)
            return made
        except ValueError as error:
            if self.origin is None:
                raise
            raise self._located(error, self.origin) from error

    def _checked(self, derived: Mapping[str, Any]) -> Mapping[str, Any]:
        accepted = inspect.signature(self.component).parameters
        for name, value in derived.items():
            if name not in accepted:
                raise ValueError(
                    f"{self.name} takes no argument {name!r}, which its parent derives for it; add "
                    f"`{name}: Derived[...]` to its constructor"
                )
            if name in self.arguments and not _agree(self.arguments[name], value):
                raise ArgumentError(
                    name,
                    f"{self.name}.{name} is {self.arguments[name]!r}, but the rest of the configuration "
                    f"makes it {value!r}; remove the line or make them agree",
                )
        return derived

    def _located(self, error: ValueError, origin: Place) -> ConfigError:
        """The error at the line of the argument that it is about, else at that of the component."""
        if not isinstance(error, ArgumentError):
            return ConfigError([Problem(origin, str(error))])
        if error.argument in self.origins:  # a problem begins with the path of its place
            return ConfigError([Problem(self.origins[error.argument], error.message)])
        return ConfigError([Problem(origin, str(error))])


def _own_arguments(component: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(component).parameters)


def _agree(written: Any, derived: Any) -> bool:
    """Equal, where a YAML has lists and Python may have tuples."""
    if isinstance(written, (list, tuple)) and isinstance(derived, (list, tuple)):
        return len(written) == len(derived) and all(map(_agree, written, derived))
    return bool(written == derived)


def _copied(value: Any) -> Any:
    if type(value) in (list, tuple):
        return type(value)(_copied(item) for item in value)
    return {key: _copied(item) for key, item in value.items()} if type(value) is dict else value
