"""Protects users from weight files: what Paddle writes is read exactly, and nothing in a file ever runs."""

from __future__ import annotations

import builtins
import collections
import os
import pickle
import struct
import subprocess
from pathlib import Path
from typing import Any, Callable

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from ppdet.utils import safe_pickle
from ppdet.utils.errors import WeightsError


class _Calls:
    """An object whose pickle calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.reduced


def _text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file that an attack would make."""
    return tmp_path / "executed"


# What is read.


def test_state_dict_of_paddle(tmp_path: Path) -> None:
    model = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3), paddle.nn.BatchNorm2D(4), paddle.nn.Linear(4, 2))
    path = tmp_path / "model.pdparams"
    paddle.save(model.state_dict(), str(path))
    read = safe_pickle.load(path)
    expected = {key: value.numpy() for key, value in model.state_dict().items()}
    assert read.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(read[key], value)
        assert read[key].dtype == value.dtype
        assert read[key].flags.writeable


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_protocols_of_paddle(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "model.pdparams"
    paddle.save({"a": paddle.arange(6.0).reshape([2, 3])}, str(path), protocol=protocol)
    np.testing.assert_array_equal(safe_pickle.load(path)["a"], np.arange(6.0).reshape(2, 3))


def test_optimizer_state_of_paddle(tmp_path: Path) -> None:
    layer = paddle.nn.Linear(2, 3)
    rate = paddle.optimizer.lr.PiecewiseDecay([1], [0.1, 0.01])
    momentum = paddle.optimizer.Momentum(rate, parameters=layer.parameters())
    layer(paddle.ones([1, 2])).sum().backward()
    momentum.step()
    state = momentum.state_dict()
    state["last_epoch"] = 7
    paddle.save(state, str(tmp_path / "model.pdopt"))
    read = safe_pickle.load(tmp_path / "model.pdopt")
    assert read["last_epoch"] == 7
    assert read["LR_Scheduler"] == {"last_epoch": 0, "last_lr": 0.1}
    velocity = next(key for key in read if key.endswith("w_0_velocity_0"))
    np.testing.assert_array_equal(read[velocity], state[velocity].numpy())


@pytest.mark.parametrize("protocol", [3, 4])
@settings(max_examples=60, deadline=None)
@given(
    array=st_numpy.arrays(
        st.sampled_from([np.float32, np.float64, np.float16, np.int64, np.uint8, bool, ">f4"]),
        st_numpy.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    ),
    fortran=st.booleans(),
)
def test_any_array_of_numbers(array: np.ndarray, fortran: bool, protocol: int) -> None:
    array = np.asfortranarray(array) if fortran else array
    read = safe_pickle.loads(pickle.dumps({"x": array}, protocol))["x"]
    np.testing.assert_array_equal(read, array)
    assert read.dtype == array.dtype.newbyteorder("=")
    assert read.shape == array.shape


def test_name_array_pairs_ordered_dicts_and_scalars() -> None:
    value = np.ones(2, np.float32)
    tree = {
        "pair": ("linear_0.w_0", value),
        "ordered": collections.OrderedDict(a=1, b=[2.5, None, True]),
        "scalar": np.float64(0.25),
        "big": 2**40,
        "text": "ä",
    }
    read = safe_pickle.loads(pickle.dumps(tree, 2))
    np.testing.assert_array_equal(read.pop("pair"), value)
    assert read == {"ordered": {"a": 1, "b": [2.5, None, True]}, "scalar": 0.25, "big": 2**40, "text": "ä"}


def test_python_2_strings_are_latin1() -> None:
    name = b"U\x01w"
    values = b"U\x04" + np.array([1.5], "<f4").tobytes()
    dtype = b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    state = b"(K\x01K\x01\x85" + dtype + b"\x89" + values + b"tb"
    read = safe_pickle.loads(b"\x80\x02}" + name + array + state + b"s.")
    np.testing.assert_array_equal(read["w"], np.array([1.5], np.float32))


def test_bookkeeping_is_undone() -> None:
    whole = np.arange(10, dtype=np.float32)
    tree = {
        "w@@.0": whole[:6],
        "w@@.1": whole[6:],
        "b": np.zeros(1, np.float32),
        "UnpackBigParamInfor@@": {"w": {"OriginShape": (2, 5), "slices": ["w@@.0", "w@@.1"]}},
        "StructuredToParameterName@@": {"w": "linear_0.w_0"},
    }
    read = safe_pickle.loads(pickle.dumps(tree, 2))
    assert read.keys() == {"w", "b"}
    np.testing.assert_array_equal(read["w"], whole.reshape(2, 5))


def test_parameter_names_are_kept_on_request() -> None:
    names = {"w": "linear_0.w_0"}
    data = pickle.dumps({"w": np.zeros(1, np.float32), "StructuredToParameterName@@": names}, 4)
    assert safe_pickle.loads(data, keep_names=True)["StructuredToParameterName@@"] == names
    for wrong in (1, {"w": 1}, {1: "w"}):
        data = pickle.dumps({"StructuredToParameterName@@": wrong}, 4)
        with pytest.raises(WeightsError, match="StructuredToParameterName@@ is not a dict of strings"):
            safe_pickle.loads(data, keep_names=True)


@pytest.mark.parametrize(
    "info",
    [
        1,
        {"w": 1},
        {"w": {"OriginShape": (2, 5), "slices": ["missing"]}},
        {"w": {"OriginShape": (2, 6), "slices": ["w@@.0"]}},
        {"w": {"OriginShape": (2, -5), "slices": ["w@@.0"]}},
        {"w": {"OriginShape": (), "slices": []}},
    ],
)
def test_wrong_slices_are_refused(info: Any) -> None:
    tree = {"w@@.0": np.arange(10.0), "UnpackBigParamInfor@@": info}
    with pytest.raises(WeightsError, match="refused"):
        safe_pickle.loads(pickle.dumps(tree, 4))


# What is refused, by name.


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch {canary}",), r"(posix|nt)\.system"),
        (builtins.eval, ("open({canary!r}, 'w')",), r"(builtins|__builtin__)\.eval"),
        (builtins.exec, ("open({canary!r}, 'w')",), r"(builtins|__builtin__)\.exec"),
        (subprocess.Popen, (["touch", "{canary}"],), r"(subprocess|commands)\.Popen"),
        (getattr, (os, "system"), r"(builtins|__builtin__)\.getattr"),
        (np.load, ("x.npy",), r"numpy\.load"),
        (np.frombuffer, (b"1234",), r"numpy\..*frombuffer"),
    ],
)
def test_calls_are_refused_by_name(
    canary: Path, function: Callable[..., Any], arguments: tuple[Any, ...], name: str, protocol: int
) -> None:
    filled = tuple(
        a.format(canary=str(canary))
        if isinstance(a, str)
        else [part.format(canary=str(canary)) for part in a]
        if isinstance(a, list)
        else "os"  # a module cannot be pickled; the name of the function is what counts
        if a is os
        else a
        for a in arguments
    )
    data = pickle.dumps({"x": _Calls(function, *filled)}, protocol)
    with pytest.raises(WeightsError, match=f"refused: it names {name}"):
        safe_pickle.loads(data)
    assert not canary.exists()


