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
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, Callable, Generic, TypeVar

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
        origin: ``file:line`` it was written at; empty when made in Python.
    """

    component: Callable[..., T]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", MappingProxyType(dict(self.arguments)))

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
            ValueError: If the description states an argument and the parent derives another value.
        """
        accepted = inspect.signature(self.component).parameters
        arguments = dict(self.arguments)
        for name, value in derived.items():
            if name not in accepted:
                continue
            if name in arguments and arguments[name] != value:
                where = f"{self.origin}: " if self.origin else ""
                raise ValueError(
                    f"{where}{self.name}.{name} is {arguments[name]!r}, but the rest of the configuration "
                    f"makes it {value!r}; remove the line or make them agree"
                )
            arguments[name] = value
        return self.component(**arguments)
