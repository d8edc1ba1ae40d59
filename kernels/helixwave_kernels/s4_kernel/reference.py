"""The meaning of `s4_kernel`."""

import torch
from torch import Tensor

from helixwave_kernels.dispatch import Op
from helixwave_kernels.shapes import compute_dtype, expect_shapes


@Op
def s4_kernel(w: Tensor, P: Tensor, B: Tensor, C: Tensor, dt: Tensor, *, length: int) -> Tensor:
    """S4's convolution kernel `K_l = C Abar^l Bbar`, state matrix `diag(w) - P P^*` (Gu et al. 2021, eq. 5, theorem 1).

    The arguments hold one half of conjugate pairs: the state matrix acts on both halves, and `P P^*` couples them. The
    discretisation is bilinear. C is the output map itself, not `C (I - Abar^L)` as published S4 checkpoints store it.
    Inside it is float64 whatever comes in: thousands of steps amplify the rounding of a state matrix.

    Args:
        w: diagonal `[D, N]`, complex.
        P: low-rank part `[R, D, N]`, complex.
        B: input maps `[D, N]`, complex.
        C: output maps of M channels `[M, D, N]`, complex.
        dt: step sizes, positive, `[D]`.
        length: number of lags, from 0 on.

    Returns:
        the kernels `[M, D, length]`, real, in float32 or wider.
    """
    dtype = kernel_dtype(w, P, B, C, dt)
    w, P, B, C = (_both_halves(value) for value in (w, P, B, C))
    dt = dt.to(w.dtype)[:, None, None]
    A = torch.diag_embed(w) - torch.einsum("rdi,rdj->dij", P, P.conj())
    identity = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    transition = torch.linalg.solve(identity - dt / 2 * A, identity + dt / 2 * A)
    h = torch.linalg.solve(identity - dt / 2 * A, dt * B.unsqueeze(-1))
    kernel = []
    for _ in range(length):
        kernel.append((C.unsqueeze(-2) @ h).real.flatten(2))
        h = transition @ h
    return torch.cat(kernel, dim=-1).to(dtype)


def kernel_dtype(*tensors: Tensor) -> torch.dtype:
    """The real dtype of the kernel: float32 or wider."""
    is_double = compute_dtype(*tensors) in (torch.float64, torch.complex128)
    return torch.float64 if is_double else torch.float32


def _both_halves(value: Tensor) -> Tensor:
    value = value.to(torch.complex128)
    return torch.cat([value, value.conj()], dim=-1)


@s4_kernel.check
def _check(w: Tensor, P: Tensor, B: Tensor, C: Tensor, dt: Tensor, *, length: int) -> None:
    expect_shapes("s4_kernel", w=(w, "D N"), P=(P, "R D N"), B=(B, "D N"), C=(C, "M D N"), dt=(dt, "D"))
    if dt.is_complex():
        raise ValueError("s4_kernel: dt is real; w, P, B and C are complex")
    if length < 1:
        raise ValueError(f"s4_kernel: length is {length}, expected at least 1")