def test_nested_reduce_is_refused(canary: Path) -> None:
    inner = _Calls(os.system, f"touch {canary}")
    outer = {"w": [{"deep": (1, [_Calls(tuple, [inner])])}]}
    with pytest.raises(WeightsError, match="system"):
        safe_pickle.loads(pickle.dumps(outer, 4))
    assert not canary.exists()


SYSTEM = b"cposix\nsystem\n"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (SYSTEM + _text("true") + b"\x85R.", r"posix\.system"),
        (_text("posix") + _text("system") + b"\x93.", r"posix\.system"),
        (b"(" + _text("true") + b"iposix\nsystem\n.", r"posix\.system \(INST\)"),
        (b"(" + _text("a") + b"o.", "OBJ"),
        (b"cbuiltins\ntuple\n)\x81.", "NEWOBJ"),
        (b"cbuiltins\ntuple\n)}\x92.", "NEWOBJ_EX"),
        (b"Psomething\n.", "persistent id, 'something'"),
        (_text("id") + b"Q.", "persistent id"),
        (b"\x82\x01.", "EXT1"),
        (b"\x83\x01\x00.", "EXT2"),
        (b"\x84\x01\x00\x00\x00.", "EXT4"),
        (b"cnumpy\nndarray\n)R.", r"call numpy\.ndarray"),
        # setattr on what is admitted: the function, the class, a dict
        (b"c_codecs\nencode\n}" + _text("__defaults__") + b"Nsb.", "set attributes of a Name"),
        (b"ccollections\nOrderedDict\n}b.", "set attributes of a Name"),
        (b"}}b.", "set attributes of a dict"),
        # a getattr chain through a dotted name
        (_text("builtins") + _text("tuple.__class__.__base__") + b"\x93.", r"tuple\.__class__\.__base__"),
        (_text("numpy") + _text("ndarray.__reduce__") + b"\x93.", r"ndarray\.__reduce__"),
        # an admitted name where it does something else
        (b"c_codecs\nencode\n" + _text("x") + _text("rot13") + b"\x86R.", "rot13"),
        (b"c_codecs\nencode\n" + _text("x") + b"\x85R.", "latin1"),
        (b"cnumpy\ndtype\n" + _text("O8") + b"K\x00K\x01\x87R.", "Python objects"),
        (b"cnumpy\ndtype\n" + _text("V8") + b"K\x00K\x01\x87R.", "not a plain number"),
        (b"cnumpy\ndtype\n" + _text("f4,O") + b"K\x00K\x01\x87R.", "not a plain number"),
        (b"cnumpy.core.multiarray\n_reconstruct\nccollections\nOrderedDict\nK\x00\x85C\x01b\x87R.", "array"),
        (b"ccollections\nOrderedDict\n]K\x01a\x85R.", "pairs"),
        (b"cbuiltins\ntuple\nK\x01\x85R.", "sequence"),
        (b"K\x05)R.", "call a int"),
        # memo tricks
        (b"h\x07.", "memo entry 7"),
        (b"j\xff\xff\xff\xff.", "memo entry 4294967295"),
        (b"q\x00.", "nothing to remember"),
        # malformed
        (b"(.", "nothing on the stack"),
        (b"0.", "nothing on the stack"),
        (b"t.", "no mark"),
        (b"]K\x01s.", "no dict|nothing"),
        (b"}(K\x01u.", "without a value"),
        (b"}K\x01K\x02s.", "keys must be strings"),
        (b"K\x01.", "not a dict"),
        (b"N", "cut short"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", "cut short"),
        (b"\x96\xff\xff\xff\xff\xff\xff\xff\x7f.", "BYTEARRAY8"),
        (b"T\xff\xff\xff\xff.", "cut short"),
        (b"X\x01\x00\x00\x00\xff.", "not UTF-8"),
        (b"\x80\x01.", "protocol 1"),
        (b"\xff.", "no pickle instruction"),
        (b"c" + b"a" * 300 + b"\n", "256 bytes"),
    ],
)
def test_instructions_are_refused(body: bytes, says: str) -> None:
    with pytest.raises(WeightsError, match=says):
        safe_pickle.loads(b"\x80\x02" + body)


