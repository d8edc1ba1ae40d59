"""`linear_scan` in blocks: all blocks step together, then the state is carried from block to block."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from helixwave_kernels import memory
from helixwave_kernels.linear_scan.reference import linear_scan, output_dtype
from helixwave_kernels.shapes import compute_dtype


@linear_scan.implementation("chunked")
def linear_scan_chunked(
    x: Tensor, decay: Tensor, *, initial_state: Tensor | None = None, reset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    if x.shape[1] == 1:  # nothing to gain from blocks
        return linear_scan.impls["reference"](x, decay, initial_state=initial_state, reset=reset)
    dtype = compute_dtype(x, decay)
    decay = decay.to(dtype)
    h0 = torch.zeros_like(x[:, 0], dtype=dtype) if initial_state is None else initial_state.to(dtype)
    h = torch.ops.helixwave.linear_scan_chunked(x.to(dtype), decay, h0, reset)
    return h.to(output_dtype(x, decay)), h[:, -1]


# a custom operator, so that torch.compile and torch.export see one node and not the unrolled loop
@torch.library.custom_op("helixwave::linear_scan_chunked", mutates_args=())
def _scan(x: Tensor, decay: Tensor, h0: Tensor, reset: Tensor | None) -> Tensor:
    T = x.shape[1]
    n_block = math.isqrt(T - 1) + 1
    length = -(-T // n_block)
    h, decay = (_blocks(tensor, n_block, length) for tensor in (x, decay))
    cleared = None if reset is None else _blocks(reset.unsqueeze(-1), n_block, length)
    within = memory.empty_like(decay)  # products of the decays from the block's first step on
    _scan_blocks(h, decay, within, cleared)
    carry = h0
    for block, (h_block, within_block) in enumerate(zip(h.unbind(1), within.unbind(1), strict=True)):
        if cleared is None:
            h_block.addcmul_(within_block, carry.unsqueeze(1))
        else:  # no product with zero, which would let a NaN through
            seen = cleared[:, block].cumsum(1) > 0
            h_block.add_((within_block * carry.unsqueeze(1)).masked_fill(seen, 0))
        carry = h_block[:, -1]
    return h.flatten(1, 2)[:, :T].clone() if n_block * length > T else h.flatten(1, 2)


def _blocks(tensor: Tensor, n_block: int, length: int) -> Tensor:  # [B, T, D] -> [B, n_block, length, D]
    B, T, D = tensor.shape
    blocks = memory.empty(B, n_block * length, D, like=tensor)
    blocks[:, :T] = tensor
    blocks[:, T:] = 0
    return blocks.view(B, n_block, length, D)


def _scan_blocks(h: Tensor, decay: Tensor, within: Tensor, cleared: Tensor | None) -> None:
    within[:, :, 0] = decay[:, :, 0]
    for t in range(1, h.shape[2]):
        h_previous = h[:, :, t - 1]
        if cleared is not None:
            h_previous = h_previous.masked_fill(cleared[:, :, t], 0)
        h[:, :, t].addcmul_(decay[:, :, t], h_previous)
        torch.mul(decay[:, :, t], within[:, :, t - 1], out=within[:, :, t])


@_scan.register_fake
def _(x: Tensor, decay: Tensor, h0: Tensor, reset: Tensor | None) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    _, decay, h0, reset = inputs
    ctx.save_for_backward(decay, h0, reset, output)


def _backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
    """A scan in reverse, `g_t = grad_t + conj(decay_{t+1}) g_{t+1}`; the gradient of decay_t is `g_t conj(h_{t-1})`."""
    decay, h0, reset, h = ctx.saved_tensors
    later = F.pad(decay.conj()[:, 1:], (0, 0, 0, 1)).flip(1)
    later_reset = None if reset is None else F.pad(reset[:, 1:], (0, 1)).flip(1)
    g = _scan(grad.flip(1), later, torch.zeros_like(h0), later_reset).flip(1)
    previous = torch.cat([h0.unsqueeze(1), h[:, :-1]], dim=1)
    grad_h0 = g[:, 0] * decay[:, 0].conj()
    if reset is not None:
        previous = previous.masked_fill(reset.unsqueeze(-1), 0)
        grad_h0 = grad_h0.masked_fill(reset[:, :1], 0)
    return g, g * previous.conj(), grad_h0, None


_scan.register_autograd(_backward, setup_context=_setup_context)
