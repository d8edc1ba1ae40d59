"""`selective_scan` in C: one pass over the inputs in each direction, the states in registers and in the cache.

Softplus, bias, skip and gate are part of the pass. What is kept for the backward pass are the inputs and one state in
`CHUNK`. Channels go in blocks of `LANES`: parameters and states are packed as `[block, N, LANES]`.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from helixwave_kernels import memory, native
from helixwave_kernels.selective_scan.reference import selective_scan
from helixwave_kernels.shapes import compute_dtype

# as in selective_scan.c and machine.h
CHUNK, MOST_BLOCKS, LANES = 32, 4, 16


def _accepts(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    skip: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    *,
    initial_state: Tensor | None = None,
    **others: object,
) -> str | None:
    return native.refusal(u, delta, A, B, C, skip, z, delta_bias, initial_state)


@selective_scan.implementation("native", accepts=_accepts)
def selective_scan_native(
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
    tensors = [u, delta, A, *_same_groups(B, C), skip, z, delta_bias, initial_state]
    tensors = [None if tensor is None else tensor.to(compute_dtype(u)) for tensor in tensors]
    keep = torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)
    y, state, _ = _scan(*tensors, reset, softplus, negative_eigenvalues, keep)
    return y.to(u.dtype), state


def _same_groups(B: Tensor, C: Tensor) -> Iterator[Tensor]:
    """The maps with as many groups as both have in common, where both have several."""
    G = math.lcm(*(max(1, _n_group(map_)) for map_ in (B, C)))
    for map_ in (B, C):
        yield map_ if _n_group(map_) in (0, 1, G) else map_.repeat_interleave(G // map_.shape[2], 2)


def _n_group(map_: Tensor) -> int:
    """How many groups of channels a map tells apart; 0 for one that differs by channel and not in time."""
    return map_.shape[2] if map_.ndim == 4 else map_.ndim - 2


def _pack(tensor: Tensor, G: int) -> Tensor:
    """`[..., D, N]` -> `[..., block, N, LANES]`; the channels of a group fill blocks, N a multiple of four."""
    *batch, D, N = tensor.shape
    tensor = F.pad(tensor.reshape(*batch, G, D // G, N), (0, -N % 4, 0, -(D // G) % LANES))
    return tensor.reshape(*batch, -1, LANES, tensor.shape[-1]).mT.contiguous()


def _unpack(packed: Tensor, G: int, D: int, N: int) -> Tensor:
    """The reverse of `_pack`, in memory of its own."""
    *batch, _, _, _ = packed.shape
    channels = packed.mT[..., :N].reshape(*batch, G, -1, N)[..., : D // G, :]
    return channels.reshape(*batch, D, N).clone(memory_format=torch.contiguous_format)


def _pack_parameter(tensor: Tensor | None, G: int) -> Tensor | None:
    """`[D]` -> `[block, LANES]`."""
    return None if tensor is None else F.pad(tensor.reshape(G, -1), (0, -(len(tensor) // G) % LANES)).contiguous()


def _unpack_parameter(packed: Tensor, G: int, D: int) -> Tensor:
    return packed.reshape(G, -1)[:, : D // G].reshape(D)


def _pack_map(map_: Tensor, G: int) -> Tensor:
    return _pack(map_, G) if map_.ndim == 2 else map_.contiguous()


def _sizes(u: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[int, ...]:
    """Batch, T, D, N; the groups of all, of B and of C; and how many blocks are a row of work."""
    groups = _n_group(B), _n_group(C)
    G = max(1, *groups)
    n_block = -(-u.shape[2] // G // LANES)
    wide_rows = u.shape[0] * G * -(-n_block // MOST_BLOCKS)
    return *u.shape, A.shape[1], G, *groups, MOST_BLOCKS if wide_rows >= torch.get_num_threads() else 1


@torch.library.custom_op("helixwave::selective_scan_native", mutates_args=())
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
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """y, the last state and, to `keep`, the packed states between chunks."""
    sizes = _sizes(u, A, B, C)
    _, T, D, N, G, *_ = sizes
    u, delta, z, reset = native.contiguous(u, delta, z, reset)
    packed = _pack(A, G), _pack_map(B, G), _pack_map(C, G), _pack_parameter(skip, G), z, _pack_parameter(bias, G)
    between = memory.empty(-(-T // CHUNK) + 1 if keep else 1, len(u), *packed[0].shape, like=u)
    between[0] = 0 if h0 is None else _pack(h0, G)
    y = memory.empty_like(u)
    native.call("selective_scan_forward", y, between, u, delta, *packed, reset, *sizes, softplus, negative, keep)
    state = _unpack(between[-1], G, D, N)
    return y, state, between if keep else u.new_empty(0)


@torch.library.custom_op("helixwave::selective_scan_native_backward", mutates_args=())
def _scan_backward(
    grad_y: Tensor,
    grad_state: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    skip: Tensor | None,
    z: Tensor | None,
    bias: Tensor | None,
    reset: Tensor | None,
    between: Tensor,
    softplus: bool,
    negative: bool,
) -> list[Tensor]:
    """Gradients of u, delta, A, B, C, skip, bias, h0 and, if it is given, z."""
    sizes = _sizes(u, A, B, C)
    n_batch, T, D, N, G, *groups, blocks_in_row = sizes
    grad_y, u, delta, z, reset = native.contiguous(grad_y, u, delta, z, reset)
    packed = _pack(A, G), _pack_map(B, G), _pack_map(C, G), _pack_parameter(skip, G), z, _pack_parameter(bias, G)
    n_block = len(packed[0])
    grad_u, grad_delta = memory.empty_like(u), memory.empty_like(u)
    grad_z = None if z is None else memory.empty_like(u)
    grad_A, carry = u.new_zeros(n_batch, *packed[0].shape), _pack(grad_state, G)
    grad_skip, grad_bias = u.new_zeros(2, n_batch, n_block, LANES).unbind()
    n_row = -(-n_block // G // blocks_in_row)
    grad_maps = [memory.empty(n_row, n_batch, T, G, N, like=u) if n else torch.zeros_like(grad_A) for n in groups]
    grads = grad_u, grad_delta, grad_A, *grad_maps, grad_skip, grad_z, grad_bias, carry
    native.call(
        "selective_scan_backward", *grads, grad_y, between, u, delta, *packed, reset, *sizes, softplus, negative
    )
    grad_B, grad_C = (_map_gradient(grad, map_, G, D) for grad, map_ in zip(grad_maps, (B, C), strict=True))
    grad_A = _unpack(grad_A.sum(0), G, D, N)
    grad_skip, grad_bias = (_unpack_parameter(grad.sum(0), G, D) for grad in (grad_skip, grad_bias))
    results = [grad_u, grad_delta, grad_A, grad_B, grad_C, grad_skip, grad_bias, _unpack(carry, G, D, N)]
    return results if grad_z is None else [*results, grad_z]


def _map_gradient(parts: Tensor, map_: Tensor, G: int, D: int) -> Tensor:
    """The sum of the parts `[row, B, T, G, N]`, or packed `[B, block, N, LANES]` of a map that is constant in time."""
    if map_.ndim == 2:
        return _unpack(parts.sum(0), G, D, map_.shape[1])
    if _n_group(map_) == 1:
        return parts.sum((0, 3)).view(map_.shape)
    return parts.sum(0)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, _, reset, ctx.softplus, ctx.negative, _ = inputs
    ctx.save_for_backward(*tensors, reset, output[2])


def _backward(ctx, grad_y, grad_state, _):  # type: ignore[no-untyped-def]
    *tensors, reset, between = ctx.saved_tensors
    grads = _scan_backward(grad_y, grad_state, *tensors, reset, between, ctx.softplus, ctx.negative)
    *maps, skip, bias, h0 = grads[:8]
    z = grads[8] if len(grads) > 8 else None
    wanted = zip((*maps, skip, z, bias, h0), ctx.needs_input_grad, strict=False)
    return *(grad if needed else None for grad, needed in wanted), None, None, None, None


_scan.register_autograd(_backward, setup_context=_setup_context)


@_scan.register_fake
def _(u, delta, A, B, C, skip, z, bias, h0, reset, softplus, negative, keep):  # type: ignore[no-untyped-def]
    n_batch, T, D, N, G, *_ = _sizes(u, A, B, C)
    n_block, width = G * -(-D // G // LANES), N + -N % 4
    between = u.new_empty(-(-T // CHUNK) + 1, n_batch, n_block, width, LANES) if keep else u.new_empty(0)
    return u.new_empty(u.shape), u.new_empty(n_batch, D, N), between


@_scan_backward.register_fake
def _(grad_y, grad_state, u, delta, A, B, C, skip, z, *_):  # type: ignore[no-untyped-def]
    parameters = u.new_empty(u.shape[2]), u.new_empty(u.shape[2]), u.new_empty(grad_state.shape)
    results = [*(tensor.new_empty(tensor.shape) for tensor in (u, delta, A, B, C)), *parameters]
    return results if z is None else [*results, u.new_empty(u.shape)]
