"""Chunks of matrix products against the recurrence, step by step."""

import pytest
import torch
from helixwave.blocks.dense_state_space import DenseMaps, dense_maps, dense_powers, dense_state_space
from torch import Tensor

B, D, N, M, CHUNK = 3, 2, 4, 2, 8

System = tuple[Tensor, Tensor, Tensor, Tensor]


def random_system(*, D: int = D, N: int = N, M: int = M) -> System:
    torch.manual_seed(0)
    # near rotations, so that old inputs count, but neither symmetric nor normal
    A = 0.9 * torch.linalg.qr(torch.randn(D, N, N, dtype=torch.float64))[0] + 0.05 * torch.randn(D, N, N).double()
    return A, *(torch.randn(*shape, dtype=torch.float64) for shape in [(D, N), (M, D, N), (M, D)])


def maps_of(system: System, chunk: int = CHUNK, dtype: torch.dtype = torch.float64) -> DenseMaps:
    A, B, C, skip = system
    return dense_maps(dense_powers(A, B, chunk, dtype), C, skip)


def step_by_step(u: Tensor, system: System, h: Tensor) -> tuple[Tensor, Tensor]:
    """All outputs `[B, T, M, D]` and all states `[B, T, D, N]`."""
    A, B, C, skip = system
    outputs, states = [], []
    for u_t in u.unbind(1):
        h = torch.einsum("dij,bdj->bdi", A, h) + B * u_t[..., None]
        outputs.append(torch.einsum("mdn,bdn->bmd", C, h) + skip * u_t[:, None])
        states.append(h)
    return torch.stack(outputs, dim=1), torch.stack(states, dim=1)


@pytest.mark.parametrize("T", [1, 2, 7, 8, 9, 16, 29])
@pytest.mark.parametrize("with_state", [False, True])
def test_equals_the_recurrence(T: int, with_state: bool) -> None:
    system = random_system()
    u, start = torch.randn(B, T, D, dtype=torch.float64), torch.randn(B, D, N, dtype=torch.float64)
    y, end = dense_state_space(u, maps_of(system), start if with_state else None)
    expected, states = step_by_step(u, system, start if with_state else torch.zeros_like(start))
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(end, states[:, -1])


@pytest.mark.parametrize("T", [5, 8, 29])
def test_lengths_together_with_a_state(T: int) -> None:
    """Each sequence ends at its own step, and what stands behind it does not matter."""
    system = random_system()
    lengths = torch.tensor([T, T // 2 + 1, 1])
    u, start = torch.randn(B, T, D, dtype=torch.float64), torch.randn(B, D, N, dtype=torch.float64)
    expected, states = step_by_step(u, system, start)
    for row, length in enumerate(lengths):
        u[row, length:] = torch.nan
    y, end = dense_state_space(u, maps_of(system), start, lengths)
    for row, length in enumerate(lengths):
        torch.testing.assert_close(y[row, :length], expected[row, :length])
        torch.testing.assert_close(end[row], states[row, length - 1])


def test_every_multiple_of_the_chunk_can_be_a_length() -> None:
    system = random_system()
    lengths = torch.tensor([8, 16, 24])
    u, start = torch.randn(B, 24, D, dtype=torch.float64), torch.randn(B, D, N, dtype=torch.float64)
    _, end = dense_state_space(u, maps_of(system), start, lengths)
    _, states = step_by_step(u, system, start)
    torch.testing.assert_close(end, states[torch.arange(B), lengths - 1])


@pytest.mark.parametrize(("T", "chunk", "lengths"), [(5, 2, None), (5, 2, [5, 3]), (1, 1, None), (3, 4, None)])
def test_gradients(T: int, chunk: int, lengths: list[int] | None) -> None:
    """Of the input, the state and every parameter, through the outputs and the last state."""
    *system, u, start = *random_system(D=1, N=2, M=1), torch.randn(2, T, 1).double(), torch.randn(2, 1, 2).double()
    valid = None if lengths is None else torch.tensor(lengths)

    def run(u: Tensor, start: Tensor, *system: Tensor) -> tuple[Tensor, Tensor]:
        return dense_state_space(u, maps_of(system, chunk), start, valid)

    assert torch.autograd.gradcheck(run, [value.requires_grad_() for value in (u, start, *system)])


def test_float32_is_close_over_a_slow_state() -> None:
    """A state that lasts for thousands of steps: the powers keep their digits."""
    angle = torch.tensor(1e-3, dtype=torch.float64)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).view(1, 2, 2) * (1 - 1e-5)
    system = turn, torch.ones(1, 2).double(), torch.ones(1, 1, 2).double(), torch.zeros(1, 1).double()
    u = torch.randn(1, 3000, 1, dtype=torch.float64)
    y, _ = dense_state_space(u.float(), maps_of(system, chunk=64, dtype=torch.float32))
    expected, _ = step_by_step(u, system, torch.zeros(1, 1, 2, dtype=torch.float64))
    assert y.dtype == torch.float32
    assert (y - expected).square().mean().sqrt() < 1e-5 * expected.square().mean().sqrt()
