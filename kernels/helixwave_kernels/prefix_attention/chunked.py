"""`prefix_attention` in chunks: a matrix of weights within each, and sums handed from one chunk to the next.

Inside, tensors are chunk first: scores `[M, Z, C]` and values `[M, Z, C, V]` with M chunks, Z = B * H, C steps. A one
behind each value, `x = [v, 1]`, makes the sum of weights u one more column of w. The derivation is in README.md.
"""

import torch
from torch import Tensor

from helixwave_kernels.prefix_attention.reference import State, empty_state, finite, prefix_attention, scores
from helixwave_kernels.shapes import compute_dtype

CHUNK = 32


@prefix_attention.implementation("chunked")
def prefix_attention_chunked(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float | None = None,
    initial_state: State | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, State]:
    dtype = compute_dtype(k)
    s = scores(q, k, scale)
    m0, u0, w0 = empty_state(k, v) if initial_state is None else (part.to(dtype) for part in initial_state)
    y, _, u, w = _prefix_attention(s, v.to(dtype), reset, m0, u0, w0)
    m = _last_maximum(s, reset, m0)
    # the sums came over a constant maximum; this is 1 and hands their gradient by the maximum on to it
    one = torch.exp(finite(m.detach()) - finite(m))
    return y.to(k.dtype), (m, u * one, w * one[..., None])


def _last_maximum(s: Tensor, reset: Tensor | None, m0: Tensor) -> Tensor:
    if reset is not None:
        resets_after = reset.flip(1).cumsum(1).flip(1) - reset.long()
        s = s.masked_fill(resets_after[..., None] > 0, -torch.inf)
        m0 = m0.masked_fill(reset.any(1, keepdim=True), -torch.inf)
    return torch.maximum(m0, s.amax(1))


