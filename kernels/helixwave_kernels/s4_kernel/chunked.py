"""`s4_kernel` by baby steps and giant steps in real coordinates; the derivation is in README.md."""

import math

import torch
from torch import Tensor

from helixwave_kernels.s4_kernel.reference import kernel_dtype, s4_kernel


@s4_kernel.implementation("chunked")
def s4_kernel_chunked(w: Tensor, P: Tensor, B: Tensor, C: Tensor, dt: Tensor, *, length: int) -> Tensor:
    dtype = kernel_dtype(w, P, B, C, dt)
    w, P, B, C = (value.to(torch.complex128) for value in (w, P, B, C))
    power, h = _discretized(w, P, B, dt.double().unsqueeze(-1))
    # no more baby steps than giant steps: those of several output channels cost more
    n_baby = 1 << math.isqrt(length - 1).bit_length()
    n_giant = -(-length // n_baby)
    baby = h.unsqueeze(-1)  # Abar^j Bbar, [D, 2N, n_baby]
    while baby.shape[-1] < n_baby:
        baby, power = torch.cat([baby, power @ baby], dim=-1), power @ power
    giant = _real(2 * C.conj()).transpose(0, 1).unsqueeze(1)  # C Abar^(i n_baby), [D, n_giant, M, 2N]
    while giant.shape[1] < n_giant:
        if giant.shape[1] > 1:
            power = power @ power
        giant = torch.cat([giant, (giant.flatten(1, 2) @ power).unflatten(1, giant.shape[1:3])], dim=1)
    kernel = giant[:, :n_giant].to(dtype).flatten(1, 2) @ baby.to(dtype)
    return kernel.unflatten(1, (n_giant, -1)).permute(2, 0, 1, 3).flatten(2)[..., :length].contiguous()


def _discretized(w: Tensor, P: Tensor, B: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    """`Abar = 2 (I - dt/2 A)^-1 - I` `[D, 2N, 2N]` and `Bbar = dt (I - dt/2 A)^-1 B` `[D, 2N]`, by Woodbury."""
    r = (1 - dt / 2 * w).reciprocal()
    right = _real(r * P).permute(1, 2, 0)  # [D, 2N, R]
    left = _real(r.conj() * P).transpose(0, 1)  # [D, R, 2N]
    identity = torch.eye(len(P), dtype=dt.dtype, device=dt.device)
    coupling = torch.linalg.solve(identity / dt.unsqueeze(-1) + _real(P).transpose(0, 1) @ right, left)
    diagonal = torch.diag_embed(r.real), torch.diag_embed(r.imag)
    inverse = torch.cat([torch.cat([diagonal[0], -diagonal[1]], -1), torch.cat([diagonal[1], diagonal[0]], -1)], -2)
    inverse = inverse - right @ coupling
    transition = 2 * inverse - torch.eye(inverse.shape[-1], dtype=dt.dtype, device=dt.device)
    return transition, dt * (inverse @ _real(B).unsqueeze(-1)).squeeze(-1)


def _real(halves: Tensor) -> Tensor:
    """Real coordinates of a vector of conjugate pairs, from its first halves: `[..., N]` complex -> `[..., 2N]`."""
    return torch.cat([halves.real, halves.imag], dim=-1)
