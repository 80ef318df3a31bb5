"""Protects re-parameterisation: the one convolution of a RepVGG block computes what its branches do, copies
made for inference leave the trained form alone, and models without such blocks are not copied.
"""

from __future__ import annotations

import functools

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional

from ppdet.modeling.layers.repvgg import ConvBN, RepVGGBlock, activation_of
from ppdet.modeling.reparameterize import for_inference
from tests.support import load_golden

units = functools.lru_cache(maxsize=1)(lambda: load_golden("modern_units")[0])


def golden_block(*, use_alpha: bool = True) -> RepVGGBlock:
    block = RepVGGBlock(6, 6, act=functional.silu, use_alpha=use_alpha)
    prefix = "repvgg/param/"
    state = {k[len(prefix) :]: units()[k] for k in units().files if k.startswith(prefix)}
    missing, unexpected = block.set_state_dict({k: v for k, v in state.items() if use_alpha or k != "alpha"})
    assert (missing, unexpected) == ([], [])
    block.eval()
    return block


def test_branches_and_their_one_convolution_equal_the_golden() -> None:
    block, x = golden_block(), paddle.to_tensor(units()["repvgg/x"])
    expected = units()["repvgg/out"]
    limit = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(block(x).numpy(), expected, rtol=0, atol=limit)
    np.testing.assert_allclose(block.reparameterized()(x).numpy(), expected, rtol=0, atol=limit)
    kernel, bias = block.kernel_and_bias()
    for ours, key in ((kernel, "repvgg/kernel"), (bias, "repvgg/bias")):
        np.testing.assert_allclose(ours.numpy(), units()[key], rtol=0, atol=1e-5 * np.abs(units()[key]).max())


def test_an_alpha_of_zero_switches_the_branch_off() -> None:
    """The reference takes 0 for 1 here, which is a slip of it: the golden equals our block without alpha."""
    x = paddle.to_tensor(units()["repvgg/x"])
    expected = units()["repvgg/out_alpha_zero"]
    np.testing.assert_allclose(golden_block(use_alpha=False)(x).numpy(), expected, rtol=0, atol=1e-5)
    block = golden_block()
    assert block.alpha is not None
    block.alpha.set_value(paddle.zeros([1]))
    np.testing.assert_allclose(block(x).numpy(), functional.silu(block.conv1(x)).numpy(), atol=1e-6)


class Chain(nn.Layer):
    """A convolution, then blocks in a list and in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.first = ConvBN(3, 4, kernel=3, act=functional.silu)
        self.blocks = nn.LayerList([RepVGGBlock(4, 4, act=functional.silu, use_alpha=True)])
        self.last = RepVGGBlock(4, 2, act=functional.relu)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return self.last(x)


def trained_chain() -> Chain:
    paddle.seed(0)
    chain = Chain()
    rng = np.random.default_rng(0)
    for _, value in chain.state_dict().items():
        value.set_value(paddle.to_tensor(rng.uniform(0.5, 1.5, value.shape).astype("float32")))
    return chain


def test_a_copy_for_inference_computes_the_same_and_leaves_the_model_alone() -> None:
    chain = trained_chain()
    chain.train()
    before = {key: value.numpy().copy() for key, value in chain.state_dict().items()}
    twin = for_inference(chain)
    assert twin is not chain
    assert chain.training
    assert not any(layer.training for layer in twin.sublayers(include_self=True))
    assert not any(isinstance(layer, RepVGGBlock) for layer in twin.sublayers())
    assert [key for key in twin.state_dict() if "last" in key] == ["last.conv.weight", "last.conv.bias"]
    after = chain.state_dict()
    assert list(after) == list(before)
    for key, value in before.items():
        np.testing.assert_array_equal(after[key].numpy(), value)
    chain.eval()
    x = paddle.rand([2, 3, 9, 7])
    np.testing.assert_allclose(twin(x).numpy(), chain(x).numpy(), rtol=1e-5)


def test_a_copy_has_the_weights_of_its_moment() -> None:
    chain = trained_chain()
    x = paddle.rand([1, 3, 8, 8])
    twin = for_inference(chain)
    expected = twin(x).numpy()
    chain.first.conv.weight.set_value(paddle.zeros(chain.first.conv.weight.shape))
    np.testing.assert_array_equal(twin(x).numpy(), expected)


def test_a_model_without_such_layers_is_not_copied() -> None:
    model = nn.Sequential(ConvBN(3, 4, kernel=3))
    model.train()
    assert for_inference(model) is model
    assert model.training


def test_an_unknown_activation_is_named() -> None:
    with pytest.raises(ValueError, match=r"CSPResNet\.act: expected one of swish, silu, relu, got 'mish'"):
        activation_of("CSPResNet", "mish")