# a custom operator, so that torch.compile and torch.export see one node and not the unrolled loop
@torch.library.custom_op("helixwave::prefix_attention_chunked", mutates_args=())
def _prefix_attention(
    s: Tensor, v: Tensor, reset: Tensor | None, m0: Tensor, u0: Tensor, w0: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Outputs, the sum of weights at each step `[B, T, H]`, and the last u and w."""
    weights, kept, cleared = _weights(s, reset, m0)
    sums = weights @ _by_chunk(_with(v, torch.ones_like(s)))
    carry = _with(w0, u0).flatten(0, 1)
    for i, (sum_i, kept_i) in enumerate(zip(sums, kept, strict=True)):
        before = carry.unsqueeze(1) if cleared is None else carry.unsqueeze(1).masked_fill(cleared[i], 0)
        carry = sum_i.addcmul_(kept_i, before)[:, -1]
    sums = _by_time(sums, s)
    w, u = sums[..., :-1], sums[..., -1]
    last = carry.view(*u0.shape, -1)
    return w / _not_zero(u)[..., None], u.contiguous(), last[..., -1].clone(), last[..., :-1].clone()


@torch.library.custom_op("helixwave::prefix_attention_chunked_backward", mutates_args=())
def _prefix_attention_backward(
    grad_y: Tensor,
    grad_u: Tensor,
    grad_w: Tensor,
    s: Tensor,
    v: Tensor,
    reset: Tensor | None,
    m0: Tensor,
    u0: Tensor,
    w0: Tensor,
    y: Tensor,
    u: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of s, v, m0, u0 and w0; the maximum in the returned state counts as a constant."""
    weights, kept, _ = _weights(s, reset, m0)
    # gradients of the sums, at first only as far as the outputs of the same step read them
    dw = grad_y / _not_zero(u)[..., None]
    d_sums = _by_chunk(_with(dw, -(dw * y).sum(-1).masked_fill(u == 0, 0)))
    d_starts = (kept * d_sums).sum(-2)
    carry = _with(grad_w, grad_u).flatten(0, 1)
    for i in reversed(range(len(kept))):
        d_sums[i, :, -1] += carry
        carry = torch.addcmul(d_starts[i], kept[i, :, -1], carry)
    dx = _by_time(weights.mT @ d_sums, s)
    dv, du = dx[..., :-1], dx[..., -1]
    ds = (v * dv).sum(-1) + du
    carry = carry.view(*u0.shape, -1)
    dw0, du0 = carry[..., :-1], carry[..., -1]
    dm0 = (w0 * dw0).sum(-1) + u0 * du0
    return ds, dv.contiguous(), dm0, du0.clone(), dw0.clone()


def _weights(s: Tensor, reset: Tensor | None, m0: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """What each step sees of its chunk's steps `[M, Z, C, C]` and of the chunk's start `[M, Z, C, 1]`, over e^maximum.

    Also where the start has been cleared `[M, Z, C, 1]`, if it ever is.
    """
    chunks = _by_chunk(s, -torch.inf)
    C = chunks.shape[-1]
    unseen = torch.ones(C, C, dtype=torch.bool, device=s.device).triu(1)
    cleared = None
    if reset is not None:
        document = _by_chunk(reset.unsqueeze(-1).expand_as(s)).cumsum(-1)
        unseen = unseen | (document.unsqueeze(-1) != document.unsqueeze(-2))
        cleared = (document > 0).unsqueeze(-1)
    logits = chunks.unsqueeze(-2).masked_fill(unseen, -torch.inf)
    m = logits.amax(-1, keepdim=True)
    start = m0.view(-1, 1, 1)
    starts = []
    for i, m_i in enumerate(m):
        starts.append(start.expand_as(m_i) if cleared is None else start.masked_fill(cleared[i], -torch.inf))
        start = m_i.copy_(torch.maximum(m_i, starts[-1]))[:, -1:]
    m = finite(m)
    return logits.sub_(m).exp_(), torch.stack(starts).sub_(m).exp_(), cleared


def _not_zero(u: Tensor) -> Tensor:
    return u.masked_fill(u == 0, 1)


def _with(w: Tensor, u: Tensor) -> Tensor:  # [..., V] and [...] -> [..., V + 1]
    return torch.cat([w, u.unsqueeze(-1)], -1)


def _by_chunk(tensor: Tensor, fill: float = 0) -> Tensor:
    """`[B, T, H, ...]` to `[M, B * H, C, ...]`, filled up after the end."""
    B, T = tensor.shape[:2]
    C = min(CHUNK, T)
    M = -(-T // C)
    if M * C > T:
        tensor = torch.cat([tensor, tensor.new_full((B, M * C - T, *tensor.shape[2:]), fill)], 1)
    return tensor.unflatten(1, (M, C)).movedim((1, 3), (0, 2)).flatten(1, 2)


def _by_time(chunks: Tensor, like: Tensor) -> Tensor:
    """`[M, B * H, C, ...]` back to `[B, T, H, ...]`."""
    by_time = chunks.unflatten(1, (like.shape[0], -1)).movedim((0, 2), (1, 3)).flatten(1, 2)
    return by_time[:, : like.shape[1]]


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs, *output[:2])


def _backward(ctx, grad_y, _, grad_u, grad_w):  # type: ignore[no-untyped-def]
    ds, dv, dm0, du0, dw0 = _prefix_attention_backward(grad_y, grad_u, grad_w, *ctx.saved_tensors)
    return ds, dv, None, dm0, du0, dw0


_prefix_attention.register_autograd(_backward, setup_context=_setup_context)


@_prefix_attention.register_fake
def _(
    s: Tensor, v: Tensor, reset: Tensor | None, m0: Tensor, u0: Tensor, w0: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return v.new_empty(v.shape), s.new_empty(s.shape), u0.new_empty(u0.shape), w0.new_empty(w0.shape)


@_prefix_attention_backward.register_fake
def _(grad_y, grad_u, grad_w, s, v, reset, m0, u0, w0, *_):  # type: ignore[no-untyped-def]
    return tuple(tensor.new_empty(tensor.shape) for tensor in (s, v, m0, u0, w0))
