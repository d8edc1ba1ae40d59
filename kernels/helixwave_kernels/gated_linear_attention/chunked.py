"""`gated_linear_attention` as matrix products over chunks of 64 steps; the derivation is in README.md.

With one decay for each head it is `ssd`. With one for each key dimension the decay from step j to step i splits at a
boundary between them into a product that belongs to j and one that belongs to i. A chunk is halved again and again;
each halving gives the boundary for the pairs on both sides of it. Nothing is divided by a decay, so none is too strong.

Inside, one row is one head of one sequence: q and k are `[rows, T, K]`, v `[rows, T, V]`, states `[rows, K, V]`.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from helixwave_kernels import memory
from helixwave_kernels.gated_linear_attention.reference import gated_linear_attention, scaled
from helixwave_kernels.shapes import compute_dtype
from helixwave_kernels.ssd.chunked import ssd_chunked, step_gradients
from helixwave_kernels.ssd.pieces import (
    CHUNK,
    blocks,
    chunks,
    cleared,
    forgotten,
    n_states,
    passed_on,
    piece_length,
    put_chunks,
)


@gated_linear_attention.implementation("chunked")
def gated_linear_attention_chunked(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    *,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    dtype = compute_dtype(q)
    v, log_decay, k, q_scaled = (tensor.to(dtype) for tensor in (v, log_decay, k, scaled(q.to(dtype), scale)))
    if log_decay.ndim == 3:
        y, S = ssd_chunked(v, log_decay, k, q_scaled, initial_state=initial_state, reset=reset)
        return y.to(q.dtype), S
    n_batch, _, H, K = q.shape
    S0 = v.new_zeros(n_batch, H, K, v.shape[-1]) if initial_state is None else initial_state.to(dtype)
    rows = (_rows(tensor) for tensor in (q_scaled, k, v, cleared(log_decay, reset)))
    y, S, _ = _attend(*rows, S0.flatten(0, 1).contiguous())
    return y.unflatten(0, (-1, H)).transpose(1, 2).to(q.dtype), S.unflatten(0, (-1, H))


def _rows(tensor: Tensor) -> Tensor:  # [B, T, H, ...] -> [B * H, T, ...]
    return tensor.transpose(1, 2).flatten(0, 1).contiguous()


# a custom operator, so that torch.compile and torch.export see one node and not the unrolled loop
@torch.library.custom_op("helixwave::gated_linear_attention_chunked", mutates_args=())
def _attend(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, S0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """y, the last state, and the states `[pieces + 1, rows, K, V]` before each piece and at the end."""
    n_row, T, _ = q.shape
    length = _piece_length(q, v)
    y, state = memory.empty_like(v), torch.empty_like(S0)
    between = memory.empty(n_states(T, length), *S0.shape, like=S0)
    for rows, pieces in blocks(n_row, T, length):
        S = S0[rows]
        for before, steps in zip(between[:-1, rows], pieces, strict=True):
            before.copy_(S)
            y_part, S = _part(S, *_chunks(rows, steps, q, k, v, log_decay))
            put_chunks(y[rows, steps], y_part)
        state[rows] = between[-1, rows] = S
    return y, state, between


@torch.library.custom_op("helixwave::gated_linear_attention_chunked_backward", mutates_args=())
def _attend_backward(
    grad_y: Tensor, grad_state: Tensor, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, between: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, log_decay and S0: the chunks of each piece are computed again, the last piece first."""
    n_row, T, _ = q.shape
    inputs = (q, k, v, log_decay)
    grads = tuple(memory.empty_like(tensor) for tensor in inputs)
    grad_S0 = torch.empty_like(grad_state)
    for rows, pieces in blocks(n_row, T, _piece_length(q, v)):
        grad_S = grad_state[rows]
        for before, steps in reversed(list(zip(between[:-1, rows], pieces, strict=True))):
            *of_part, grad_S = _part_backward(before, grad_S, *_chunks(rows, steps, grad_y, *inputs))
            for grad, of_chunks in zip(grads, of_part, strict=True):
                put_chunks(grad[rows, steps], of_chunks)
        grad_S0[rows] = grad_S
    grad_q, grad_k, grad_v, grad_log_decay = grads
    return grad_q, grad_k, grad_v, grad_log_decay, grad_S0


def _piece_length(q: Tensor, v: Tensor) -> int:
    return piece_length(max(q.shape[2], v.shape[2]))


def _chunks(rows: slice, steps: slice, *tensors: Tensor) -> list[Tensor]:
    """Chunks `[n, Q, ...]` of a piece; they are halved down to one step, so that Q is a power of two."""
    Q = min(CHUNK, 1 << (tensors[0].shape[1] - 1).bit_length())
    return [chunks(tensor[rows, steps], Q) for tensor in tensors]


