"""A resolved experiment as YAML text in the layout of 2.x, which loads as the same experiment."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from yaml.emitter import Emitter
from yaml.representer import SafeRepresenter
from yaml.serializer import Serializer

from ppdet.config.errors import Place
from ppdet.config.parse import PlainWords
from ppdet.config.registry import yaml_name
from ppdet.config.schema import schema_of
from ppdet.config.spec import Spec

_INDENT = "  "


def dump(experiment: Any, places: Mapping[str, Place], *, origins: bool) -> str:
    """Write an experiment.

    A component that is used in one way only gets a block of its own at the top level, as 2.x has it, so
    that ``-o ResNet.depth=18`` works on the result as on the original; others are written in place.

    Args:
        experiment: A dataclass whose fields are the top-level keys.
        places: Where top-level keys are written.
        origins: Add the origin of each value as a comment.
    """
    values = {f.name: getattr(experiment, f.name) for f in fields(experiment) if f.init}
    writer = _Writer(origins, _blocks(values), values)
    for key, value in values.items():
        writer.entry(key, value, places.get(key), "", top=True)
    for name, spec in writer.blocks.items():
        if name not in values:
            writer.lines.append("")
            writer.block(name, spec)
    return "\n".join(writer.lines) + "\n"


def _blocks(values: Mapping[str, Any]) -> dict[str, Spec[Any]]:
    """Components that can have a block at the top level: all their uses are equal, and none is in a list."""
    found: dict[str, list[Spec[Any]]] = {}
    in_lists: set[str] = set()
    for spec, in_list in _specs(values.values(), False):
        found.setdefault(yaml_name(spec.component), []).append(spec)
        if in_list:
            in_lists.add(yaml_name(spec.component))
    return {
        name: specs[0]
        for name, specs in found.items()
        if name not in in_lists and all(spec == specs[0] for spec in specs)
    }


def _specs(values: Any, in_list: bool) -> Iterator[tuple[Spec[Any], bool]]:
    for value in values:
        if isinstance(value, Spec):
            yield value, in_list
            yield from _specs(value.arguments.values(), False)
        elif isinstance(value, (list, tuple)):
            yield from _specs(value, True)


class _Writer:
    def __init__(self, origins: bool, blocks: Mapping[str, Spec[Any]], top_level: Mapping[str, Any]) -> None:
        self.lines: list[str] = []
        self.blocks = blocks
        self._origins = origins
        self._top_level = top_level

    def entry(self, key: str, value: Any, place: Any, indent: str, top: bool = False) -> None:
        """One ``key: value``, over as many lines as it needs."""
        head = f"{indent}{plain_text(key)}:"
        if isinstance(value, Spec):
            name = yaml_name(value.component)
            if top and name == key:
                self.block(key, value)
            elif name in self.blocks:
                self._line(f"{head} {name}", place)
            else:
                self._line(f"{head} !{name}" + ("" if self._own(value) else " {}"), place)
                self._arguments(value, indent + _INDENT)
        elif isinstance(value, (list, tuple)) and any(isinstance(item, Spec) for item in value):
            self._line(head, place)
            for item in value:
                self._item(item, indent + _INDENT)
        else:
            self._line(f"{head} {plain_text(value)}", place)

    def block(self, name: str, spec: Spec[Any]) -> None:
        """A component's own block at the top level."""
        self._line(f"{name}:" + ("" if self._own(spec) else " {}"), None)
        self._arguments(spec, _INDENT)

    def _item(self, item: Any, indent: str) -> None:
        if not isinstance(item, Spec):
            self._line(f"{indent}- {plain_text(item)}", None)
            return
        self._line(
            f"{indent}- !{yaml_name(item.component)}" + ("" if self._own(item) else " {}"),
            item.origin,
        )
        self._arguments(item, indent + _INDENT)

    def _arguments(self, spec: Spec[Any], indent: str) -> None:
        for key, value in self._own(spec).items():
            self.entry(key, value, spec.origins.get(key), indent)

    def _own(self, spec: Spec[Any]) -> dict[str, Any]:
        """Arguments without the shared facts that the top level states: each can be changed in one place."""
        schema = schema_of(spec.component)
        return {
            key: value
            for key, value in spec.arguments.items()
            if not (schema[key].shared and key in self._top_level and self._top_level[key] == value)
        }

    def _line(self, text: str, place: Any) -> None:
        if self._origins and not text.endswith(":"):
            text = f"{text:<50}  # {place or 'default'}"
        self.lines.append(text)


class _Dumper(Emitter, Serializer, SafeRepresenter, PlainWords):
    """PyYAML's writing half, quoting what `parse` would otherwise read as something else."""

    def __init__(self, stream: io.StringIO) -> None:
        Emitter.__init__(self, stream, width=10**9, allow_unicode=True)
        Serializer.__init__(self)
        SafeRepresenter.__init__(self, default_flow_style=True, sort_keys=False)
        PlainWords.__init__(self)

    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out where it is used."""
        return True


_Dumper.add_representer(tuple, lambda dumper, value: dumper.represent_list(list(value)))


def plain_text(value: Any) -> str:
    """A plain value as YAML on one line."""
    stream = io.StringIO()
    dumper = _Dumper(stream)
    dumper.open()
    dumper.represent(value)
    dumper.close()
    text = stream.getvalue()
    return text.strip().removesuffix("...").strip()
