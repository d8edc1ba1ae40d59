"""`selective_scan` on a GPU: one pass over the sequence, in chunks that scan in parallel.

Softplus, bias, skip connection and gate are part of the kernels. One state in CHUNK is kept for the backward pass,
which computes the others again.
"""

import math
from typing import Any

import torch
from torch import Tensor

from helixwave_kernels import gpu
from helixwave_kernels.selective_scan.reference import selective_scan

CHUNK = 16
# the gradients of B and C are left in parts of 256 / N channels, which would fill the memory for more
MOST_STATES = 64


def _accepts(u: Tensor, delta: Tensor, A: Tensor, *others: Any, **named: Any) -> str | None:
    if A.shape[-1] > MOST_STATES:
        return f"A has N={A.shape[-1]} states, more than {MOST_STATES}"
    return gpu.refusal(*others, u=u, delta=delta, A=A, **named)


@selective_scan.implementation("triton", accepts=_accepts)
def selective_scan_triton(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    skip: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    *,
    softplus: bool = True,
    negative_eigenvalues: bool = False,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    tensors = (u, delta, A, B, C, skip, z, delta_bias, initial_state)
    y, last, _ = _scan(*tensors, reset, softplus, negative_eigenvalues)
    return y, last


@torch.library.custom_op("helixwave::selective_scan_triton", mutates_args=())
def _scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    skip: Tensor | None,
    z: Tensor | None,
    bias: Tensor | None,
    h0: Tensor | None,
    reset: Tensor | None,
    softplus: bool,
    negative: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs `[B, T, D]`, the last state `[B, D, N]`, and the states before each chunk `[B, T / CHUNK, D, N]`."""
    from helixwave_kernels.selective_scan.triton_kernels import selective_scan_fwd_kernel

    tensors = gpu.contiguous(u, delta, A, B, C, skip, z, bias, h0)
    n_batch, T, _ = u.shape
    y = torch.empty_like(tensors[0])
    last = A.new_empty(n_batch, *A.shape, dtype=torch.float32)
    starts = A.new_empty(n_batch, -(-T // CHUNK), *A.shape, dtype=torch.float32)
    grid, sizes = _launch(u, A, B, C, softplus, negative)
    with gpu.device_of(u):
        selective_scan_fwd_kernel[grid](*tensors, gpu.flags(reset), y, last, starts, **sizes)
    return y, last, starts


@torch.library.custom_op("helixwave::selective_scan_triton_backward", mutates_args=())
def _scan_backward(
    grad: Tensor,
    last_grad: Tensor | None,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    skip: Tensor | None,
    z: Tensor | None,
    bias: Tensor | None,
    reset: Tensor | None,
    starts: Tensor,
    softplus: bool,
    negative: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of u, delta, A, B, C, skip, z, bias (the last three also where there are none, without meaning), h0."""
    from helixwave_kernels.selective_scan.triton_kernels import selective_scan_bwd_kernel

    tensors = gpu.contiguous(grad, last_grad, u, delta, A, B, C, skip, z, bias)
    grid, sizes = _launch(u, A, B, C, softplus, negative)
    u_grad, delta_grad = torch.empty_like(tensors[2]), torch.empty_like(tensors[3])
    z_grad = u.new_empty(0) if z is None else torch.empty_like(tensors[8])
    A_parts, h0_grad = (starts.new_empty(u.shape[0], *A.shape) for _ in range(2))
    B_parts, C_parts = (starts.new_empty(_parts(map_, u, A, grid)) for map_ in (B, C))
    skip_parts, bias_parts = (starts.new_empty(u.shape[0], u.shape[2]) for _ in range(2))
    gradients = u_grad, delta_grad, A_parts, B_parts, C_parts, skip_parts, z_grad, bias_parts, h0_grad
    with gpu.device_of(u):
        selective_scan_bwd_kernel[grid](*tensors, gpu.flags(reset), starts, *gradients, **sizes)
    B_grad, C_grad = _sum_parts(B_parts, B), _sum_parts(C_parts, C)
    A_grad = A_parts.sum(0).to(A.dtype)
    return u_grad, delta_grad, A_grad, B_grad, C_grad, skip_parts.sum(0), z_grad, bias_parts.sum(0), h0_grad


def _launch(
    u: Tensor, A: Tensor, B: Tensor, C: Tensor, softplus: bool, negative: bool
) -> tuple[tuple[int, int], dict[str, Any]]:
    (n_batch, T, D), N = u.shape, A.shape[1]
    GB, GC = _groups(B), _groups(C)
    G = math.lcm(max(GB, 1), max(GC, 1))
    BN = gpu.power_of_2(N)
    BD = gpu.power_of_2(D // G, most=max(1, 256 // BN))
    sizes = {"T": T, "D": D, "N": N, "G": G, "GB": GB, "GC": GC, "SOFTPLUS": softplus, "NEGATIVE": negative}
    sizes |= {"BT": CHUNK, "BD": BD, "BN": BN, "num_warps": 8}
    return (G * -(-(D // G) // BD), n_batch), sizes


def _groups(map_: Tensor) -> int:
    """How many groups of channels share an input or output map; 0 where it is constant in time, `[D, N]`."""
    return {2: 0, 3: 1}[map_.ndim] if map_.ndim < 4 else map_.shape[2]


def _parts(map_: Tensor, u: Tensor, A: Tensor, grid: tuple[int, int]) -> tuple[int, ...]:
    """The shape of the parts of a map's gradient: a sum for each sequence, or for each block of channels."""
    return (u.shape[0], *A.shape) if map_.ndim == 2 else (grid[0], *u.shape[:2], A.shape[1])


def _sum_parts(parts: Tensor, map_: Tensor) -> Tensor:
    if map_.ndim == 2:
        return parts.sum(0).to(map_.dtype)
    summed = parts.unflatten(0, (_groups(map_), -1)).sum(1)  # [G, B, T, N]
    return summed.permute(1, 2, 0, 3).reshape(map_.shape).to(map_.dtype, memory_format=torch.contiguous_format)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, h0, reset, ctx.softplus, ctx.negative = inputs
    ctx.save_for_backward(*tensors, reset, output[2])
    ctx.set_materialize_grads(False)
    ctx.h0_dtype = None if h0 is None else h0.dtype


def _backward(ctx, grad, last_grad, _):  # type: ignore[no-untyped-def]
    *tensors, reset, starts = ctx.saved_tensors
    grad = torch.zeros_like(tensors[0]) if grad is None else grad
    *gradients, h0_grad = _scan_backward(grad, last_grad, *tensors, reset, starts, ctx.softplus, ctx.negative)
    given = [None if t is None else g.to(t.dtype) for t, g in zip(tensors, gradients, strict=True)]
    return *given, None if ctx.h0_dtype is None else h0_grad.to(ctx.h0_dtype), None, None, None


_scan.register_autograd(_backward, setup_context=_setup_context)


@_scan.register_fake
def _(u: Tensor, delta: Tensor, A: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    last = A.new_empty(u.shape[0], *A.shape, dtype=torch.float32)
    starts = last.new_empty(u.shape[0], -(-u.shape[1] // CHUNK), *A.shape)
    return torch.empty_like(u, memory_format=torch.contiguous_format), last, starts


@_scan_backward.register_fake
def _(
    grad: Tensor, last_grad: Tensor | None, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, *others: Any
) -> tuple[Tensor, ...]:
    z, starts = others[1], others[4]
    like = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in (u, delta, A, B, C)]
    channels = [starts.new_empty(u.shape[2]) for _ in range(2)]
    z_grad = u.new_empty(0) if z is None else torch.empty_like(z, memory_format=torch.contiguous_format)
    return *like, channels[0], z_grad, channels[1], starts.new_empty(u.shape[0], *A.shape)
