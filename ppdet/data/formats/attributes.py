"""What annotations say of an object beside its class and place: flags, a score, attributes.

In the row of a COCO annotation, flags (``iscrowd``, ``difficult``, ``truncated``, ``occluded``) are 1 where
set, ``score`` is a number, and ``attributes`` maps names to text, numbers, or true and false. Formats that
have attributes only hold the others as attributes of these names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Union

from ppdet.data.formats.values import flag, number

#: Keys of an annotation that are a yes or no.
FLAGS = ("iscrowd", "difficult", "truncated", "occluded")
#: What other tools call them in attributes.
_OTHER_NAMES = {"is_crowd": "iscrowd", "crowd": "iscrowd"}

Value = Union[bool, float, int, str]


def typed(text: str) -> Value:
    """The value that a text stands for: true, false, a number, or the text itself."""
    word = text.strip()
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    value = number(word)
    if value is None or "_" in word:
        return text
    return int(value) if value.is_integer() and word.lstrip("-").isdigit() else value


def as_text(value: Value) -> str:
    """The text that `typed` reads as a value."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def with_attributes(extra: Mapping[str, Any], attributes: Mapping[str, Value]) -> dict[str, Any]:
    """`Labelled.extra` with attributes; those that are flags or a score by their name become such."""
    result, others = dict(extra), {}
    for name, value in attributes.items():
        plain = _OTHER_NAMES.get(name.lower(), name.lower())
        if plain in FLAGS and flag(value) is not None:
            if flag(value):
                result[plain] = 1
        elif plain == "score" and number(value) is not None:
            result["score"] = number(value)
        else:
            others[name] = value
    if others:
        result["attributes"] = {**result.get("attributes", {}), **others}
    return result


def attributes_of(row: Mapping[str, Any], leave_out: tuple[str, ...] = ()) -> dict[str, Value]:
    """Everything that an annotation says of its object, as attributes; without the flags of `leave_out`."""
    attributes: dict[str, Value] = {
        name: True for name in FLAGS if name not in leave_out and flag(row.get(name))
    }
    score = number(row.get("score"))
    if score is not None and "score" not in leave_out:
        attributes["score"] = score
    written = row.get("attributes")
    if isinstance(written, Mapping):
        attributes.update((str(name), value) for name, value in written.items())
    return attributes
