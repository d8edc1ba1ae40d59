"""S5 against its recurrence as a plain loop."""

import pytest
import torch
import torch.nn.functional as F
from helixwave.blocks.s5 import S5
from helixwave.errors import InputError
from torch import Tensor, nn

D = 6


def build(**options) -> S5:
    torch.manual_seed(0)
    return S5(D, **{"d_state": 8, "n_block": 2} | options).eval()


def inputs(B: int, T: int) -> Tensor:
    return torch.randn(B, T, D, generator=torch.Generator().manual_seed(T))


def assert_close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


def gradients(block: nn.Module, y: Tensor) -> dict[str, Tensor]:
    """Of the mean square of y, for every parameter."""
    block.zero_grad()
    y.square().mean().backward()
    return {name: parameter.grad.double() for name, parameter in block.named_parameters()}


def assert_all_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, gradient in expected.items():
        assert (found[name] - gradient).abs().max() <= 1e-4 * gradient.abs().max(), name


def normal_part(n: int) -> Tensor:
    """HiPPO-LegS without its low-rank part."""
    P = (torch.arange(n, dtype=torch.float64) + 0.5).sqrt()
    square = torch.outer(P, P)
    return -2 * square.tril(-1) - torch.diag(torch.arange(n) + 1) + square


def looped(block: S5, x: Tensor) -> Tensor:
    """What stands before the activation; the block in float64."""
    Lambda = torch.complex(block.Lambda_re, block.Lambda_im)
    dt = block.step_rescale * block.log_step[:, 0].exp()
    if block.discretization == "zoh":
        a, b = (dt * Lambda).exp(), ((dt * Lambda).exp() - 1) / Lambda
    else:
        a, b = (1 + dt * Lambda / 2) / (1 - dt * Lambda / 2), dt / (1 - dt * Lambda / 2)
    B, C = torch.view_as_complex(block.B), torch.view_as_complex(block.C)
    h, ys = torch.zeros(len(x), len(a), dtype=torch.complex128), []
    for u in x.unbind(1):
        h = a * h + b * (u.to(B) @ B.T)
        ys.append(2 * (h @ C.T).real + block.D * u)
    return torch.stack(ys, dim=1)


@pytest.mark.parametrize("discretization", ["zoh", "bilinear"])
@pytest.mark.parametrize("step_rescale", [1.0, 2.0])
def test_equals_the_recurrence(discretization: str, step_rescale: float) -> None:
    block = build(discretization=discretization, step_rescale=step_rescale, activation="gelu")
    x = inputs(2, 50)
    found, state = block(x)
    assert state.dtype == torch.complex64
    found_gradients = gradients(block, found)
    expected = F.gelu(looped(block.double(), x.double()), approximate="tanh")
    assert_close(found, expected)
    assert_all_close(found_gradients, gradients(block, expected))


@torch.no_grad()
def test_activations() -> None:
    x = inputs(1, 20)
    for activation in ("half_glu1", "half_glu2", "full_glu"):
        block = build(activation=activation, c_init="complex_normal")
        found, _ = block(x)
        y = looped(block.double(), x.double())
        g = F.gelu(y, approximate="tanh")
        value = {"half_glu1": g, "half_glu2": y, "full_glu": block.out1(g) if block.out1 else g}[activation]
        assert_close(found, value * block.out2(g).sigmoid())


def test_starts_with_the_eigenvalues_of_its_blocks() -> None:
    block = build(d_state=16, n_block=4)
    expected = torch.linalg.eigvals(torch.block_diag(*[normal_part(4)] * 4))
    assert torch.allclose(block.Lambda_im.sort().values.double(), expected.imag.sort().values[:8], atol=1e-6)
    assert torch.allclose(block.Lambda_re, torch.tensor(-0.5))
    assert block.Lambda_im.reshape(4, 2).unique(dim=0).shape == (1, 2)
    dt = block.log_step.exp()
    assert 1e-3 * 0.99 < dt.min() < dt.max() < 0.1 * 1.01


def test_starts_with_maps_drawn_in_the_basis_of_hippo() -> None:
    """Without the conjugate halves, B and C have the variance `1 / d_state` that they were drawn with."""
    torch.manual_seed(0)
    block = S5(200, d_state=32, n_block=1)
    V = torch.linalg.eigh(-1j * normal_part(32)).eigenvectors[:, :16].to(torch.complex64)
    frequencies = torch.linalg.eigvalsh(-1j * normal_part(32))[:16]
    assert torch.allclose(block.Lambda_im.double(), frequencies)
    # each eigenvector's phase is free, and what it does to B it undoes to C
    B, C = torch.view_as_complex(block.B), torch.view_as_complex(block.C)
    assert torch.isclose((V @ B).abs().square().mean() * 2, torch.tensor(1 / 32), rtol=0.05)
    assert torch.isclose(C.abs().square().mean(), torch.tensor(2 / 32), rtol=0.05)


@torch.no_grad()
def test_clips_eigenvalues_that_would_grow() -> None:
    x = inputs(1, 2000)
    for clip, bounded in ((True, True), (False, False)):
        block = build(clip_eigenvalues=clip, dt_min=0.1, dt_max=0.2)
        block.Lambda_re.fill_(0.1)
        _, state = block(x)
        assert (state.abs() < 1e3).all() == bounded


@torch.no_grad()
def test_a_state_and_lengths_together() -> None:
    block, lengths = build(), [9, 4, 1]
    _, state = block(inputs(3, 12))
    x = inputs(3, 9)
    y, last = block(x, state, torch.tensor(lengths))
    for i, length in enumerate(lengths):
        alone, state_alone = block(x[i : i + 1, :length], state[i : i + 1])
        assert_close(y[i : i + 1, :length], alone)
        assert_close(last[i : i + 1], state_alone)


def test_says_what_it_cannot_do() -> None:
    with pytest.raises(InputError, match="d_state is 20, expected a multiple of 2 n_block = 16"):
        S5(D, d_state=20)
    with pytest.raises(InputError, match="c_init is 'lecun', expected 'hippo' or 'complex_normal'"):
        S5(D, c_init="lecun")
