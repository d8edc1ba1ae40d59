"""What the position-wise networks compute, and how wide they are."""

import math

import pytest
import torch
from helixwave.blocks.mlp import MLP, GeGLU, SwiGLU
from torch import Tensor, nn


def exact_gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


@pytest.mark.parametrize(("cls", "activation"), [(GeGLU, exact_gelu), (SwiGLU, lambda x: x / (1 + torch.exp(-x)))])
def test_gated_networks_are_their_formula(cls: type[nn.Module], activation) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    block = cls(8).double()
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    into, out = (parameter.detach() for parameter in block.parameters())
    gate, up = into.chunk(2)
    expected = (activation(x @ gate.T) * (x @ up.T)) @ out.T
    torch.testing.assert_close(block(x)[0], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mlp_is_its_formula_with_and_without_a_gradient(dtype: torch.dtype) -> None:
    """More positions than are taken at a time, and inputs at which the tanh is saturated."""
    torch.manual_seed(0)
    block = MLP(8).to(dtype)
    x = torch.randn(3, 400, 8, dtype=dtype) * torch.logspace(-3, 2, 400, dtype=dtype)[:, None]
    u = x @ block.fc1.weight.T + block.fc1.bias
    u = u * (1 + torch.tanh(math.sqrt(2 / math.pi) * (u + 0.044715 * u**3))) / 2
    expected = u @ block.fc2.weight.T + block.fc2.bias
    with torch.no_grad():
        torch.testing.assert_close(block(x)[0], expected, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(block(x[0, :0][None])[0], x[0, :0][None])
    torch.testing.assert_close(block(x)[0], expected, rtol=1e-4, atol=1e-6)


def test_inner_sizes_are_the_published_ones() -> None:
    """GeGLU: 1.3 D up to a multiple of 64; xLSTM-7B's SwiGLU: 2.6667 D up to one."""
    assert [GeGLU(d).proj_down.in_features for d in (16, 128, 768)] == [64, 192, 1024]
    assert SwiGLU(128, expand=2.6667, multiple=64).out_proj.in_features == 384
    assert [SwiGLU(d).out_proj.in_features for d in (16, 32)] == [43, 85]
    assert GeGLU(16, multiple=1).proj_down.in_features == 21


def test_geglu_starts_as_published() -> None:
    torch.manual_seed(0)
    block = GeGLU(128, n_block=12)
    assert block.proj_up.weight.std().item() == pytest.approx(math.sqrt(2 / (5 * 128)), rel=0.05)
    assert block.proj_down.weight.std().item() == pytest.approx(2 / 12 / math.sqrt(128), rel=0.05)
    assert GeGLU(128).proj_down.weight.abs().max() <= 192**-0.5


def test_networks_keep_to_their_position() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 6, 8)
    changed = x.clone()
    changed[:, 3] += 1
    for block in (MLP(8), SwiGLU(8), GeGLU(8)):
        differs = (block(changed)[0] - block(x)[0]).abs().amax(-1)[0] > 1e-6
        assert differs.tolist() == [False, False, False, True, False, False]
