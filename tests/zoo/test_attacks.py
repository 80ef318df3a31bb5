"""Protects both doors through which a stranger's file enters: loading weights, and resuming a training."""

from __future__ import annotations

import builtins
import os
import pickle
from pathlib import Path
from typing import Any, Callable

import numpy as np
import paddle
import pytest

from ppdet import load_weights
from ppdet.engine.checkpoint import RunFolder
from ppdet.utils.errors import UserError


class _Calls:
    """An object whose pickle calls a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.reduced


def _attacks(canary: Path) -> dict[str, tuple[bytes, str]]:
    """Files that would make `canary`, and the name each is refused by."""
    array = np.zeros(2, np.float32)
    touch = f"touch {canary}"
    text = b"X" + len(touch).to_bytes(4, "little") + touch.encode()
    nested = {"w": array, "x": [(_Calls(tuple, [_Calls(os.system, touch)]),)]}
    return {
        "os.system": (pickle.dumps({"x": _Calls(os.system, touch), "w": array}, 2), r"posix\.system"),
        "eval": (
            pickle.dumps({"x": _Calls(builtins.eval, f"open({str(canary)!r}, 'w')")}, 4),
            r"builtins\.eval",
        ),
        "nested": (pickle.dumps(nested, 4), r"posix\.system"),
        "getattr": (pickle.dumps({"x": _Calls(getattr, "os", "system")}, 4), r"builtins\.getattr"),
        "INST": (b"\x80\x02}(X\x01\x00\x00\x00x(" + text + b"iposix\nsystem\nu.", r"posix\.system"),
        "persistent id": (b"\x80\x02Pposix.system\n.", "persistent id"),
        "memo": (
            b"\x80\x02cbuiltins\ntuple\nq\x000cposix\nsystem\nq\x00" + text + b"\x85R.",
            r"posix\.system",
        ),
    }


NAMES = tuple(_attacks(Path("x")))


@pytest.mark.parametrize("name", NAMES)
def test_weights(tmp_path: Path, name: str) -> None:
    canary = tmp_path / "executed"
    data, says = _attacks(canary)[name]
    path = tmp_path / "model.pdparams"
    path.write_bytes(data)
    with pytest.raises(UserError, match=says) as caught:
        load_weights(paddle.nn.Linear(2, 2), path)
    assert str(path) in str(caught.value)
    assert not canary.exists()


@pytest.mark.parametrize("suffix", [".pdparams", ".pdopt"])
@pytest.mark.parametrize("name", NAMES)
def test_resume(tmp_path: Path, name: str, suffix: str) -> None:
    canary = tmp_path / "executed"
    data, says = _attacks(canary)[name]
    for other in (".pdparams", ".pdopt"):
        harmless = pickle.dumps({"w": np.zeros(2, np.float32)}, 4)
        (tmp_path / f"model{other}").write_bytes(data if other == suffix else harmless)
    with pytest.raises(UserError, match=says):
        RunFolder(tmp_path).load(str(tmp_path / "model"))
    assert not canary.exists()


def test_the_attacks_are_real(tmp_path: Path) -> None:
    """Python's own unpickler runs them; the canary tells."""
    canary = tmp_path / "executed"
    for name in ("os.system", "eval", "nested", "INST", "memo"):
        pickle.loads(_attacks(canary)[name][0])
        assert canary.exists(), name
        canary.unlink()
