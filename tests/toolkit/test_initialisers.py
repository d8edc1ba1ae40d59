"""HiPPO matrices against their definitions, and what follows from them."""

import math

import pytest
import torch
from helixwave.initialisers import hippo, hippo_diagonal, inverse_softplus, log_uniform, nplr
from torch import Tensor
from torch.nn.functional import softplus

MEASURES = ["legs", "legt", "fout"]


def legs_entry(n: int, k: int) -> float:
    if n > k:
        return -math.sqrt((2 * n + 1) * (2 * k + 1))
    return -(n + 1) if n == k else 0


def legt_entry(n: int, k: int) -> float:
    sign = 1 if n >= k else (-1) ** (n - k)
    return -0.5 * math.sqrt((2 * n + 1) * (2 * k + 1)) * sign


def fout_entry(n: int, k: int) -> float:
    """Cosines and sines of the same frequency stand at 2 m and 2 m + 1; their values at the end of the window are B."""
    rotation = 0.0
    if n // 2 == k // 2:
        rotation = math.pi * (n // 2) * (n - k)
    return rotation - fout_input(n) * fout_input(k)


def fout_input(n: int) -> float:
    if n % 2:
        return 0
    return math.sqrt(2) if n else 1


ENTRIES = {"legs": legs_entry, "legt": legt_entry, "fout": fout_entry}
INPUTS = {"legs": lambda n: math.sqrt(2 * n + 1), "legt": lambda n: math.sqrt(2 * n + 1) / 2, "fout": fout_input}


@pytest.mark.parametrize("N", [2, 4, 10])
@pytest.mark.parametrize("measure", MEASURES)
def test_hippo_is_what_the_papers_define(measure: str, N: int) -> None:
    A, B = hippo(measure, N)
    expected = torch.tensor([[ENTRIES[measure](n, k) for k in range(N)] for n in range(N)], dtype=torch.float64)
    torch.testing.assert_close(A, expected)
    torch.testing.assert_close(B, torch.tensor([INPUTS[measure](n) for n in range(N)], dtype=torch.float64))


def test_legs_of_three() -> None:
    """Gu et al. 2020, equation 2 of the S4 paper, written out."""
    A, B = hippo("legs", 3)
    roots = [[1, 0, 0], [3, 4, 0], [5, 15, 9]]
    torch.testing.assert_close(A, -torch.tensor(roots, dtype=torch.float64).sqrt())
    torch.testing.assert_close(B, torch.tensor([1, 3, 5], dtype=torch.float64).sqrt())


@pytest.mark.parametrize("measure", MEASURES)
def test_a_constant_input_is_held_by_the_first_coefficient(measure: str) -> None:
    """With u = 1 the state `(1, 0, 0, ...)` stays: the projection of a constant."""
    A, B = hippo(measure, 12)
    torch.testing.assert_close(A[:, 0], -B)


def both_halves(V: Tensor) -> Tensor:
    return torch.cat([V, V.conj()], dim=-1)


@pytest.mark.parametrize("N", [2, 16, 64])
@pytest.mark.parametrize("measure", MEASURES)
def test_nplr_is_the_same_matrix(measure: str, N: int) -> None:
    A, B = hippo(measure, N)
    w, P, B_half, V = nplr(measure, N)
    assert w.shape == B_half.shape == (N // 2,)
    assert P.shape == (2 if measure == "legt" else 1, N // 2)
    unitary = both_halves(V)
    identity = torch.eye(N, dtype=torch.complex128)
    torch.testing.assert_close(unitary.mH @ unitary, identity, rtol=0, atol=1e-10)
    P_full = both_halves(P)
    inner = torch.diag(both_halves(w)) - P_full.T @ P_full.conj()
    torch.testing.assert_close(unitary @ inner @ unitary.mH, A.to(V.dtype), rtol=0, atol=1e-10 * N**2)
    torch.testing.assert_close(unitary @ both_halves(B_half), B.to(V.dtype), rtol=0, atol=1e-10 * N)


@pytest.mark.parametrize("measure", MEASURES)
def test_nplr_returns_the_same_half_everywhere(measure: str) -> None:
    """Slowest frequency last, never a positive one, and a phase that does not depend on the linear algebra library."""
    w, _, _, V = nplr(measure, 32)
    assert (w.imag <= 0).all()
    assert (w.imag.diff() > 0).all()
    for vector in V.T:
        first = vector[vector.abs() > 1e-6][0]
        assert first.real > 0
        assert abs(first.imag) < 1e-12


def test_nplr_clips_the_imaginary_part_of_the_input_map() -> None:
    _, _, B, _ = nplr("legs", 64)
    _, _, clipped, _ = nplr("legs", 64, clip=2.0)
    assert B.imag.abs().max() > 2
    torch.testing.assert_close(clipped.real, B.real)
    torch.testing.assert_close(clipped.imag, B.imag.clamp(-2, 2))


def test_hippo_diagonal_is_the_normal_part_of_legs() -> None:
    w, B = hippo_diagonal(16)
    torch.testing.assert_close(w.real, torch.full((8,), -0.5, dtype=torch.float64))
    A, _ = hippo("legs", 16)
    skew = (A - A.T) / 2
    torch.testing.assert_close(w.imag.abs(), torch.linalg.eigvals(skew).imag.sort().values[8:].flip(0))
    torch.testing.assert_close(B, nplr("legs", 16)[2])


def test_errors_say_what_is_expected() -> None:
    with pytest.raises(ValueError, match="measure is 'legz', expected one of 'legs', 'legt', 'fout'"):
        hippo("legz", 4)
    with pytest.raises(ValueError, match="N is 5, expected an even number"):
        hippo("fout", 5)
    with pytest.raises(ValueError, match="N is 3, expected an even number"):
        nplr("legs", 3)


def test_log_uniform_stays_in_its_range() -> None:
    values = log_uniform(500, 4, low=1e-3, high=1e-1).exp()
    assert values.shape == (500, 4)
    assert values.min() >= 1e-3 * 0.999
    assert values.max() <= 1e-1 * 1.001
    assert ((values < 1e-2).float().mean() - 0.5).abs() < 0.1


def test_inverse_softplus() -> None:
    x = torch.tensor([1e-4, 1e-2, 1.0, 30.0])
    torch.testing.assert_close(softplus(inverse_softplus(x)), x)
