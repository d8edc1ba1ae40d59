"""How parameters of state spaces start: step sizes and HiPPO matrices."""

import math
from typing import Literal

import torch
from torch import Tensor

from helixwave.errors import InputError

Measure = Literal["legs", "legt", "fout"]


def log_uniform(*shape: int, low: float, high: float) -> Tensor:
    """Logarithms, uniform between those of `low` and `high`."""
    return torch.rand(shape) * math.log(high / low) + math.log(low)


def inverse_softplus(x: Tensor) -> Tensor:
    """The argument at which softplus is `x > 0`."""
    return x + torch.log(-torch.expm1(-x))


def hippo(measure: Measure, N: int) -> tuple[Tensor, Tensor]:
    """`A` `[N, N]` and `B` `[N]` of the HiPPO operator `h' = A h + B u`, in float64.

    With them the state holds the coefficients of the past input (Gu et al. 2020; Gu et al. 2022, "How to train your
    HiPPO", section 3).

    Args:
        measure: which past: `"legs"`: all of it, fading exponentially, in Legendre polynomials; `"legt"`: a window,
            in Legendre polynomials; `"fout"`: a window, in a Fourier series, N even.
    """
    matrices = {"legs": _legs, "legt": _legt, "fout": _fout}
    if measure not in matrices:
        raise InputError(f"measure is {measure!r}, expected one of {', '.join(map(repr, matrices))}")
    A, B, _ = matrices[measure](N)
    return A, B


def nplr(measure: Measure, N: int, *, clip: float | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """HiPPO's matrices, diagonal but for a low rank: `A = V diag(w) V^* - P P^T` (Gu et al. 2021, theorem 1).

    Everything comes in conjugate pairs, of which one half is returned, with negative imaginary parts of w:
    `A = 2 Re(V diag(w) V^*) - P_ P_^T` with `P_ = 2 Re(V P)`, and likewise for B.

    Args:
        N: an even number.
        clip: the largest imaginary part of B; 2 in the published S4. The last entries of LegS are much larger.

    Returns:
        eigenvalues w `[N/2]`, low-rank parts P `[R, N/2]`, the input map B `[N/2]`, both in the basis of eigenvectors,
        and the eigenvectors V `[N, N/2]`; all complex128.
    """
    if N < 2 or N % 2:
        raise InputError(f"N is {N}, expected an even number from 2: the eigenvalues come in pairs")
    A, B = hippo(measure, N)
    P = {"legs": _legs, "legt": _legt, "fout": _fout}[measure](N)[2]
    w, V = _conjugate_halves(A + P.T @ P)
    B_, P_ = V.mH @ B.to(V.dtype), P.to(V.dtype) @ V.conj()
    if clip is not None:
        B_ = torch.complex(B_.real, B_.imag.clamp(-clip, clip))
    return w, P_, B_, V


def hippo_diagonal(N: int, *, clip: float | None = None) -> tuple[Tensor, Tensor]:
    """Eigenvalues w `[N/2]` and input map B `[N/2]` of LegS without its low-rank part, complex128 (S4D-LegS).

    One half of the conjugate pairs, with negative imaginary parts of w, whose real parts are -1/2; `clip` as in `nplr`.
    """
    w, _, B, _ = nplr("legs", N, clip=clip)
    return w, B


def _legs(N: int) -> tuple[Tensor, Tensor, Tensor]:
    """A, B and the low-rank part P `[R, N]`, with which `A + P^T P` is normal."""
    n = torch.arange(N, dtype=torch.float64)
    B = (2 * n + 1).sqrt()
    A = -(torch.outer(B, B).tril(-1) + torch.diag(n + 1))
    return A, B, (n + 0.5).sqrt().unsqueeze(0)


def _legt(N: int) -> tuple[Tensor, Tensor, Tensor]:
    n = torch.arange(N, dtype=torch.float64)
    R = (2 * n + 1).sqrt()
    is_odd = n % 2
    sign = (1 - 2 * is_odd).outer(1 - 2 * is_odd)  # (-1)^(n - k)
    A = -torch.outer(R, R) / 2 * (torch.ones(N, N).tril() + sign.triu(1))
    return A, R / 2, torch.stack([R * (1 - is_odd), R * is_odd]) / math.sqrt(2)


def _fout(N: int) -> tuple[Tensor, Tensor, Tensor]:
    if N % 2:
        raise InputError(f"N is {N}, expected an even number for measure 'fout': cosines and sines")
    frequency = math.pi * torch.arange(N // 2, dtype=torch.float64)
    between = torch.stack([frequency, torch.zeros_like(frequency)], dim=-1).flatten()[:-1]
    B = torch.zeros(N, dtype=torch.float64)
    B[::2] = math.sqrt(2)
    B[0] = 1
    return torch.diag(between, -1) - torch.diag(between, 1) - torch.outer(B, B), B, B.unsqueeze(0)


def _conjugate_halves(normal: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues with negative imaginary part, and their eigenvectors, of `c I` plus a skew-symmetric matrix."""
    N = len(normal)
    symmetric = normal + normal.T
    assert (symmetric - symmetric[0, 0] * torch.eye(N)).square().sum() / N < 1e-5, "not skew but for a multiple of I"
    frequencies, V = torch.linalg.eigh(-1j * normal)
    frequencies, V = frequencies[: N // 2].clone(), V[:, : N // 2].clone()
    if frequencies[-1].abs() < 1e-6:
        # FouT's two zeros, for its first two coordinates: any basis is one of eigenvectors, a conjugate pair is needed
        frequencies[-1] = 0
        V[:, -1] = 0
        V[:2, -1] = torch.tensor([1, 1j], dtype=V.dtype) / math.sqrt(2)
    # phases are free: the first entry of each that is not zero is made real, so that every machine gives the same
    first = V.gather(0, (V.abs() > 1e-6).int().argmax(0, keepdim=True))
    return torch.complex(normal.diagonal().mean().expand(N // 2), frequencies), V * (first.conj() / first.abs())
