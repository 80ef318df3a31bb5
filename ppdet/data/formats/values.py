"""Values of annotation files as tools write them: numbers as text, flags as words, ids of any kind."""

from __future__ import annotations

import math
from typing import Any, Optional, Union

#: What identifies an image or a category in a file.
Id = Union[int, str]

#: Coordinates beyond this many pixels are no coordinates; half of them overflow what draws masks.
FARTHEST = 1e6
_TRUE, _FALSE = {"true", "yes", "t", "y"}, {"false", "no", "f", "n", ""}
#: Digits of the longest number that is taken for an id; Python refuses to read far longer ones.
_ID_DIGITS = 40
#: Characters of a value that a message shows.
_MOST_SHOWN = 80
#: Ids that fit a 64-bit integer.
_INT64 = range(-(2**63), 2**63)


def number(value: Any) -> Optional[float]:
    """A finite number, also one written as text; None for anything else."""
    if type(value) is float and math.isfinite(value):  # most of a million values are
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        result = float(value)
    except (ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def flag(value: Any) -> Optional[bool]:
    """A yes or no: a truth value, a number, or either as text. Null is no; None for anything else."""
    if value is None:
        return False
    if isinstance(value, bool):
        return value
    parsed = number(value)
    if parsed is not None:
        return parsed != 0
    word = value.strip().lower() if isinstance(value, str) else None
    return True if word in _TRUE else False if word in _FALSE else None


def identifier(value: Any) -> Optional[Id]:
    """An id as one key: 7, 7.0 and "7" are the same, other text stays text; None for what is no id."""
    if type(value) is int:  # nearly always
        return value
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if not isinstance(value, str) or not value.strip() or not is_text(value):
        return None
    text = value.strip()
    digits = text[1:] if text.startswith("-") else text
    canonical = digits.isascii() and digits.isdigit() and len(digits) <= _ID_DIGITS
    return int(text) if canonical and str(int(text)) == text else text


def fits_int64(value: Id) -> bool:
    """Whether an id is an integer that 64 bits hold."""
    return isinstance(value, int) and value in _INT64


def side(value: Any) -> Optional[int]:
    """Width or height of an image in pixels; 0 if the file leaves it out (missing, null, 0, -1).

    Returns:
        None for what is no length.
    """
    if value is None or value == "":
        return 0
    parsed = number(value)
    if parsed is None or parsed >= 2**31:
        return None
    return max(0, round(parsed))


def is_text(value: Any) -> bool:
    """Whether a value is text that can be encoded: no half of a surrogate pair, no null byte."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def shown(value: Any) -> str:
    """A value as messages show it: cut off, and with letters that any terminal has where text is broken."""
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "..."
