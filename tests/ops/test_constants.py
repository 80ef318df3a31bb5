"""Protects that kept tensors are those of their key, and that traced graphs make their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import paddle
import pytest

from ppdet.ops.constants import Kept, constant


def test_constants_are_made_once_for_numbers_and_type() -> None:
    single, double = paddle.zeros([1]), paddle.zeros([1], dtype="float64")
    first = constant([10.0, 5.0], single)
    assert constant((10.0, 5.0), single) is first
    assert first.tolist() == [10.0, 5.0]
    other = constant([10.0, 5.0], double)
    assert other.dtype == paddle.float64
    assert constant([10.0, 6.0], single).tolist() == [10.0, 6.0]


def test_the_result_that_is_oldest_in_use_goes() -> None:
    kept: Kept[object] = Kept(2)
    first, second = kept.get(1, object), kept.get(2, object)
    assert kept.get(1, object) is first
    kept.get(3, object)
    assert kept.get(1, object) is first
    assert kept.get(2, object) is not second


def test_traced_graphs_hold_results_of_their_own() -> None:
    kept: Kept[paddle.Tensor] = Kept(2)

    def scaled(x: paddle.Tensor) -> paddle.Tensor:
        return x * kept.get("two", lambda: paddle.to_tensor([2.0]))

    static = paddle.jit.to_static(
        scaled, input_spec=[paddle.static.InputSpec([-1], "float32")], full_graph=True
    )
    assert static(paddle.ones([3])).tolist() == [2.0] * 3
    assert scaled(paddle.ones([3])).tolist() == [2.0] * 3
    assert static(paddle.ones([2])).tolist() == [2.0] * 2


def test_results_are_made_outside_of_mixed_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paddle casts on GPUs only, so what is asked of it is looked at."""
    within: list[bool] = []

    @contextmanager
    def auto_cast(enable: bool = True, **_: object) -> Iterator[None]:
        within.append(enable)
        yield
        within.pop()

    monkeypatch.setattr(paddle.amp, "auto_cast", auto_cast)
    kept: Kept[list[bool]] = Kept(2)
    with paddle.amp.auto_cast(level="O2"):
        assert kept.get("made", lambda: list(within)) == [True, False]
