"""Other forms of `s4_kernel` to measure it beside: the generating function at the roots of unity.

Published layers correct C once, at their first forward pass; `peers` correct it at each, which is some percent of their
time. To measure without, correct C beforehand (`corrected`) and call `cauchy_kernel`.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

# a term of the sums for each lag and state at once, [2, 2, D, 2N, T / 2]: gigabytes
LONGEST = {"naive Cauchy form": 16384, "Cauchy as product": 16384}

CauchySum = Callable[[Tensor, Tensor, Tensor], Tensor]


def peers() -> dict[str, Callable[..., Tensor]]:
    """By name, with the same arguments as the operator."""
    return {
        "naive Cauchy form": partial(_corrected_at_once, cauchy_sum=elementwise),
        "Cauchy as product": partial(_corrected_at_once, cauchy_sum=as_product),
    }


def cauchy_kernel(
    w: Tensor, P: Tensor, B: Tensor, C: Tensor, dt: Tensor, length: int, *, cauchy_sum: CauchySum
) -> Tensor:
    """The kernel from the corrected C: Cauchy sums, Woodbury's formula, inverse FFT (Gu et al. 2021, algorithm 1)."""
    angles = -2 * torch.pi * torch.arange(length // 2 + 1, device=w.device, dtype=dt.dtype) / length
    omega = torch.polar(torch.ones_like(angles), angles)
    z = 2 * (1 - omega) / (1 + omega)
    maps = torch.cat([B.unsqueeze(0), P]).unsqueeze(1) * torch.cat([C, P.conj()]).unsqueeze(0)
    r = cauchy_sum(maps * dt.unsqueeze(-1), z, w * dt.unsqueeze(-1))  # [1 + R, M + R, D, length / 2 + 1]
    M = len(C)
    r00, r01, r10, r11 = r[:1, :M], r[:1, M:], r[1:, :M], r[1:, M:]
    if len(P) == 1:
        k = r00 - r01 * r10 / (1 + r11)
    else:
        inner = torch.eye(len(P), dtype=r.dtype, device=r.device) + r11.permute(2, 3, 1, 0)
        k = r00 - torch.einsum("dlrx,rmdl->xmdl", torch.linalg.solve(inner, r01.permute(2, 3, 1, 0)), r10)
    return torch.fft.irfft(k[0] * 2 / (1 + omega), n=length)


def elementwise(v: Tensor, z: Tensor, poles: Tensor) -> Tensor:
    """`sum_n v_n / (z - poles_n)` over both halves of the conjugate pairs, as it stands."""
    v, poles = _both_halves(v), _both_halves(poles)
    return (v.unsqueeze(-1) / (z - poles.unsqueeze(-1))).sum(-2)


def as_product(v: Tensor, z: Tensor, poles: Tensor) -> Tensor:
    """The same with one division for all v, and a matrix product: stronger than what is published."""
    return torch.einsum("xydn,dnl->xydl", _both_halves(v), (z - _both_halves(poles).unsqueeze(-1)).reciprocal())


def corrected(w: Tensor, P: Tensor, C: Tensor, dt: Tensor, length: int) -> Tensor:
    """`C (I - Abar^length)`, in float64."""
    w_, P_, C_ = (_both_halves(value.to(torch.complex128)) for value in (w, P, C))
    A = torch.diag_embed(w_) - torch.einsum("rdi,rdj->dij", P_, P_.conj())
    identity = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    half_step = dt.to(A.dtype)[:, None, None] / 2 * A
    power = torch.linalg.matrix_power(torch.linalg.solve(identity - half_step, identity + half_step), length)
    return (C_.unsqueeze(-2) @ (identity - power)).squeeze(-2)[..., : w.shape[-1]].to(C.dtype)


def _corrected_at_once(
    w: Tensor, P: Tensor, B: Tensor, C: Tensor, dt: Tensor, length: int, *, cauchy_sum: CauchySum
) -> Tensor:
    return cauchy_kernel(w, P, B, corrected(w, P, C, dt, length), dt, length, cauchy_sum=cauchy_sum)


def _both_halves(value: Tensor) -> Tensor:
    return torch.cat([value, value.conj()], dim=-1)
