"""Reads large JSON files a piece at a time, so that a list of a million rows is never whole in memory."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from ppdet.data.annotation_files import encoding_of, open_bytes, read_json
from ppdet.utils.errors import DataError

T = TypeVar("T")

#: Bytes that are read at once.
_PIECE = 4 << 20
_BLANKS = frozenset(" \t\r\n")
#: What follows a value.
_ENDS = _BLANKS | frozenset(":,]}")


def stream_json(path: Path) -> Iterator[tuple[str, Any]]:
    """The members of a JSON file whose top level is an object, in its order.

    A member that is a list comes as an iterator over its elements, which ends when the next member is taken.
    Everything else comes as `json.loads` gives it.

    Raises:
        DataError: If the file is missing, empty, no JSON, or something else than an object; or if it has a
            member twice.
    """
    with open_bytes(path) as file:
        text = _Text(file, encoding_of(file.peek(4)))
        seen = set()
        for name, value in _explained(path, _members(text)):
            if name in seen:
                raise DataError(f'{path}: "{name}" occurs twice; remove one of them')
            seen.add(name)
            yield name, _explained(path, value) if isinstance(value, Iterator) else value


def _explained(path: Path, items: Iterator[T]) -> Iterator[T]:
    """The items; or an error that says what is wrong with the file and where, which a piece cannot tell."""
    try:
        yield from items
    except (ValueError, RecursionError):  # also what is no text
        read_json(path)
        raise


def _members(text: _Text) -> Iterator[tuple[str, Any]]:
    text.take("{")
    if text.peek() == "}":
        text.take("}")
    else:
        while True:
            name = text.value()
            if not isinstance(name, str):
                raise ValueError("expected the name of a member")
            text.take(":")
            if text.peek() == "[":
                elements = _elements(text)
                yield name, elements
                for _ in elements:  # what the receiver left
                    pass
            else:
                yield name, text.value()
            if text.take(",}") == "}":
                break
    if text.peek():
        raise ValueError("text after the end of the object")


def _elements(text: _Text) -> Iterator[Any]:
    text.take("[")
    if text.peek() == "]":
        text.take("]")
        return
    while True:
        yield text.value()
        if text.take(",]") == "]":
            return


class _Text:
    """The piece of a file that is being read, and the place in it."""

    def __init__(self, file: Any, encoding: str) -> None:
        self._file = file
        self._decode = codecs.getincrementaldecoder(encoding)().decode
        self._scan = json.JSONDecoder().raw_decode
        self._text = ""
        self._place = 0
        self._ended = False

    def peek(self) -> str:
        """The next character that is no blank; empty at the end of the file."""
        while True:
            while self._text[self._place : self._place + 1] in _BLANKS:
                self._place += 1
            if self._place < len(self._text) or self._ended:
                return self._text[self._place : self._place + 1]
            self._read(_PIECE)

    def take(self, choices: str) -> str:
        """Pass the next character, which is one of `choices`.

        Raises:
            ValueError: If it is not.
        """
        found = self.peek()
        if not found or found not in choices:
            raise ValueError(f"expected one of {choices}")
        self._place += 1
        return found

    def value(self) -> Any:
        """Pass the next value and return it.

        Raises:
            ValueError: If there is none.
        """
        self.peek()
        size = _PIECE
        while True:
            try:
                value, end = self._scan(self._text, self._place)
            except ValueError:
                if self._ended:
                    raise
            else:
                if self._text[end : end + 1] in _ENDS or self._ended:  # else a number may go on
                    self._place = end
                    return value
            self._read(size)
            size *= 2  # a value of many pieces is scanned a few times, not once for each piece

    def _read(self, size: int) -> None:
        data = self._file.read(size)
        self._ended = len(data) < size
        self._text = self._text[self._place :] + self._decode(data, self._ended)
        self._place = 0
