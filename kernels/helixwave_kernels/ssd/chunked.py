"""`ssd` as matrix products over chunks of 64 steps; the derivation is in README.md.

Inside, one row is one group of heads of one sequence: x and y are `[rows, T, R, P]` for R heads in a group, B and C
`[rows, T, N]`, states `[rows, N, R, P]`. All heads of a group share the maps, so that a product with a map takes all
of them at once, and `C B^T` is computed once.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from helixwave_kernels import memory
from helixwave_kernels.shapes import compute_dtype
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
from helixwave_kernels.ssd.reference import ssd


@ssd.implementation("chunked")
def ssd_chunked(
    x: Tensor,
    log_decay: Tensor,
    B: Tensor,
    C: Tensor,
    *,
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    dtype = compute_dtype(x)
    (n_batch, _, H, P), (G, N) = x.shape, B.shape[2:]
    h0 = x.new_zeros(n_batch, H, N, P, dtype=dtype) if initial_state is None else initial_state.to(dtype)
    y, h, _ = _scan(
        _rows(x.to(dtype).unflatten(2, (G, -1))),
        _rows(cleared(log_decay.to(dtype), reset).unflatten(2, (G, -1))),
        _rows(B.to(dtype)),
        _rows(C.to(dtype)),
        h0.unflatten(1, (G, -1)).transpose(2, 3).flatten(0, 1).contiguous(),
    )
    y = y.unflatten(0, (-1, G)).transpose(1, 2).flatten(2, 3)
    return y.to(x.dtype), h.unflatten(0, (-1, G)).transpose(2, 3).flatten(1, 2)


def _rows(tensor: Tensor) -> Tensor:  # [B, T, G, ...] -> [B * G, T, ...]
    return tensor.transpose(1, 2).flatten(0, 1).contiguous()


# a custom operator, so that torch.compile and torch.export see one node and not the unrolled loop
@torch.library.custom_op("helixwave::ssd_chunked", mutates_args=())
def _scan(x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, h0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """y, the last state, and the states `[pieces + 1, rows, N, R, P]` before each piece and at the end."""
    n_row, T, *sizes = x.shape
    length = piece_length(*sizes)
    y, state = memory.empty_like(x), torch.empty_like(h0)
    between = memory.empty(n_states(T, length), *h0.shape, like=x)
    for rows, pieces in blocks(n_row, T, length):
        h = h0[rows]
        for before, steps in zip(between[:-1, rows], pieces, strict=True):
            before.copy_(h)
            part = _part(x, log_decay, B, C, rows, steps)
            starts, h = _starts(part, h)
            put_chunks(y[rows, steps], _outputs(part, starts))
        state[rows] = between[-1, rows] = h
    return y, state, between


@torch.library.custom_op("helixwave::ssd_chunked_backward", mutates_args=())
def _scan_backward(
    grad_y: Tensor, grad_state: Tensor, x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, between: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, log_decay, B, C and h0: the chunks of each piece are computed again, the last piece first."""
    n_row, T, *sizes = x.shape
    inputs = (x, log_decay, B, C)
    grads = tuple(memory.empty_like(tensor) for tensor in inputs)
    grad_h0 = torch.empty_like(grad_state)
    for rows, pieces in blocks(n_row, T, piece_length(*sizes)):
        grad_h = grad_state[rows]
        for before, steps in reversed(list(zip(between[:-1, rows], pieces, strict=True))):
            part = _part(*inputs, rows, steps)
            grad_part = chunks(grad_y[rows, steps], part.x.shape[1])
            *of_part, grad_h = _part_backward(part, _starts(part, before)[0], grad_part, grad_h)
            for grad, of_chunks in zip(grads, of_part, strict=True):
                put_chunks(grad[rows, steps], of_chunks)
        grad_h0[rows] = grad_h
    grad_x, grad_log_decay, grad_B, grad_C = grads
    return grad_x, grad_log_decay, grad_B, grad_C, grad_h0


class _Part(NamedTuple):
    """The chunks of a piece; decays from the start of its chunk to each step, from there to its end, and across it."""

    x: Tensor  # [n, Q, R, P]
    B: Tensor  # [n, Q, N]
    C: Tensor
    from_start: Tensor  # [n, Q, R, 1]
    to_end: Tensor
    across: Tensor  # [n, 1, R, 1]
    decays: Tensor  # [n, R, Q, Q], from step j to step i >= j
    scores: Tensor  # [n, Q, Q]


def _part(x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, rows: slice, steps: slice) -> _Part:
    Q = min(CHUNK, x.shape[1])
    x, log_decay, B, C = (chunks(tensor[rows, steps], Q) for tensor in (x, log_decay, B, C))
    whole, rest = chunk_sums(log_decay)
    from_start = (whole + rest).exp_().unsqueeze(-1)
    to_end = ((whole[:, -1:] - whole) + (rest[:, -1:] - rest)).exp_().unsqueeze(-1)
    decays = _decays(whole.mT.contiguous(), rest.mT.contiguous())
    return _Part(x, B, C, from_start, to_end, from_start[:, -1:], decays, torch.bmm(C, B.mT))


def chunk_sums(log_decay: Tensor) -> tuple[Tensor, Tensor]:
    """Cumulative sums over axis 1 as a whole number and a rest: a difference of two of them loses no digits."""
    rounded = log_decay.round()
    rest = (log_decay - rounded).cumsum(1)
    carry = rest.round()
    return rounded.cumsum(1) + carry, rest - carry