def test_memo_cannot_rename_what_was_checked(canary: Path) -> None:
    """A name checked once and then overwritten in the memo is not called under the checked name."""
    body = b"cbuiltins\ntuple\nq\x000" + _text("posix") + b"q\x000h\x00" + _text("system") + b"\x93q\x00"
    with pytest.raises(WeightsError, match=r"posix\.system"):
        safe_pickle.loads(b"\x80\x02" + body + _text(f"touch {canary}") + b"\x85R.")
    assert not canary.exists()


@pytest.mark.parametrize("value", [[], None, 3, {1: np.zeros(2)}, {("a",): 1}])
def test_only_dicts_with_string_keys(value: Any) -> None:
    with pytest.raises(WeightsError, match="refused"):
        safe_pickle.loads(pickle.dumps(value, 4))


def test_object_arrays_are_refused() -> None:
    with pytest.raises(WeightsError, match="Python objects"):
        safe_pickle.loads(pickle.dumps({"x": np.array([{}, []], dtype=object)}, 4))


def test_structured_arrays_are_refused() -> None:
    with pytest.raises(WeightsError, match="not a plain number"):
        safe_pickle.loads(pickle.dumps({"x": np.zeros(2, [("a", "f4")])}, 4))


# Bombs.


def _array_of(shape: bytes, data: bytes) -> bytes:
    dtype = b"cnumpy\ndtype\n" + _text("f4") + b"K\x00K\x01\x87R"
    start = (
        b"\x80\x02}"
        + _text("w")
        + b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    )
    return start + b"(K\x01" + shape + dtype + b"\x89" + data + b"tbs."


