"""How a component is described before it is built.

A component is any class whose constructor takes keyword-only arguments; its signature is its
schema. Constructor arguments come from three places, told apart by their annotation:

* plain: from the component's own YAML block (``depth: int = 50``);
* ``Shared[T]``: a fact of the whole experiment, written once at the top level of the YAML
  (``num_classes``, ``norm_type``); a block may repeat it but must agree;
* ``Derived[T]``: known only to the parent, which hands it over in `Spec.build`
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
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, Callable, Generic, Optional, TypeVar

from ppdet.config.errors import ConfigError, Place, Problem

T = TypeVar("T")

#: Annotation markers; compare by identity with the metadata of ``Annotated``.
SHARED = object()
DERIVED = object()

Shared = Annotated[T, SHARED]
Derived = Annotated[T, DERIVED]


@dataclass(frozen=True)
class Spec(Generic[T]):
    """A component and its checked arguments, not built yet. Immutable, so it can be a default.

    Attributes:
        component: The class (or factory function) to call.
        arguments: Its arguments; nested components are `Spec` themselves.
        origin: Where it is written; None when made in Python.
        origins: Where each argument is written; without those that have their default.
    """

    component: Callable[..., T]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    origin: Optional[Place] = field(default=None, compare=False, repr=False)
    origins: Mapping[str, Place] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", MappingProxyType(dict(self.arguments)))
        object.__setattr__(self, "origins", MappingProxyType(dict(self.origins)))

    def __reduce__(self) -> tuple[Any, ...]:  # a MappingProxyType cannot be copied or pickled
        return Spec, (self.component, dict(self.arguments), self.origin, dict(self.origins))

    @classmethod
    def of(cls, component: Callable[..., T], **arguments: Any) -> Spec[T]:
        """Describe a component in Python: ``Spec.of(FPN, out_channel=128)``."""
        return cls(component, arguments)

    @property
    def name(self) -> str:
        """Name of the component's class."""
        return self.component.__name__

    def build(self, **derived: Any) -> T:
        """Build the component.

        Args:
            **derived: What the parent knows; arguments the component does not take are left out.

        Returns:
            The component.

        Raises:
            ConfigError: If a component made from a YAML refuses an argument, or states one that the parent
                derives otherwise; names the line.
            ValueError: The same of a component made in Python.
        """
        accepted = inspect.signature(self.component).parameters
        # Copies: what a component does to its lists must not reach the next one built from here.
        arguments = {name: _copied(value) for name, value in self.arguments.items()}
        try:
            for name, value in derived.items():
                if name not in accepted:
                    continue
                if name in arguments and not _agree(arguments[name], value):
                    raise ValueError(
                        f"{self.name}.{name} is {arguments[name]!r}, but the rest of the configuration "
                        f"makes it {value!r}; remove the line or make them agree"
                    )
                arguments[name] = value
            return self.component(**arguments)
        except ValueError as error:
            if self.origin is None:
                raise
            place, message = self._place_of(str(error)), str(error)
            path = ".".join(place.path) + ":"  # which many messages begin with, and a problem says itself
            message = message[len(path) :].strip() if message.startswith(path) else message
            raise ConfigError([Problem(place, message)]) from error

    def _place_of(self, message: str) -> Place:
        """Where the argument is written that a message is about; the component's own place if unclear."""
        assert self.origin is not None
        for pattern in (rf"\b{self.name}\.{{}}\b", r"(?<![\w.]){}\b"):
            named = [a for a in self.origins if re.search(pattern.format(re.escape(a)), message)]
            if len(named) == 1:
                return self.origins[named[0]]
        return self.origin


def _agree(written: Any, derived: Any) -> bool:
    """Equal, where a YAML has lists and Python may have tuples."""
    if isinstance(written, (list, tuple)) and isinstance(derived, (list, tuple)):
        return len(written) == len(derived) and all(map(_agree, written, derived))
    return bool(written == derived)


def _copied(value: Any) -> Any:
    if type(value) in (list, tuple):
        return type(value)(_copied(item) for item in value)
    return {key: _copied(item) for key, item in value.items()} if type(value) is dict else value
