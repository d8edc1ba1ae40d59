"""`diagonal_ssm` in chunks of time: three matrix products a channel, and a scan of the states between the chunks.

The derivation is in README.md.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from helixwave_kernels.diagonal_ssm.reference import (
    Discretization,
    diagonal_ssm,
    discretized,
    real_dtype,
    state_dtype,
    with_skip,
)

CHUNK = 64
# inside a chunk with resets, the work is one elementwise product for each lag
CHUNK_WITH_RESETS = 16


@diagonal_ssm.implementation("chunked")
def diagonal_ssm_chunked(
    u: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    dt: Tensor,
    skip: Tensor | None = None,
    *,
    discretization: Discretization = "zoh",
    initial_state: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    if u.shape[1] == 1:  # one token at a time: the tables for a chunk would be all the work
        step = diagonal_ssm.impls["reference"]
        return step(u, A, B, C, dt, skip, discretization=discretization, initial_state=initial_state, reset=reset)
    dtype = state_dtype(u, A, B, C, dt)
    transition, input_map = discretized(A.to(dtype), B.to(dtype), dt.to(dtype), discretization)
    h0 = u.new_zeros(u.shape[0], *A.shape, dtype=dtype) if initial_state is None else initial_state.to(dtype)
    tables = _tables(transition, input_map, C.to(dtype), CHUNK if reset is None else CHUNK_WITH_RESETS)
    inputs = u.to(real_dtype(dtype))
    y, state = _scan(inputs, h0, *tables, reset)
    return with_skip(y, inputs, skip).to(u.dtype), state


class Tables(NamedTuple):
    """What is the same for all chunks; a complex state is two neighbouring real numbers in the products."""

    powers: Tensor  # Abar^0 to Abar^length, complex [D, N, length + 1]
    response: Tensor  # y_l of an impulse, [D, length]
    into_state: Tensor  # from a chunk's inputs to the state at its end, [D, length, 2N]
    from_state: Tensor  # from the state before a chunk to its outputs, [D, 2N, length]


def _tables(transition: Tensor, input_map: Tensor, C: Tensor, length: int) -> Tables:
    powers = torch.ones_like(transition).unsqueeze(-1)
    power = transition.unsqueeze(-1)
    while powers.shape[-1] < length:
        powers, power = torch.cat([powers, powers * power], -1), power * power
    powers = torch.cat([powers, power], -1)
    from_state = 2 * torch.view_as_real((C.unsqueeze(-1) * powers).conj().resolve_conj())  # [D, N, length + 1, 2]
    from_state = from_state.transpose(2, 3).flatten(1, 2)
    weights = torch.view_as_real(input_map.resolve_conj()).flatten(1).unsqueeze(1)
    into_state = torch.view_as_real((input_map.unsqueeze(-1) * powers[..., :-1]).flip(-1).mT.contiguous())
    return Tables(powers, (weights @ from_state[..., :-1]).squeeze(1), into_state.flatten(2), from_state[..., 1:])


class Resets(NamedTuple):
    """Where the state is cleared; all None without resets."""

    hidden: Tensor | None = None  # inputs before a chunk's last reset, [B, K, length]
    document: Tensor | None = None  # how many resets in the chunk before or at a step, [B, K, length]
    cleared: Tensor | None = None  # chunks with a reset, [B, K, 1]

    @property
    def passed(self) -> Tensor | None:
        """Steps from a chunk's first reset on."""
        return None if self.document is None else self.document > 0