@pytest.mark.parametrize(
    "shape",
    [
        b"J\xff\xff\xff\x7f\x85",
        b"J\xff\xff\xff\xff\x85",
        b"\x8a\x09" + b"\xff" * 8 + b"\x00\x85",
        b"N",
        b"N\x85",
    ],
)
def test_shapes_that_do_not_fit_the_data(shape: bytes) -> None:
    with pytest.raises(WeightsError, match="array"):
        safe_pickle.loads(_array_of(shape, b"C\x04\x00\x00\x80?"))


def test_control_of_the_array_above() -> None:
    read = safe_pickle.loads(_array_of(b"K\x01\x85", b"C\x04\x00\x00\x80?"))
    np.testing.assert_array_equal(read["w"], np.array([1], np.float32))


def test_one_text_encoded_many_times() -> None:
    text = _text("x" * 50_000) + b"q\x00"
    again = b"c_codecs\nencode\nh\x00" + _text("latin1") + b"\x86R0"
    with pytest.raises(WeightsError, match="more bytes than the file has"):
        safe_pickle.loads(b"\x80\x02" + text + again * 100 + b".")


def test_containers_within_themselves() -> None:
    with pytest.raises(WeightsError, match="nested deeper"):
        safe_pickle.loads(b"\x80\x02}" + _text("a") + b"]q\x00h\x00as.")


def test_many_references_to_many_references() -> None:
    level = b"]" + b"K\x00a" * 20 + b"q\x000"
    for i in range(6):
        level += b"](" + bytes([ord("h"), i]) * 20 + b"e" + b"q" + bytes([i + 1]) + b"0"
    with pytest.raises(WeightsError, match="entries"):
        safe_pickle.loads(b"\x80\x02" + level + b"}" + _text("a") + b"h\x06s.")


def test_deep_tuples_as_a_key_do_not_end_the_process() -> None:
    deep = b")" + b"\x85" * 1_000_000
    with pytest.raises(WeightsError, match="key of type tuple"):
        safe_pickle.loads(b"\x80\x02}" + deep + b"K\x01s.")


def test_deep_tuples_in_an_error_do_not_end_the_process() -> None:
    deep = b")" + b"\x85" * 100_000
    with pytest.raises(WeightsError, match="latin1"):
        safe_pickle.loads(b"\x80\x02c_codecs\nencode\n" + _text("x") + deep + b"\x86R.")


def test_file_size_is_limited(tmp_path: Path) -> None:
    path = tmp_path / "big.pdparams"
    path.write_bytes(pickle.dumps({"a": np.zeros(100)}, 4))
    with pytest.raises(WeightsError, match="limit of 100"):
        safe_pickle.load(path, max_bytes=100)


# Other files.


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"PK\x03\x04rest", "zip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs"),
        (b"(dp0\n.", "protocol 2"),
    ],
)
def test_other_files_are_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "weights.pdparams"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=says) as caught:
        safe_pickle.load(path)
    assert str(path) in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"nothing\.pdparams: cannot be read"):
        safe_pickle.load(tmp_path / "nothing.pdparams")
