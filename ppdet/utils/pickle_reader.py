"""An interpreter for the part of pickle that Paddle's files use. See `ppdet.utils.safe_pickle`."""

from __future__ import annotations

import struct
from pickletools import opcodes
from typing import Any, Callable

from ppdet.utils.pickle_values import DTYPES, Array, Dtype, Name, RefusedError, brief, latin1, to_array

#: Every global that a Paddle file may name.
ALLOWED = frozenset(
    {
        "numpy.ndarray",
        "numpy.dtype",
        "numpy.core.multiarray._reconstruct",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray._reconstruct",
        "numpy._core.multiarray.scalar",
        "_codecs.encode",
        "collections.OrderedDict",
        "builtins.tuple",
        "__builtin__.tuple",
    }
)

#: Most instructions in one file; a state dict has some ten thousand.
MAX_INSTRUCTIONS = 16_000_000

_MARK = object()
_OPCODES = {op.code: op.name for op in opcodes}


class Interpreter:
    """A stack machine over one pickle, protocols 2 to 5."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._at = 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._items = 0
        self._encoded = 0

    def run(self) -> Any:
        """Interpret the whole file and return what it builds."""
        if self._data[:1] != b"\x80":
            raise RefusedError(
                f"it is {_looks_like(bytes(self._data[:512]))}, not a pickle of protocol 2 or later"
            )
        while True:
            op = chr(self._take(1)[0])
            if op == ".":
                break
            handler = _HANDLERS.get(op)
            if handler is None:
                raise RefusedError(self._describe_refused(op))
            handler(self)
            self._items += 1
            if self._items > MAX_INSTRUCTIONS:
                raise RefusedError(f"it has more than {MAX_INSTRUCTIONS} instructions")
        return self._pop()

    # Reading.

    def _take(self, count: int) -> memoryview:
        if count < 0 or count > len(self._data) - self._at:
            raise RefusedError(
                f"it is cut short: {count} bytes missing at offset {self._at} of {len(self._data)}"
            )
        part = self._data[self._at : self._at + count]
        self._at += count
        return part

    def _number(self, layout: str) -> int:
        number: int = struct.unpack(layout, self._take(struct.calcsize(layout)))[0]
        return number

    def _line(self) -> str:
        end = bytes(self._data[self._at : self._at + 256]).find(b"\n")
        if end < 0:
            raise RefusedError("a name of more than 256 bytes, or a file cut short")
        text = bytes(self._take(end + 1)[:-1])
        return text.decode("utf-8", "backslashreplace")

    def _describe_refused(self, op: str) -> str:
        if op not in _OPCODES:
            return f"byte {ord(op):#04x} at offset {self._at - 1} is no pickle instruction"
        name = _OPCODES[op]
        if op == "i":
            return f"it wants to call {self._line()}.{self._line()} ({name})"
        if op == "P":
            return f"it refers to a persistent id, {self._line()!r} ({name})"
        if op == "Q":
            return f"it refers to a persistent id ({name})"
        return f"the instruction {name} at offset {self._at - 1}, which no weight file needs"

    # The stack.

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            raise RefusedError(f"nothing on the stack at offset {self._at}")
        return self._stack.pop()

    def _pop_to_mark(self) -> list[Any]:
        for i in range(len(self._stack) - 1, -1, -1):
            if self._stack[i] is _MARK:
                items = self._stack[i + 1 :]
                del self._stack[i:]
                return items
        raise RefusedError(f"no mark on the stack at offset {self._at}")

    def _top(self, kind: type) -> Any:
        if not self._stack or not isinstance(self._stack[-1], kind):
            raise RefusedError(f"no {kind.__name__} on the stack at offset {self._at}")
        return self._stack[-1]

    # Instructions.

    def protocol(self) -> None:
        version = self._number("<B")
        if not 2 <= version <= 5:
            raise RefusedError(f"pickle protocol {version}; Paddle writes 2 to 4")

    def skip_frame(self) -> None:
        self._take(8)  # a length that helps readers of a stream

    def discard(self) -> None:
        self._pop()

    def discard_to_mark(self) -> None:
        self._pop_to_mark()

    def text(self, length: int) -> None:
        try:
            self.push(str(self._take(length), "utf-8", "surrogatepass"))
        except UnicodeDecodeError:
            raise RefusedError(f"text at offset {self._at} is not UTF-8") from None

    def string_of_python2(self, length: int) -> None:
        self.push(str(self._take(length), "latin1"))

    def long(self) -> None:
        self.push(int.from_bytes(self._take(self._number("<B")), "little", signed=True))

    def append(self) -> None:
        item = self._pop()
        self._top(list).append(item)

    def appends(self) -> None:
        items = self._pop_to_mark()
        self._top(list).extend(items)

    def set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._set(self._top(dict), [key, value])

    def set_items(self) -> None:
        items = self._pop_to_mark()
        self._set(self._top(dict), items)

    def _set(self, target: dict[Any, Any], items: list[Any]) -> None:
        if len(items) % 2:
            raise RefusedError("a dict entry without a value")
        for key, value in zip(items[::2], items[1::2]):
            # Nothing else is ever a key; hashing a tuple nested a million deep would end the process.
            if not isinstance(key, (str, int)):
                raise RefusedError(f"a dict key of type {type(key).__name__}")
            target[key] = value

    def tuple_of(self, count: int) -> None:
        items = [self._pop() for _ in range(count)]
        self.push(tuple(reversed(items)))

    def put(self, index: int) -> None:
        if not self._stack or self._stack[-1] is _MARK:
            raise RefusedError("nothing to remember")
        self._memo[index] = self._stack[-1]

    def get(self, index: int) -> None:
        if index not in self._memo:
            raise RefusedError(f"memo entry {index} was never written")
        self.push(self._memo[index])

    def name(self, module: Any, attribute: Any) -> None:
        if not isinstance(module, str) or not isinstance(attribute, str):
            raise RefusedError("a name that is not text")
        full = f"{module}.{attribute}"
        if full not in ALLOWED:
            raise RefusedError(f"it names {full[:200]}, which no weight file needs; nothing of it has run")
        self.push(Name(full))

    def stack_name(self) -> None:
        attribute, module = self._pop(), self._pop()
        self.name(module, attribute)

    def reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise RefusedError(f"it wants to call a {type(function).__name__}")
        make = _CALLS.get(function.text.rpartition(".")[2])
        if make is None:
            raise RefusedError(f"it wants to call {function.text}")
        self.push(make(self, arguments))

    def _make_reconstruct(self, arguments: tuple[Any, ...]) -> Array:
        if len(arguments) != 3 or arguments[0] != Name("numpy.ndarray"):
            raise RefusedError("_reconstruct of something that is not an array")
        return Array()

    def _make_scalar(self, arguments: tuple[Any, ...]) -> Any:
        if len(arguments) != 2 or not isinstance(arguments[0], Dtype):
            raise RefusedError("a scalar without a plain dtype")
        data = latin1(arguments[1]) if isinstance(arguments[1], str) else arguments[1]
        if not isinstance(data, (bytes, memoryview)):
            raise RefusedError("a scalar whose content is not raw bytes")
        return to_array(data, arguments[0].numpy(), (), fortran=False).item()

    def _make_dtype(self, arguments: tuple[Any, ...]) -> Dtype:
        code = arguments[0] if arguments else None
        if not isinstance(code, str) or code not in DTYPES:
            objects = isinstance(code, str) and code.startswith("O")
            what = "Python objects, not numbers" if objects else "not a plain number"
            raise RefusedError(f"an array of dtype {brief(code)} ({what})")
        return Dtype(code)

    def _make_encode(self, arguments: tuple[Any, ...]) -> bytes:
        if (
            len(arguments) != 2
            or not isinstance(arguments[0], str)
            or arguments[1] not in ("latin1", "latin-1")
        ):
            raise RefusedError(
                f"_codecs.encode to {brief(arguments[-1] if arguments else None)}; only latin1 is needed"
            )
        self._encoded += len(arguments[0])
        if self._encoded > len(self._data):  # one text, remembered and encoded again and again
            raise RefusedError("it unpacks to more bytes than the file has")
        return latin1(arguments[0])

    def _make_ordered_dict(self, arguments: tuple[Any, ...]) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        pairs = arguments[0] if arguments else []
        if len(arguments) > 1 or not isinstance(pairs, (list, tuple)):
            raise RefusedError("an OrderedDict made of something that is not a list of pairs")
        self._items += len(pairs)
        for pair in pairs:
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                raise RefusedError("an OrderedDict made of something that is not a list of pairs")
            self._set(made, list(pair))
        return made

    def _make_tuple(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(arguments) != 1 or not isinstance(arguments[0], (list, tuple)):
            raise RefusedError("a tuple made of something that is not a sequence")
        self._items += len(arguments[0])
        return tuple(arguments[0])

    def build(self) -> None:
        state = self._pop()
        target = self._stack[-1] if self._stack else None
        if not isinstance(target, (Dtype, Array)):
            raise RefusedError(f"it wants to set attributes of a {type(target).__name__}")
        target.build(state)


def _looks_like(head: bytes) -> str:
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page (a failed download?)"
    if head.startswith(b"PK\x03\x04"):
        return "a zip file (PyTorch's format?)"
    if head.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer (run git lfs pull)"
    return "empty" if not head else f"a file that starts with {head[:8]!r}"


_CALLS: dict[str, Callable[[Interpreter, tuple[Any, ...]], Any]] = {
    "_reconstruct": Interpreter._make_reconstruct,
    "scalar": Interpreter._make_scalar,
    "dtype": Interpreter._make_dtype,
    "encode": Interpreter._make_encode,
    "OrderedDict": Interpreter._make_ordered_dict,
    "tuple": Interpreter._make_tuple,
}

_HANDLERS: dict[str, Callable[[Interpreter], None]] = {
    "\x80": Interpreter.protocol,
    "\x95": Interpreter.skip_frame,
    "(": lambda m: m.push(_MARK),
    "0": Interpreter.discard,
    "1": Interpreter.discard_to_mark,
    "N": lambda m: m.push(None),
    "\x88": lambda m: m.push(True),
    "\x89": lambda m: m.push(False),
    "J": lambda m: m.push(m._number("<i")),
    "K": lambda m: m.push(m._number("<B")),
    "M": lambda m: m.push(m._number("<H")),
    "\x8a": Interpreter.long,
    "G": lambda m: m.push(m._number(">d")),
    "T": lambda m: m.string_of_python2(m._number("<i")),
    "U": lambda m: m.string_of_python2(m._number("<B")),
    "B": lambda m: m.push(m._take(m._number("<I"))),
    "C": lambda m: m.push(m._take(m._number("<B"))),
    "\x8e": lambda m: m.push(m._take(m._number("<Q"))),
    "X": lambda m: m.text(m._number("<I")),
    "\x8c": lambda m: m.text(m._number("<B")),
    "\x8d": lambda m: m.text(m._number("<Q")),
    "]": lambda m: m.push([]),
    "a": Interpreter.append,
    "e": Interpreter.appends,
    ")": lambda m: m.push(()),
    "t": lambda m: m.push(tuple(m._pop_to_mark())),
    "\x85": lambda m: m.tuple_of(1),
    "\x86": lambda m: m.tuple_of(2),
    "\x87": lambda m: m.tuple_of(3),
    "}": lambda m: m.push({}),
    "s": Interpreter.set_item,
    "u": Interpreter.set_items,
    "c": lambda m: m.name(m._line(), m._line()),
    "\x93": Interpreter.stack_name,
    "R": Interpreter.reduce,
    "b": Interpreter.build,
    "q": lambda m: m.put(m._number("<B")),
    "r": lambda m: m.put(m._number("<I")),
    "\x94": lambda m: m.put(len(m._memo)),
    "h": lambda m: m.get(m._number("<B")),
    "j": lambda m: m.get(m._number("<I")),
}