# a custom operator: T is no matter of the graph that torch.compile and torch.export see, and little is kept for the
# backward pass
@torch.library.custom_op("helixwave::diagonal_ssm_chunked", mutates_args=())
def _scan(
    u: Tensor,
    h0: Tensor,
    powers: Tensor,
    response: Tensor,
    into_state: Tensor,
    from_state: Tensor,
    reset: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Outputs `[B, T, D]` and the last state `[B, D, N]`."""
    length = response.shape[-1]
    inputs, resets = _chunks(u, length), _resets(reset, length)
    seen, starts = _starts(inputs, h0, powers, into_state, resets)
    if resets.document is None:
        y = _products(_as_real(starts), from_state, _products(inputs, _toeplitz(response)))
    else:
        y = _without(_products(_as_real(starts), from_state), resets.passed)
        _add_within_documents(y, inputs, response, resets.document)
    rest = (u.shape[1] - 1) % length + 1
    last = _without(starts, resets.cleared)[:, :, -1] * powers[..., rest].unsqueeze(1)
    last += _as_complex(_tail(seen, rest) @ into_state)
    return _unchunked(y, u.shape[1]), last.transpose(0, 1).contiguous()


@torch.library.custom_op("helixwave::diagonal_ssm_chunked_backward", mutates_args=())
def _scan_backward(
    grad_y: Tensor,
    grad_state: Tensor,
    u: Tensor,
    h0: Tensor,
    powers: Tensor,
    response: Tensor,
    into_state: Tensor,
    from_state: Tensor,
    reset: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of u, h0, powers, response, into_state and from_state."""
    length, rest = response.shape[-1], (u.shape[1] - 1) % response.shape[-1] + 1
    grads, inputs, resets = _chunks(grad_y, length), _chunks(u, length), _resets(reset, length)
    seen, starts = _starts(inputs, h0, powers, into_state, resets)
    kept = _without(starts, resets.cleared)
    last = grad_state.transpose(0, 1).contiguous()

    # the states before the chunks, from the end
    outside = _without(grads, resets.passed)
    grad_starts = _as_complex(_products(outside, from_state.mT))
    cleared_last = None if resets.cleared is None else resets.cleared[:, -1]
    grad_starts[:, :, -1] += _without(last * powers[..., rest].conj().unsqueeze(1), cleared_last)
    carried = _carry_backward(grad_starts, powers[..., -1], resets.cleared)
    added = torch.cat([carried[:, :, 1:], torch.zeros_like(carried[:, :, :1])], dim=2)

    # the tables
    grad_powers = torch.zeros_like(powers, memory_format=torch.contiguous_format)
    grad_powers[..., rest] += (last * kept[:, :, -1].conj()).sum(1)
    grad_powers[..., -1] += (added * kept.conj()).sum((1, 2))
    grad_into = _correlation(seen, _as_real(added)) + _tail(seen, rest).mT @ _as_real(last)
    grad_from = _correlation(_as_real(starts), outside)

    # the inputs
    grad_seen = _products(_as_real(added), into_state.mT)
    grad_seen[:, :, -1, :rest] += (_as_real(last) @ into_state.mT)[..., length - rest :]
    grad_u = _without(grad_seen, resets.hidden)
    if resets.document is None:
        grad_u = _products(grads, _toeplitz(response).mT, grad_u)
        grad_response = _sums_of_diagonals(_correlation(inputs, grads))
    else:
        grad_response = _add_within_documents_backward(grad_u, grads, inputs, response, resets.document)
    h0_grad = carried[:, :, 0].transpose(0, 1).contiguous()
    return _unchunked(grad_u, u.shape[1]), h0_grad, grad_powers, grad_response, grad_into, grad_from


def _starts(inputs: Tensor, h0: Tensor, powers: Tensor, into_state: Tensor, resets: Resets) -> tuple[Tensor, Tensor]:
    """What of the inputs gets to the end of its chunk, and the states before the chunks, complex `[D, B, K, N]`."""
    seen = _without(inputs, resets.hidden)
    added = _as_complex(_products(seen, into_state))
    return seen, _carry(added, h0.transpose(0, 1), powers[..., -1], resets.cleared)


def _chunks(u: Tensor, length: int) -> Tensor:  # [B, T, D] -> [D, B, K, length], zeros at the end
    padded = F.pad(u.permute(2, 0, 1), (0, -u.shape[1] % length))
    return padded.unflatten(-1, (-1, length)).contiguous()


def _unchunked(y: Tensor, T: int) -> Tensor:  # [D, B, K, length] -> [B, T, D]
    return y.flatten(2)[..., :T].permute(1, 2, 0).contiguous()


def _tail(inputs: Tensor, rest: int) -> Tensor:
    """The first inputs of the last chunk moved to its end, as if it were full; `[D, B, length]`."""
    return F.pad(inputs[:, :, -1, :rest], (inputs.shape[-1] - rest, 0))


def _resets(reset: Tensor | None, length: int) -> Resets:
    if reset is None:
        return Resets()
    resets = _chunks(reset.unsqueeze(-1), length)[0]
    document = resets.long().cumsum(-1)
    return Resets(document < document[..., -1:], document, resets.any(-1, keepdim=True))


def _without(values: Tensor, hidden: Tensor | None) -> Tensor:
    """Zero where hidden; filled, not multiplied, so that no NaN stays."""
    return values if hidden is None else values.masked_fill(hidden, 0)


def _as_complex(states: Tensor) -> Tensor:
    return torch.view_as_complex(states.unflatten(-1, (-1, 2)))


def _as_real(states: Tensor) -> Tensor:
    return torch.view_as_real(states).flatten(-2)


def _products(rows: Tensor, table: Tensor, more: Tensor | None = None) -> Tensor:
    """`[D, B, K, m]` times `[D, m, n]`, plus more `[D, B, K, n]`."""
    flat = rows.flatten(1, 2)
    products = flat @ table if more is None else torch.baddbmm(more.flatten(1, 2), flat, table)
    return products.unflatten(1, rows.shape[1:3])


def _correlation(rows: Tensor, others: Tensor) -> Tensor:
    """`[D, m, n]`, the sum over B and K of products of `[D, B, K, m]` and `[D, B, K, n]`."""
    return rows.flatten(1, 2).mT @ others.flatten(1, 2)


def _toeplitz(response: Tensor) -> Tensor:
    """`[D, from, to]`, the response at the lag `to - from`, zero where that is negative."""
    length = response.shape[-1]
    return F.pad(response, (length - 1, 0)).unfold(-1, length, 1).flip(-2)


def _sums_of_diagonals(matrix: Tensor) -> Tensor:
    """The gradient of `_toeplitz`: a row read with one column less moves by one against the row before."""
    length = matrix.shape[-1]
    rows = F.pad(matrix.flip(-2), (0, length)).flatten(-2)[..., :-length]
    return rows.unflatten(-1, (length, 2 * length - 1)).sum(-2)[..., length - 1 :]


def _carry(x: Tensor, h0: Tensor, decay: Tensor, cleared: Tensor | None) -> Tensor:
    """`h_{k+1} = decay h_k + x_k` from h_0 on, for x and h `[D, B, K, N]`; h_k goes on as 0 where cleared."""
    h = torch.empty_like(x)
    h[:, :, 0] = h0
    for k, (now, later, x_k) in enumerate(zip(h.unbind(2), h.unbind(2)[1:], x.unbind(2), strict=False)):
        torch.addcmul(x_k, decay.unsqueeze(1), _without(now, None if cleared is None else cleared[:, k]), out=later)
    return h


def _carry_backward(g: Tensor, decay: Tensor, cleared: Tensor | None) -> Tensor:
    """`g_k += conj(decay) g_{k+1}`, in place."""
    decay = decay.conj().resolve_conj().unsqueeze(1)
    steps = g.unbind(2)
    for k in reversed(range(len(steps) - 1)):
        steps[k].addcmul_(decay, _without(steps[k + 1], None if cleared is None else cleared[:, k]))
    return g


def _add_within_documents(y: Tensor, u: Tensor, response: Tensor, document: Tensor) -> None:
    """The response to the inputs of the same chunk and document, lag by lag."""
    length = u.shape[-1]
    for lag, weight in enumerate(response[:, None, None, None].unbind(-1)):
        earlier = _without(u[..., : length - lag], _other(document, lag))
        y[..., lag:].addcmul_(weight, earlier)


def _add_within_documents_backward(
    grad_u: Tensor, grad_y: Tensor, u: Tensor, response: Tensor, document: Tensor
) -> Tensor:
    """Adds to the gradient of u, and returns that of the response."""
    length, grad_response = u.shape[-1], torch.empty_like(response)
    for lag, weight in enumerate(response[:, None, None, None].unbind(-1)):
        later, other = grad_y[..., lag:], _other(document, lag)
        grad_u[..., : length - lag].addcmul_(weight, _without(later, other))
        grad_response[:, lag] = (later * _without(u[..., : length - lag], other)).sum((1, 2, 3))
    return grad_response


def _other(document: Tensor, lag: int) -> Tensor:
    """Whether the step `lag` earlier belongs to another document."""
    return document[..., lag:] != document[..., : document.shape[-1] - lag]


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs)
    ctx.set_materialize_grads(False)


def _backward(ctx, grad_y, grad_state):  # type: ignore[no-untyped-def]
    u, h0, *_ = ctx.saved_tensors
    grad_y = torch.zeros_like(u) if grad_y is None else grad_y
    grad_state = torch.zeros_like(h0) if grad_state is None else grad_state
    return *_scan_backward(grad_y, grad_state, *ctx.saved_tensors), None


_scan.register_autograd(_backward, setup_context=_setup_context)


@_scan.register_fake
def _(u, h0, *_):  # type: ignore[no-untyped-def]
    return u.new_empty(u.shape), h0.new_empty(h0.shape)


@_scan_backward.register_fake
def _(grad_y, grad_state, *inputs):  # type: ignore[no-untyped-def]
    *differentiable, _ = inputs
    return tuple(value.new_empty(value.shape) for value in differentiable)
