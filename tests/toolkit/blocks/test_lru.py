"""LRU against its recurrence as a plain loop."""

import pytest
import torch
import torch.nn.functional as F
from helixwave.blocks.lru import LRU
from helixwave.errors import InputError
from torch import Tensor, nn

D = 6


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


def decays(block: LRU) -> Tensor:
    return torch.exp(torch.complex(-block.nu_log.exp(), block.theta_log.exp()))


def test_equals_the_recurrence() -> None:
    torch.manual_seed(0)
    block, x = LRU(D, d_state=5).eval(), inputs(2, 50)
    found, state = block(x)
    found_gradients = gradients(block, found)
    block = block.double()
    B, C = torch.complex(block.B_re, block.B_im), torch.complex(block.C_re, block.C_im)
    h, ys = torch.zeros(2, 5, dtype=torch.complex128), []
    for u in x.double().unbind(1):
        h = decays(block) * h + block.gamma_log.exp() * (u.to(B) @ B.T)
        ys.append((h @ C.T).real + block.D * u)
    g = F.gelu(torch.stack(ys, dim=1), approximate="tanh")
    expected = block.out1(g) * block.out2(g).sigmoid()
    assert_close(found, expected)
    assert_all_close(found_gradients, gradients(block, expected))
    assert state.dtype == torch.complex64
    assert_close(state, h)


def test_starts_in_its_ring() -> None:
    torch.manual_seed(0)
    block = LRU(D, d_state=4000, r_min=0.5, r_max=0.9, max_phase=0.5)
    radius, phase = decays(block).abs(), decays(block).angle()
    assert 0.5 < radius.min() < 0.51
    assert 0.89 < radius.max() < 0.9
    # uniform in the area, so that half of it lies within the root of the mean square
    assert torch.isclose((radius < (0.53**0.5)).float().mean(), torch.tensor(0.5), atol=0.03)
    assert 0 < phase.min() < 0.01
    assert 0.49 < phase.max() < 0.5
    assert torch.allclose(block.gamma_log.exp(), (1 - radius.square()).sqrt(), rtol=1e-4)
    assert torch.isclose(block.B_re.std(), torch.tensor((2 * D) ** -0.5), rtol=0.03)
    assert torch.isclose(block.C_im.std(), torch.tensor(4000**-0.5), rtol=0.03)


def test_starts_finite_in_the_whole_disk() -> None:
    block = LRU(D, d_state=1000)
    assert all(parameter.isfinite().all() for parameter in block.parameters())
    assert (decays(block).abs() < 1).all()


@torch.no_grad()
def test_a_state_and_lengths_together() -> None:
    torch.manual_seed(0)
    block, lengths = LRU(D, d_state=5).eval(), [9, 4, 1]
    _, state = block(inputs(3, 12))
    x = inputs(3, 9)
    y, last = block(x, state, torch.tensor(lengths))
    for i, length in enumerate(lengths):
        alone, state_alone = block(x[i : i + 1, :length], state[i : i + 1])
        assert_close(y[i : i + 1, :length], alone)
        assert_close(last[i : i + 1], state_alone)


def test_says_what_it_cannot_do() -> None:
    with pytest.raises(InputError, match=r"r_min, r_max are 0\.9, 0\.5, expected 0 <= r_min < r_max <= 1"):
        LRU(D, r_min=0.9, r_max=0.5)