def _decays(whole: Tensor, rest: Tensor) -> Tensor:
    sums = whole.unsqueeze(-1) - whole.unsqueeze(-2)
    # above the diagonal the exponential may overflow, and is overwritten
    return sums.add_(rest.unsqueeze(-1)).sub_(rest.unsqueeze(-2)).exp_().tril_()


def _starts(part: _Part, h: Tensor) -> tuple[Tensor, Tensor]:
    """The states `[n, N, R, P]` before each chunk, and the last ones `[rows, N, R, P]`."""
    written = forgotten(part.x * part.to_end, part.to_end, part.across)
    added = torch.bmm(part.B.mT, written.flatten(2)).view(-1, *h.shape[1:])
    return passed_on(added, part.across, h)


def _outputs(part: _Part, starts: Tensor) -> Tensor:
    y = torch.bmm(part.C, starts.flatten(2)).view(part.x.shape).mul_(part.from_start)
    y = forgotten(y, part.from_start, part.across)
    weights = part.decays.mul_(part.scores.unsqueeze(1))
    for y_r, weights_r, x_r in zip(y.unbind(2), weights.unbind(1), part.x.unbind(2), strict=True):
        y_r.baddbmm_(weights_r, x_r)
    return y


def _part_backward(part: _Part, starts: Tensor, grad_y: Tensor, grad_h: Tensor) -> tuple[Tensor, ...]:
    """Gradients of x, log_decay, B and C of the chunks, and of the states before the first ones."""
    x, B, C, from_start, to_end, across, decays, scores = part
    grad_reading = forgotten(grad_y * from_start, from_start, across)
    added = torch.bmm(C.mT, grad_reading.flatten(2)).view(starts.shape)
    ends, grad_h0 = passed_on(added, across, grad_h, reverse=True)
    grad_x = forgotten(torch.bmm(B, ends.flatten(2)).view(x.shape).mul_(to_end), to_end, across)
    # gradients of the logarithms of to_end, from_start and across
    grad_entering = (x * grad_x).sum(-1)
    grad_leaving = torch.bmm(C, starts.flatten(2)).view(x.shape).mul_(grad_reading)
    grad_leaving = forgotten(grad_leaving, from_start, across).sum(-1)
    grad_across = across.squeeze(-1) * (starts * ends).sum((1, 3)).unsqueeze(1)
    grad_across = forgotten(grad_across, across.squeeze(-1), across)
    weights, grad_weights = decays * scores.unsqueeze(1), torch.empty_like(decays)
    heads = (x.unbind(2), grad_y.unbind(2), grad_x.unbind(2), weights.unbind(1), grad_weights.unbind(1))
    for x_r, grad_y_r, grad_x_r, weights_r, grad_weights_r in zip(*heads, strict=True):
        grad_x_r.baddbmm_(weights_r.mT, grad_y_r)
        torch.bmm(grad_y_r, x_r.mT, out=grad_weights_r)
    grad_scores = grad_weights.mul_(decays).sum(1)
    written = forgotten(x * to_end, to_end, across)
    grad_B = forgotten(torch.bmm(written.flatten(2), ends.flatten(2).mT), to_end.squeeze(-1), across, rows=True)
    grad_B.baddbmm_(grad_scores.mT, C)
    grad_C = forgotten(
        torch.bmm(grad_reading.flatten(2), starts.flatten(2).mT), from_start.squeeze(-1), across, rows=True
    )
    grad_C.baddbmm_(grad_scores, B)
    # without the diagonal, on which no decay lies
    grad_decays = grad_weights.mul_(scores.unsqueeze(1)).tril_(-1)
    grad_leaving += (grad_decays.sum(-1) - grad_decays.sum(-2)).mT
    return grad_x, step_gradients(grad_leaving, grad_entering, grad_across), grad_B, grad_C, grad_h0


def step_gradients(grad_leaving: Tensor, grad_entering: Tensor, grad_across: Tensor) -> Tensor:
    """Gradients of the chunks' logarithmic decays `[n, Q, ...]`.

    Args:
        grad_leaving: by the sum from the chunk's start up to each step.
        grad_entering: by the sum after each step up to the chunk's end.
        grad_across: by the sum over the whole chunk, `[n, 1, ...]`.
    """
    entering = F.pad(grad_entering[:, :-1].cumsum(1), (0, 0, 1, 0))
    return grad_leaving.flip(1).cumsum(1).flip(1) + entering + grad_across


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, log_decay, B, C, _ = inputs
    _, state, between = output
    ctx.save_for_backward(x, log_decay, B, C, between)
    ctx.set_materialize_grads(False)
    ctx.state_shape = state.shape


def _backward(ctx, grad_y, grad_state, _):  # type: ignore[no-untyped-def]
    x = ctx.saved_tensors[0]
    grad_y = torch.zeros_like(x) if grad_y is None else grad_y.contiguous()
    grad_state = x.new_zeros(ctx.state_shape) if grad_state is None else grad_state.contiguous()
    return _scan_backward(grad_y, grad_state, *ctx.saved_tensors)


_scan.register_autograd(_backward, setup_context=_setup_context)


@_scan.register_fake
def _(x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, h0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    _, T, *sizes = x.shape
    return torch.empty_like(x), torch.empty_like(h0), x.new_empty(n_states(T, piece_length(*sizes)), *h0.shape)


@_scan_backward.register_fake
def _(grad_y, grad_state, x, log_decay, B, C, between):  # type: ignore[no-untyped-def]
    return tuple(torch.empty_like(tensor) for tensor in (x, log_decay, B, C, grad_state))