def _part(S: Tensor, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs of the chunks, and the states after them."""
    from_start, to_end = log_decay.exp(), torch.ones_like(log_decay)
    scores = torch.diag_embed((q * k).sum(-1))
    for m, later, earlier in _halvings(q, k, from_start, to_end):
        _between(scores, m).copy_(later @ earlier.mT)
    across = from_start[:, -1].unsqueeze(-1)
    starts, S = passed_on(_sums_of_products(k, v, to_end, across), across, S)
    y = forgotten(torch.bmm(q * from_start, starts), from_start, across, rows=True)
    return y.baddbmm_(scores, v), S


def _part_backward(
    S: Tensor, grad_S: Tensor, grad_y: Tensor, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor
) -> tuple[Tensor, ...]:
    """Gradients of q, k, v and log_decay of the chunks, and of the states before the first ones."""
    from_start, to_end = log_decay.exp(), torch.ones_like(log_decay)
    scores = torch.diag_embed((q * k).sum(-1))
    grad_scores = torch.bmm(grad_y, v.mT)
    grad_q, grad_k = torch.zeros_like(q), torch.zeros_like(k)
    for m, later, earlier in _halvings(q, k, from_start, to_end):
        _between(scores, m).copy_(later @ earlier.mT)
        grad = _between(grad_scores, m)
        _half(grad_q, m, 1).addcmul_(_combined(grad, earlier), _half(from_start, m, 1))
        _half(grad_k, m, 0).addcmul_(_combined(grad.mT, later), _half(to_end, m, 0))
    across = from_start[:, -1].unsqueeze(-1)
    starts, _ = passed_on(_sums_of_products(k, v, to_end, across), across, S)
    ends, grad_S0 = passed_on(_sums_of_products(q, grad_y, from_start, across), across, grad_S, reverse=True)
    grad_v = forgotten(torch.bmm(k * to_end, ends), to_end, across, rows=True).baddbmm_(scores.mT, grad_y)
    grad_written = forgotten(torch.bmm(v, ends.mT).mul_(to_end), to_end, across)
    grad_q += forgotten(torch.bmm(grad_y, starts.mT).mul_(from_start), from_start, across)
    # gradients of the logarithms of from_start (and its inverse, inside the chunk), to_end and across
    grad_leaving = (q * grad_q).addcmul_(k, grad_k, value=-1)
    grad_across = forgotten(across * (starts * ends).sum(-1, keepdim=True), across, across).mT
    grad_log_decay = step_gradients(grad_leaving, k * grad_written, grad_across)
    # on the diagonal there is no decay
    diagonal = grad_scores.diagonal(dim1=1, dim2=2).unsqueeze(-1)
    grad_q.addcmul_(diagonal, k)
    grad_k.addcmul_(diagonal, q).add_(grad_written)
    return grad_q, grad_k, grad_v, grad_log_decay, grad_S0


def _halvings(q: Tensor, k: Tensor, from_start: Tensor, to_end: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """For blocks of 2m steps, m = 1, 2, 4, ...: queries of the later and keys of the earlier half, at their boundary.

    The decays from a block's start to each of its steps, and from each step to its end, begin as the decays and as
    ones for blocks of a single step. They grow in place, and in the end are those of the whole chunk.
    """
    m = 1
    while m < q.shape[1]:
        from_earlier, from_later = _half(from_start, m, 0), _half(from_start, m, 1)
        to_boundary = _half(to_end, m, 0)
        yield m, _half(q, m, 1) * from_later, _half(k, m, 0) * to_boundary
        to_boundary.mul_(from_later[:, :, -1:])
        from_later.mul_(from_earlier[:, :, -1:])
        m *= 2


def _sums_of_products(k: Tensor, v: Tensor, decay: Tensor, across: Tensor) -> Tensor:
    """What each chunk adds to a state `[n, K, V]`: the products of its decayed keys and its values."""
    return torch.bmm(forgotten(k * decay, decay, across).mT, forgotten(v, decay, across, rows=True))


def _half(tensor: Tensor, m: int, half: int) -> Tensor:
    """The earlier (0) or later (1) half of each block of 2m steps: `[n, Q, ...]` as `[n, Q / 2m, m, ...]`."""
    return tensor.unflatten(1, (-1, 2, m))[:, :, half]


def _between(scores: Tensor, m: int) -> Tensor:
    """The scores `[n, Q / 2m, m, m]` of the later halves' steps with those of the earlier halves."""
    blocks = scores.unflatten(2, (-1, 2, m)).unflatten(1, (-1, 2, m))
    return blocks[:, :, 1, :, :, 0].diagonal(dim1=1, dim2=3).movedim(-1, 1)


def _combined(weights: Tensor, vectors: Tensor) -> Tensor:
    """The product of weights `[n, pairs, m, m]` and vectors `[n, pairs, m, K]`."""
    if weights.shape[-1] > 2:
        return weights @ vectors
    # a batched product of such small matrices takes several times as long
    (w, x), *others = zip(weights.split(1, dim=-1), vectors.split(1, dim=-2), strict=True)
    product = w * x
    for w, x in others:
        product.addcmul_(w, x)
    return product


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    *tensors, _ = inputs
    _, state, between = output
    ctx.save_for_backward(*tensors, between)
    ctx.set_materialize_grads(False)
    ctx.state_shape = state.shape


def _backward(ctx, grad_y, grad_state, _):  # type: ignore[no-untyped-def]
    v = ctx.saved_tensors[2]
    grad_y = torch.zeros_like(v) if grad_y is None else grad_y.contiguous()
    grad_state = v.new_zeros(ctx.state_shape) if grad_state is None else grad_state.contiguous()
    return _attend_backward(grad_y, grad_state, *ctx.saved_tensors)


_attend.register_autograd(_backward, setup_context=_setup_context)


@_attend.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, S0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    between = S0.new_empty(n_states(q.shape[1], _piece_length(q, v)), *S0.shape)
    return torch.empty_like(v), torch.empty_like(S0), between


@_attend_backward.register_fake
def _(grad_y, grad_state, q, k, v, log_decay, between):  # type: ignore[no-untyped-def]
    return tuple(torch.empty_like(tensor) for tensor in (q, k, v, log_decay, grad_state))
