"""Protects the weight reader from damage: whatever the bytes, it reads plain values or refuses."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppdet.utils import safe_pickle
from ppdet.utils.errors import WeightsError
from ppdet.utils.pickle_reader import Interpreter
from ppdet.utils.pickle_values import RefusedError


def _valid() -> list[bytes]:
    tree = {"a": np.arange(6.0, dtype=np.float32).reshape(2, 3), "n": {"e": 3}, "p": ("x", np.ones(2))}
    return [pickle.dumps(tree, protocol) for protocol in (2, 3, 4)]


VALID = _valid()


@settings(max_examples=400, deadline=None)
@given(
    data=st.sampled_from(VALID),
    edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.integers(0, 10_000),
)
def test_damaged_files_are_read_or_refused(data: bytes, edits: list[tuple[int, int]], cut: int) -> None:
    damaged = bytearray(data)
    for place, value in edits:
        damaged[place % len(damaged)] = value
    if cut < len(damaged) // 4:
        del damaged[cut:]
    _read_or_refuse(bytes(damaged))


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from([op.to_bytes(1, "big") for op in range(256)]), max_size=60))
def test_random_programs_are_read_or_refused(instructions: list[bytes]) -> None:
    _read_or_refuse(b"\x80\x04" + b"".join(instructions))


def _read_or_refuse(data: bytes) -> None:
    try:
        read = safe_pickle.loads(data)
    except WeightsError:
        return
    _only_plain(read)


def _only_plain(value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            assert isinstance(key, (str, int))
            _only_plain(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _only_plain(item)
    elif isinstance(value, np.ndarray):
        assert not value.dtype.hasobject
    else:
        assert value is None or type(value) in (int, float, bool, str, bytes)


def test_agrees_with_python_on_valid_files() -> None:
    for data in VALID:
        ours, theirs = safe_pickle.loads(data), pickle.load(io.BytesIO(data))
        np.testing.assert_array_equal(ours["a"], theirs["a"])
        np.testing.assert_array_equal(ours["p"], theirs["p"][1])
        assert ours["n"] == theirs["n"]


def test_interpreter_never_resolves_a_name() -> None:
    """The names are recognised, not imported: even an admitted one stays a name."""
    with pytest.raises(RefusedError, match=r"call numpy\.ndarray"):
        Interpreter(b"\x80\x02cnumpy\nndarray\n)R.").run()
