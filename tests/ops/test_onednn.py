"""Protects convolutions by oneDNN: values and gradients of Paddle in any geometry, order and thread."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any, Optional

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppdet.modeling.layers.conv import Conv2D
from ppdet.ops import onednn, onednn_library

pytestmark = pytest.mark.skipif(onednn_library.the_library() is None, reason="this Paddle brings no oneDNN 3")


@pytest.fixture(autouse=True, scope="module")
def switched_on() -> Iterator[None]:
    with onednn.convolutions_by("onednn"):
        yield


ONE = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}


def results(
    by_onednn: bool, image: Any, weight: Any, bias: Optional[Any], geometry: dict[str, Any]
) -> list[np.ndarray]:
    """The convolution and the gradients of the sum of its squares."""
    given_ = [paddle.to_tensor(value, stop_gradient=False) for value in (image, weight)]
    given_ += [] if bias is None else [paddle.to_tensor(bias, stop_gradient=False)]
    x, w, b = (*given_, None)[:3]
    if by_onednn:
        y = onednn.conv2d(x, w, b, **geometry)
    else:
        y = paddle.nn.functional.conv2d(x, w, b, **geometry)
    (y * y).sum().backward()
    return [y.numpy(), *(tensor.grad.numpy() for tensor in given_)]


def assert_equal(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    """Equal to rounding, relative to the largest value: sums of some hundred float32 products."""
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=3e-6 * max(1.0, float(np.abs(theirs).max())))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_values_and_gradients_are_those_of_paddle(data: st.DataObject) -> None:
    def draw(least: int, most: int) -> int:
        return data.draw(st.integers(least, most))

    groups = data.draw(st.sampled_from([1, 1, 2, 5]))
    kernel = (draw(1, 5), draw(1, 5))
    dilation = (draw(1, 2), draw(1, 2))
    size = [draw(step * (length - 1) + 1, 14) for step, length in zip(dilation, kernel)]
    geometry = {
        "stride": (draw(1, 3), draw(1, 3)),
        "padding": (draw(0, 3), draw(0, 3)),
        "dilation": dilation,
        "groups": groups,
    }
    rng = np.random.default_rng(draw(0, 2**32 - 1))
    channels, filters = groups * draw(1, 9), groups * draw(1, 9)
    image = rng.normal(size=(draw(1, 3), channels, *size)).astype("float32")
    weight = rng.normal(size=(filters, channels // groups, *kernel)).astype("float32")
    bias = rng.normal(size=filters).astype("float32") if data.draw(st.booleans()) else None
    pair = [results(by, image, weight, bias, geometry) for by in (True, False)]
    assert_equal(*pair)


def test_sizes_that_grow_and_shrink_share_memory_without_harm() -> None:
    """Memory in oneDNN's layout is shared by all convolutions; small ones run again after it grew."""
    rng = np.random.default_rng(0)
    sides = (4, 40, 8, 33, 4)
    cases = [
        (rng.normal(size=(2, 17, side, side)), rng.normal(size=(9, 17, 3, 3))) for side in (*sides, *sides)
    ]
    for image, weight in cases:
        pair = [
            results(by, image.astype("float32"), weight.astype("float32"), None, ONE) for by in (True, False)
        ]
        assert_equal(*pair)


@pytest.mark.parametrize("wanted", list(itertools.product([False, True], repeat=3)))
def test_only_gradients_that_are_wanted_are_there(wanted: tuple[bool, bool, bool]) -> None:
    rng = np.random.default_rng(0)
    shapes = ([2, 3, 5, 5], [4, 3, 3, 3], [4])
    values = [rng.normal(size=shape).astype("float32") for shape in shapes]
    given_ = [paddle.to_tensor(value, stop_gradient=not want) for value, want in zip(values, wanted)]
    y = onednn.conv2d(*given_, **ONE)
    assert y.stop_gradient is not any(wanted)
    if any(wanted):
        (y * y).sum().backward()
    assert tuple(tensor.grad is not None for tensor in given_) == wanted
    expected = results(False, *values, ONE)
    assert_equal(
        [y.numpy(), *(tensor.grad.numpy() for tensor in given_ if tensor.grad is not None)],
        [expected[0], *(gradient for gradient, want in zip(expected[1:], wanted) if want)],
    )


def test_two_runs_give_the_same_bits() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, 16, 30, 31)).astype("float32")
    weight = rng.normal(size=(24, 16, 3, 3)).astype("float32")
    first, second = (results(True, image, weight, None, ONE) for _ in range(2))
    assert all(np.array_equal(one, other) for one, other in zip(first, second))


def test_threads_of_a_service_do_not_disturb_each_other() -> None:
    layers = [Conv2D(3 + index, 8, 3, padding=1) for index in range(4)]
    images = [paddle.randn([1, 3 + index, 20 + index, 20]) for index in range(4)]
    with paddle.no_grad():
        expected = [layer(image).numpy() for layer, image in zip(layers, images)]
    wrong: list[int] = []

    def repeat(index: int) -> None:
        with paddle.no_grad():
            for _ in range(50):
                if not np.array_equal(layers[index](images[index]).numpy(), expected[index]):
                    wrong.append(index)

    threads = [threading.Thread(target=repeat, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_layer_leaves_to_paddle_what_onednn_does_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    by_onednn: list[tuple[int, ...]] = []
    convolve = onednn.conv2d

    def noted(x: Any, *args: Any, **kwargs: Any) -> Any:
        by_onednn.append(tuple(x.shape))
        return convolve(x, *args, **kwargs)

    monkeypatch.setattr(onednn, "conv2d", noted)
    three, one, uneven = Conv2D(3, 4, 3, padding=1), Conv2D(3, 4, 1), Conv2D(3, 4, 2, padding=[0, 1, 0, 1])
    assert three(paddle.ones([1, 3, 6, 6])).shape == [1, 4, 6, 6]
    assert by_onednn == [(1, 3, 6, 6)]
    assert one(paddle.ones([1, 3, 6, 6])).shape == [1, 4, 6, 6]
    assert uneven(paddle.ones([1, 3, 6, 6])).shape == [1, 4, 6, 6]
    assert three(paddle.ones([0, 3, 6, 6])).shape == [0, 4, 6, 6]
    three.to(dtype="float64")
    three(paddle.ones([1, 3, 6, 6], dtype="float64"))
    static = paddle.jit.to_static(
        Conv2D(3, 4, 3), input_spec=[paddle.static.InputSpec([1, 3, 6, 6])], full_graph=True
    )
    assert "conv2d" in str(static.forward.main_program)
    assert by_onednn == [(1, 3, 6, 6)]


def test_parameters_are_named_as_those_of_paddles_layer() -> None:
    ours, theirs = Conv2D(2, 3, 3), paddle.nn.Conv2D(2, 3, 3)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [p.name.rstrip("0123456789.wb_") for p in ours.parameters()] == [
        p.name.rstrip("0123456789.wb_") for p in theirs.parameters()
    ]


def test_it_is_off_unless_switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert onednn.available()
    with onednn.convolutions_by("paddle"):
        assert not onednn.available()
    assert onednn.available()
    monkeypatch.delenv(onednn.SWITCH)
    assert not onednn.available()
